"""How high in the brain each slice lies, on one scale for all brains of a set.

No template is asked: the height is the linear function of the image that grows by one from each slice of a brain to the
next, fitted to all brains at once. It goes on in a straight line where slices are missing, also where they are missing in
every brain. Which end of a brain is up follows from the long axis of the whole set, as the slices' neighbour graph
shows it (geodesic distances, as in Isomap; Tenenbaum et al., 2000).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mriscope.audit.similarity import SIDE, unit

if TYPE_CHECKING:
    from torch import Tensor

_DIRECTIONS, _LONG_AXIS = (8, 64), 16  # principal components for heights, and for the neighbour graph
_GROUPS_PER_DIRECTION = 3  # more directions would fit what is peculiar to the single brain
_ORDERED, _GROUPS = 3, 4  # slices of a group, and groups, that it takes to tell a direction
_ROUNDS, _RIDGE = 4, 1e-3
_LEAST, _UNREGISTERED, _CAUTION = 1.5, 4.0, 1.5  # margins in steps, and what is seen within brains times this
_REGISTERED = 4.0  # steps; brains that lie differently in the picture disagree by more
_REFERENCES, _ALIKE = 6000, 15
_LANDMARKS, _NEAR = 1500, 8
_BLOCK = 1024  # slices
_LONGEST = 1000  # slices of a group that are put in order by their graph; more are ordered by height alone


@dataclass(frozen=True, eq=False)
class Heights:
    """Heights of slices.

    Args:
        values: float64 (N,), in steps between neighbouring slices of a brain, growing towards the crown as far as pixels
            tell; nan where no group tells a direction.
        margin: how far two slices of a brain may lie the wrong way round, in steps, in all but one of a hundred brains.
    """

    values: np.ndarray
    margin: float


def measure_heights(images: np.ndarray, rows: "Tensor", groups: np.ndarray, areas: np.ndarray) -> Heights:
    """Measure the height of every slice.

    Args:
        images: uint8 (N, H, W).
        rows: float32 (N, D), `standardised` slices.
        groups: int64 (N,), slices known to be of one brain.
        areas: float64 (N,), share of each slice that is brain, which falls towards the crown.
    """
    import torch

    members = [one for one in _members(groups) if len(one) >= _ORDERED]
    if len(members) < _GROUPS:
        return Heights(np.full(len(rows), np.nan), np.inf)
    orders = [one[seriate(rows[one])] if len(one) <= _LONGEST else one for one in members]
    found, disagreement, least = *_fit(rows, orders, groups), _LEAST
    if disagreement > _REGISTERED:
        found, _ = _fit(_aligned(images, groups), orders, groups)
        least = _UNREGISTERED
    rising = sum(trend(areas[one[np.argsort(found[one])]]) for one in members)
    back = [(np.maximum.accumulate(found[one]) - found[one]).max() for one in map(_upwards(found), orders)]
    margin = max(least, _CAUTION * float(np.quantile(back, 0.99)))
    return Heights(-found if rising > 0 else found, margin)


def _fit(rows: "Tensor", orders: list[np.ndarray], groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Heights, float64 (N,), and by how many steps brains disagree on them."""
    import torch

    centred = (rows - rows.mean(0)).double()
    directions = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, : _DIRECTIONS[1]]
    features = (centred @ directions).cpu().numpy()
    fitted = features[:, : int(np.clip(len(orders) // _GROUPS_PER_DIRECTION, *_DIRECTIONS))]
    heights = _along_the_long_axis(features[:, :_LONG_AXIS])
    for _ in range(_ROUNDS):
        orders = [*map(_upwards(heights), orders)]
        heights = fitted @ _one_step_a_slice(fitted, orders)
    alike = _alike_in_other_groups(features, groups)
    means = heights[alike].mean(axis=1)
    return means[alike].mean(axis=1), float(np.std(heights - means))


def _upwards(heights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda order: order if trend(heights[order]) >= 0 else order[::-1]


def _alike_in_other_groups(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Of each slice those most like it in other groups, int64 (N, 15): other brains at its height."""
    import torch

    values, group = torch.from_numpy(features).float(), torch.from_numpy(groups)
    chosen = torch.arange(0, len(values), -(-len(values) // _REFERENCES))
    found = []
    for block, own in zip(values.split(_BLOCK), group.split(_BLOCK), strict=True):
        distance = torch.cdist(block, values[chosen]).masked_fill_(own[:, None] == group[chosen], torch.inf)
        found.append(chosen[distance.topk(min(_ALIKE, len(chosen)), largest=False).indices])
    return torch.cat(found).numpy()


def _one_step_a_slice(features: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """The linear function of the features, float64 (K,), that grows by one along most steps of the given orders."""
    steps = np.concatenate([np.diff(features[one], axis=0) for one in orders])
    spread = steps.T @ steps
    spread += _RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    direction = np.linalg.solve(spread, steps.sum(axis=0))
    return direction / np.median(steps @ direction)


def seriate(rows: "Tensor") -> np.ndarray:
    """Return the order of slices along a brain, by the Fiedler vector of their similarity (Atkins et al., 1998).

    Args:
        rows: float32 (N, D) at unit length.
    """
    if len(rows) < 3:
        return np.arange(len(rows))
    distance = (1 - (rows @ rows.T).double().cpu().numpy()).clip(1e-6)
    np.fill_diagonal(distance, np.inf)
    weight = np.exp(-distance / np.median(distance.min(axis=1)))
    return np.linalg.eigh(np.diag(weight.sum(axis=1)) - weight)[1][:, 1].argsort(kind="stable")


def trend(values: np.ndarray) -> float:
    """Return whether values rise along their order: their covariance with it."""
    return float((np.arange(len(values)) - (len(values) - 1) / 2) @ values)


def _members(groups: np.ndarray) -> list[np.ndarray]:
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])


def _aligned(images: np.ndarray, groups: np.ndarray) -> "Tensor":
    """Slices with the centre of the brain in the middle and the long axis of each group upright, as `standardised`.

    Brains that are not registered differ more by where they lie in the picture than by height.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

    size = 2 * SIDE
    blocks = range(0, len(images), _BLOCK)
    means = [torch.from_numpy(np.array(images[start : start + _BLOCK])).float() for start in blocks]
    pixels = torch.cat([adaptive_avg_pool2d(one[:, None], size) for one in means])
    bright = torch.quantile(pixels[:: max(1, len(pixels) // 1000)].flatten()[::7], 0.9)
    weight = (pixels[:, 0] > 0.2 * bright).float()
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1)
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    centre_x, centre_y = (weight.sum(1) * axis).sum(1), (weight.sum(2) * axis).sum(1)
    x, y = axis - centre_x[:, None], axis - centre_y[:, None]
    moments = [torch.einsum("nyx,nx,ny->n", weight, *one) for one in ((x * x, y * 0 + 1), (x * 0 + 1, y * y), (x, y))]
    of_group = [torch.zeros(int(groups.max()) + 1).index_add_(0, torch.from_numpy(groups), one) for one in moments]
    tilt = torch.atan2(-2 * of_group[2], of_group[1] - of_group[0])[groups] / 2  # of the long axis from upright
    turn = torch.stack([tilt.cos(), -tilt.sin(), centre_x, tilt.sin(), tilt.cos(), centre_y], dim=1).view(-1, 2, 3)
    shape = [len(pixels), 1, SIDE, SIDE]
    turned = grid_sample(pixels, affine_grid(turn, shape, align_corners=False), align_corners=False).flatten(1)
    return unit(turned - turned.mean(1, keepdim=True))


def _along_the_long_axis(features: np.ndarray) -> np.ndarray:
    """A coordinate that grows from one end of the set to the other, float64 (N,)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    chosen = np.arange(0, len(features), -(-len(features) // _LANDMARKS))
    landmarks = features[chosen]
    distance = cdist(landmarks, landmarks) + 1e-9
    near = distance <= np.sort(distance, axis=1)[:, [min(_NEAR, len(chosen) - 1)]]
    tree = minimum_spanning_tree(csr_matrix(distance)).toarray() > 0  # one piece, also across holes in every brain
    graph = csr_matrix(distance * (near | near.T | tree | tree.T))
    one_end = int(dijkstra(graph, indices=0).argmax())
    from_one = dijkstra(graph, indices=one_end)
    from_other = dijkstra(graph, indices=int(from_one.argmax()))
    nearest = KDTree(landmarks).query(features, k=min(5, len(chosen)))[1].reshape(len(features), -1)
    return (from_one - from_other)[nearest].mean(axis=1)
