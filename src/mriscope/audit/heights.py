"""How high in the brain each slice lies, on one scale for all brains of a set.

No template is needed: the height is the linear function of the image that grows by one from each slice of a brain to
the next, fitted to all brains at once, and averaged over the most similar slices of other brains. It goes on in a
straight line where slices are missing, also where every brain lacks them. Which end of a brain is up follows from the
long axis of the whole set, in geodesic distances over the slices' neighbour graph (Isomap; Tenenbaum et al., 2000).
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
_ORDERED, _GROUPS, _SHARE = 3, 6, 0.2  # slices of a group, groups, and their share of the set, that tell a direction
_ROUNDS, _RIDGE = 4, 1e-3
_FEW_BRAINS, _UNSURE = 150, 6.0  # heights rest on the mean of the brains: few of them leave more steps in doubt
_LEAST, _UNREGISTERED, _CAUTION = 1.5, 4.0, 1.5  # margins in steps, and what is seen within brains times this
_REGISTERED = 4.0  # steps; brains that lie differently in the picture disagree, or are out of order, by more
_REFERENCES, _ALIKE, _AGREED = 6000, 15, 30
_LANDMARKS, _NEAR = 1500, 8
_BLOCK = 1024  # slices
_GROUPS_BESIDE, _SPAN = 100, (3, 6)  # reference groups; steps over which groups beside each other are alike
_LONGEST = 1000  # slices of a group that are put in order by their graph; more are ordered by height alone


@dataclass(frozen=True, eq=False)
class Heights:
    """Heights of slices.

    Args:
        values: float64 (N,), in steps between neighbouring slices of a brain, growing towards the crown as far as
            pixels tell; nan where no group tells a direction.
        margin: how far two slices of a brain may lie the wrong way round, in steps.
        beside: bool (N, R), whether the group of a slice lies beside each of some reference groups: they are alike
            over several steps. Heights of groups beside no common ones cannot be compared; None: all can.
    """

    values: np.ndarray
    margin: float
    beside: np.ndarray | None = None


def measure_heights(images: np.ndarray, rows: "Tensor", groups: np.ndarray, areas: np.ndarray) -> Heights:
    """Measure the height of every slice.

    Args:
        images: uint8 (N, H, W).
        rows: float32 (N, D), `standardised` slices.
        groups: int64 (N,), slices known to be of one brain.
        areas: float64 (N,), share of each slice that is brain, which falls towards the crown.
    """
    members = [one for one in _members(groups) if len(one) >= _ORDERED]
    if len(members) < _GROUPS or sum(map(len, members)) < _SHARE * len(rows):
        return Heights(np.full(len(rows), np.nan), np.inf, np.zeros((len(rows), 0), bool))
    orders = seriate(rows, members)
    found, disagreement = _fit(rows, orders, groups)
    least = max(_LEAST, min(_FEW_BRAINS / len(orders), _UNSURE))
    margin = max(least, _CAUTION * _out_of_order(found, orders))
    found, compared = _along(found, orders), rows
    if max(disagreement, margin) > _REGISTERED:
        compared = _aligned(images, groups)
        found, margin = _by_order(compared, orders, groups, found), max(least, _UNREGISTERED)
    known = [one for one in members if np.isfinite(found[one]).all()]
    rising = sum(trend(areas[one[np.argsort(found[one])]]) for one in known)
    return Heights(-found if rising > 0 else found, margin, _beside(compared, groups, orders))


def _by_order(rows: "Tensor", orders: list[np.ndarray], groups: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Heights by the order within each group, moved so that groups agree on slices that resemble each other.

    Brains that lie differently in the picture have no one function of the image that tells the height. nan where a
    group resembles others too little to be compared: in slices of no group, and where not one brain links two families
    of groups that show different parts of the brain.

    Args:
        rows: float32 (N, D), aligned slices.
        orders: rows of each group, in order.
        groups: int64 (N,).
        directions: float64 (N,), heights that tell which end of an order is up.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    place, count = np.full(len(groups), np.nan), int(groups.max()) + 1
    for order in map(_upwards(directions), orders):
        place[order] = np.arange(len(order)) - (len(order) - 1) / 2
    features = _components(rows, _DIRECTIONS[1])
    ordered = np.flatnonzero(np.isfinite(place))
    alike = ordered[_alike_in_other_groups(features[ordered], groups[ordered])]
    here = np.repeat(ordered, alike.shape[1])
    apart = place[alike.ravel()] - place[here]
    mine, theirs = groups[here], groups[alike.ravel()]
    shift = np.zeros(count)
    for _ in range(_AGREED):
        shift += (_median_of(apart + shift[theirs] - shift[mine], mine, count)) / 2
    meetings = csr_matrix((np.ones(len(mine)), (mine, theirs)), shape=(count, count))
    often = meetings.multiply(meetings.T) > 1
    family = connected_components(often, directed=False)[1]
    largest = np.bincount(family[groups[ordered]]).argmax()
    return np.where(family[groups] == largest, place + shift[groups], np.nan)


def _median_of(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The median of each group's values, float64 (count,); 0 where it has none."""
    order = np.lexsort((values, groups))
    found, start, size = np.unique(groups[order], return_index=True, return_counts=True)
    out = np.zeros(count)
    out[found] = values[order[start + size // 2]]
    return out


def _beside(rows: "Tensor", groups: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """Whether each slice's group lies beside each reference group, bool (N, R).

    Two groups do where slices of both, several steps apart, are among the most similar of all references. Groups that
    meet end to end, across slices that every brain lacks, resemble each other at their ends alone.
    """
    import torch

    long_ones = sorted(orders, key=len)[::-1][: _GROUPS_BESIDE * 3]
    chosen = [
        long_ones[at] for at in np.linspace(0, len(long_ones) - 1, min(_GROUPS_BESIDE, len(long_ones))).astype(int)
    ]
    rank = np.full(len(groups), -1)
    for order in orders:
        rank[order] = np.arange(len(order))
    references, number = np.concatenate(chosen), np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
    features = torch.from_numpy(_components(rows, 2 * _LONG_AXIS)).float()
    spans = np.zeros((int(groups.max()) + 1, len(chosen), 4), np.int32)  # lowest and highest place, here and there
    spans[..., ::2], spans[..., 1::2] = np.iinfo(np.int32).max, -1
    for start in range(0, len(groups), _BLOCK):
        own = groups[start : start + _BLOCK]
        distance = torch.cdist(features[start : start + _BLOCK], features[references])
        distance[torch.from_numpy(own[:, None] == groups[references])] = torch.inf
        near = distance.topk(min(max(3 * len(chosen), 120), len(references)), largest=False).indices.numpy()
        pair = np.repeat(own, near.shape[1]), number[near.ravel()]
        here, there = np.repeat(rank[start : start + _BLOCK], near.shape[1]), rank[references][near.ravel()]
        for first, values in ((0, here), (2, there)):
            np.minimum.at(spans[..., first], pair, values)
            np.maximum.at(spans[..., first + 1], pair, values)
    sizes = np.bincount(groups)[:, None], np.array([len(one) for one in chosen])
    here, there = (
        spans[..., last] - spans[..., last - 1] >= np.clip(size - 1, *_SPAN)
        for last, size in zip((1, 3), sizes, strict=True)
    )
    beside, short = here & there, sizes[0][:, 0] <= _SPAN[0]
    inner = (spans[..., 2] >= 2) & (spans[..., 3] <= sizes[1] - 3) & (spans[..., 3] >= 0)
    beside[short] = inner[short]  # too few slices for a span: in the middle of the other
    beside[groups[[one[0] for one in chosen]], np.arange(len(chosen))] = True
    return beside[groups]


def _out_of_order(heights: np.ndarray, orders: list[np.ndarray]) -> float:
    """How far slices of a brain lie the wrong way round, in steps, in all but one of a hundred brains."""
    upwards = (heights[one] for one in map(_upwards(heights), orders))
    return float(np.quantile([(np.maximum.accumulate(one) - one).max() for one in upwards], 0.99))


def _fit(rows: "Tensor", orders: list[np.ndarray], groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Heights, float64 (N,), and by how many steps brains disagree on them."""
    features = _components(rows, _DIRECTIONS[1])
    fitted = features[:, : int(np.clip(len(orders) // _GROUPS_PER_DIRECTION, *_DIRECTIONS))]
    heights = _along_the_long_axis(features[:, :_LONG_AXIS])
    for _ in range(_ROUNDS):
        orders = [*map(_upwards(heights), orders)]
        heights = fitted @ _one_step_a_slice(fitted, orders)
    alike = _alike_in_other_groups(features, groups)
    means = heights[alike].mean(axis=1)
    return means[alike].mean(axis=1), float(np.std(heights - means))


def _along(heights: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """Heights in which no single slice stands out from those beside it in its brain: medians of five in a row."""
    out = heights.copy()
    for order in orders:
        own = heights[order]
        place = np.arange(len(order))
        near = place[:, None] + np.arange(-2, 3)
        inside = (near >= 0) & (near < len(order))
        step = np.median(np.diff(own))
        said = own[near.clip(0, len(order) - 1)] + (place[:, None] - near) * step
        out[order] = np.nanmedian(np.where(inside, said, np.nan), axis=1)
    return out


def _components(rows: "Tensor", count: int) -> np.ndarray:
    """The first principal components of rows, float64 (N, count)."""
    import torch

    centred = rows - rows.mean(0)
    spread = sum(
        (block.T.double() @ block.double() for block in centred.split(_BLOCK)), torch.zeros((), device=rows.device)
    )
    return (centred @ torch.linalg.eigh(spread)[1].flip(1)[:, :count].to(rows.dtype)).double().cpu().numpy()


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


def seriate(rows: "Tensor", groups: list[np.ndarray]) -> list[np.ndarray]:
    """Return the rows of each group in their order along the brain, which may begin at either end.

    It is that of the Fiedler vector of their similarity (Atkins et al., 1998); a group of more than 1,000 slices keeps
    the order it has.

    Args:
        rows: float32 (N, D) at unit length.
        groups: int64 numbers of rows.
    """
    from threadpoolctl import threadpool_limits

    everyone = rows.cpu().numpy()
    with threadpool_limits(1):  # matrices so small cost more to share out than to solve
        return [one[_fiedler_order(everyone[one])] if 2 < len(one) <= _LONGEST else one for one in groups]


def _fiedler_order(rows: np.ndarray) -> np.ndarray:
    distance = (1 - (rows @ rows.T).astype(np.float64)).clip(1e-6)
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

    blocks = [slice(start, start + _BLOCK) for start in range(0, len(images), _BLOCK)]
    few = _small(images[:: max(1, len(images) // 1000)])
    bright = 0.2 * float(np.percentile(few[:, ::2, ::2].numpy(), 90))
    centres, moments = zip(*(_moments(_small(images[block]) > bright) for block in blocks), strict=True)
    centre, group = torch.cat(centres), torch.from_numpy(groups)
    spread = torch.zeros(int(groups.max()) + 1, 3).index_add_(0, group, torch.cat(moments))
    tilt = torch.atan2(-2 * spread[:, 2], spread[:, 1] - spread[:, 0])[group] / 2  # of the long axis from upright
    rows = [_turned(_small(images[block]), centre[block], tilt[block]) for block in blocks]
    return torch.cat(rows)


def _small(images: np.ndarray) -> "Tensor":
    """Block means, float32 (B, 64, 64)."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(torch.from_numpy(np.array(images)).float()[:, None], 2 * SIDE)[:, 0]


def _moments(brain: "Tensor") -> "tuple[Tensor, Tensor]":
    """The centre of each mask, float32 (B, 2), x before y in [-1, 1], and its moments xx, yy and xy, (B, 3)."""
    import torch

    weight = brain / brain.sum((1, 2), keepdim=True).clamp_min(1)
    axis = (torch.arange(brain.shape[1]) + 0.5) * 2 / brain.shape[1] - 1
    centre = torch.stack([(weight.sum(1) * axis).sum(1), (weight.sum(2) * axis).sum(1)], dim=1)
    x, y = axis - centre[:, :1], axis - centre[:, 1:]
    across = (weight.sum(1) * x * x).sum(1), (weight.sum(2) * y * y).sum(1)
    return centre, torch.stack([*across, torch.einsum("nyx,nx,ny->n", weight, x, y)], dim=1)


def _turned(pixels: "Tensor", centre: "Tensor", tilt: "Tensor") -> "Tensor":
    """Images moved so that their centre is in the middle, and turned upright, as rows at unit length."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    cos, sin = tilt.cos(), tilt.sin()
    turn = torch.stack([cos, -sin, centre[:, 0], sin, cos, centre[:, 1]], dim=1).view(-1, 2, 3)
    grid = affine_grid(turn, [len(pixels), 1, SIDE, SIDE], align_corners=False)
    rows = grid_sample(pixels[:, None], grid, align_corners=False).flatten(1)
    return unit(rows - rows.mean(1, keepdim=True))


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
