"""How high in the brain each slice lies, on one scale for all brains of a set.

No template is needed: the height is the linear function of the image that grows by one from each slice of a brain to
the next, fitted to all brains at once, and averaged over the most similar slices of other brains. It goes on in a
straight line where slices are missing, also where every brain lacks them. Which end of a brain is up follows from the
long axis of the whole set, in geodesic distances over the slices' neighbour graph (Isomap; Tenenbaum et al., 2000).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mriscope.audit.alignment import aligned, displacement

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

_DIRECTIONS, _LONG_AXIS = (8, 64), 16  # principal components for heights, and for the neighbour graph
_GROUPS_PER_DIRECTION = 3  # more directions would fit what is peculiar to the single brain
_ORDERED, _GROUPS, _SHARE = 3, 6, 0.2  # slices of a group, groups, and their share of the set, that tell a direction
_ROUNDS, _RIDGE = 4, 1e-3
_FEW_BRAINS, _UNSURE = 150, 6.0  # heights rest on the mean of the brains: few of them leave more steps in doubt
_LEAST, _ORDER_MARGIN, _CAUTION = 1.5, 4.0, 1.5  # margins in steps, and what is seen within brains times this
_REFERENCES, _ALIKE, _AGREED = 6000, 15, 20
_LANDMARKS, _NEAR = 1500, 8
_AGREE = 1.0  # steps, beside the margin, within which heights of similar slices agree
_DISPLACED = 0.02  # of the width: 0.001 to 0.002 in registered brains, 0.01 in the phantom's
_LEAST_GAP, _BEYOND = 1.0, 20.0  # steps between the ends of families on one scale, and between scales
_BLOCK = 1024  # slices
_HITS, _CLEAR, _GROUPS_BESIDE = (8, 100), 0.9, 3  # similar slices; their share, and groups, that make a family
_CUT, _CUT_ORDER, _CUT_ALIGNED = (
    0.12,
    0.15,
    0.03,
)  # least conductance of a family: without holes 0.14 and more, aligned 0.04 and more
_NEAR_BY, _TOLD = 3.0, 0.87  # steps; their share is 0.88 and more where heights are right, else 0.86 at most
_COPY = 0.05  # of the largest distance of a slice to the next: what is nearer is its copy
_LONGEST = 1000  # slices of a group that are put in order by their graph; more are ordered by height alone


@dataclass(frozen=True, eq=False)
class Heights:
    """Heights of slices.

    Args:
        values: float64 (N,), in steps between neighbouring slices of a brain, growing towards the crown as far as
            pixels tell; nan where no group tells a direction.
        margin: how far two slices of a brain may lie the wrong way round, in steps.
        families: int64 (N,), which heights can be compared: those of one family. -1: with no others.
    """

    values: np.ndarray
    margin: float
    families: np.ndarray


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
        return Heights(np.full(len(rows), np.nan), np.inf, np.full(len(rows), -1))
    orders = seriate(rows, members)
    features = _components(rows, _DIRECTIONS[1])
    found, disagreement = _fit(features, orders, groups)
    least = max(_LEAST, min(_FEW_BRAINS / len(orders), _UNSURE))
    margin = max(least, _CAUTION * _out_of_order(found, orders), _CAUTION * disagreement)
    found, compared, cut = _along(found, orders), rows, _CUT
    if displacement(images, members) > _DISPLACED:
        compared, cut = aligned(images, groups), _CUT_ALIGNED
    elif margin > _ORDER_MARGIN:
        cut = _CUT_ORDER
    if compared is not rows:
        features = _components(compared, _DIRECTIONS[1])
    if cut != _CUT:
        found, margin = _by_order(compared, features, orders, groups, found), max(least, _ORDER_MARGIN)
    if _agreement(features, found, orders, groups) < _TOLD:
        margin = np.inf
    known = [one for one in members if np.isfinite(found[one]).all()]
    rising = sum(trend(areas[one[np.argsort(found[one])]]) for one in known)
    found = -found if rising > 0 else found
    families = _families(features, Heights(found, margin, groups), orders, cut)
    return Heights(_put_apart(found, families, known), margin, families)


def _agreement(components: np.ndarray, heights: np.ndarray, orders: list[np.ndarray], groups: np.ndarray) -> float:
    """Return the median over brains of the share of most similar slices that lie near in height.

    Where brains differ more by shape than by height, a slice resembles those at other heights of brains as large as it
    is there, and no height can be told from likeness.
    """
    ordered = np.concatenate(orders)
    features = components[ordered]
    apart = heights[ordered][_alike_in_other_groups(features, groups[ordered])] - heights[ordered][:, None]
    near, numbers = (np.abs(apart) <= _NEAR_BY).mean(axis=1), np.unique(groups[ordered], return_inverse=True)[1]
    return float(np.median(np.bincount(numbers, near) / np.bincount(numbers)))


def _put_apart(heights: np.ndarray, families: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Move families that lie side by side on the scale beyond the reach of every comparison; return the heights.

    Groups of two families show different parts of the brain. Where their heights overlap all the same, the fit did not
    go on across what lies between, and nothing is known of how far apart, and which way up, they are.
    """
    ends = {
        one: np.median([np.sort(heights[rows])[[0, -1]] for rows in members if families[rows[0]] == one], axis=0)
        for one in np.unique([families[rows[0]] for rows in members])
        if one >= 0
    }
    out, above, top = heights.copy(), 0.0, -np.inf
    for one in sorted(ends, key=lambda family: ends[family].sum()):
        if ends[one][0] < top + _LEAST_GAP:
            above += float(np.ptp(heights[np.isfinite(heights)])) + _BEYOND
        top = max(top, ends[one][1])
        out[families == one] += above
    return out


def _by_order(
    rows: "Tensor", features: np.ndarray, orders: list[np.ndarray], groups: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Return heights by the order within each group, moved so that groups agree on slices that resemble each other.

    Brains that lie differently in the picture have no one function of the image that tells the height. nan in slices
    of no group.

    Args:
        rows: float32 (N, D), aligned slices.
        features: float64 (N, 64), their principal components.
        orders: rows of each group, in order.
        groups: int64 (N,).
        directions: float64 (N,), heights that tell which end of an order is up.
    """
    place, count = np.full(len(groups), np.nan), int(groups.max()) + 1
    for order in map(_upwards(directions), orders):
        own = rows[order.copy()]
        step = 1 - (own[1:] * own[:-1]).sum(1).cpu().numpy()
        place[order] = np.append(0, (step > _COPY * step.max()).cumsum())  # a copy is no step
    ordered = np.flatnonzero(np.isfinite(place))
    alike = ordered[_alike_in_other_groups(features[ordered], groups[ordered])]
    here = np.repeat(ordered, alike.shape[1])
    apart = place[alike.ravel()] - place[here]
    edges, pair = np.unique(groups[here] * count + groups[alike.ravel()], return_inverse=True)
    return (
        place + _shifts(np.divmod(edges, count), _median_of(apart, pair, len(edges)), np.bincount(pair), count)[groups]
    )


def _shifts(pairs: tuple[np.ndarray, np.ndarray], apart: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Solve for the shifts of groups that fit the pairs with the least sum of absolute residuals, float64 (G,).

    All shifts are found at once, by reweighted least squares: were each moved by the median of its own pairs, many
    pieces that agree with each other would not follow the few whole brains that tell where they lie.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import cg

    (mine, theirs), shift = pairs, np.zeros(count)
    for _ in range(_AGREED):
        strength = weight / np.maximum(np.abs(shift[mine] - shift[theirs] - apart), _LEAST_GAP)
        edges = csr_matrix((strength, (mine, theirs)), (count, count))
        edges = edges + edges.T
        pull = csr_matrix((strength * apart, (mine, theirs)), (count, count))
        degree = np.asarray(edges.sum(axis=1)).ravel()
        laplacian = diags(degree + 1e-6 * degree.mean()) - edges
        shift = cg(laplacian, np.asarray((pull - pull.T).sum(axis=1)).ravel(), shift, rtol=1e-6)[0]
    return shift


def _median_of(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the median of each group's values, float64 (count,); 0 for a group without values."""
    order = np.lexsort((values, groups))
    found, start, size = np.unique(groups[order], return_index=True, return_counts=True)
    out = np.zeros(count)
    out[found] = values[order[start + size // 2]]
    return out


def _families(features: np.ndarray, heights: Heights, orders: list[np.ndarray], least: float) -> np.ndarray:
    """Label the families of groups that show one part of the brain, int64 (N,); -1 for slices between families.

    Pieces below and above slices that every brain lacks are not alike: few of the slices that are most similar to one
    lie in another family. The graph of groups is cut in two wherever the conductance of a cut (Shi and Malik, 2000, by
    the Fiedler vector) is less than `least`. Similar slices count where their heights agree, so that heights at which
    brains were put wrongly connect nothing.

    Args:
        features: float64 (N, 64), principal components of the slices.
        heights: of the slices, whose families are the groups.
        orders: rows of each group.
        least: conductance of a cut through one family.
    """
    from scipy.sparse import csr_matrix

    groups, ordered = heights.families, np.sort(np.concatenate(orders))
    chosen = ordered[:: -(-len(ordered) // _REFERENCES)]
    count = int(np.clip(len(chosen) * len(orders) / len(ordered) / 2, *_HITS))
    alike = _alike_in_other_groups(features, groups, chosen, count)
    numbers, size = np.unique(groups[ordered]), int(groups.max()) + 1
    agree = np.abs(heights.values[alike] - heights.values[:, None]) <= heights.margin + _AGREE
    pairs = np.repeat(groups, alike.shape[1]), groups[alike].ravel()
    hits = csr_matrix((agree.ravel().astype(float), pairs), (size, size))
    mutual = hits + hits.T
    numbers = numbers[np.asarray(mutual[numbers][:, numbers].sum(axis=1)).ravel() > 0]
    whole, family, found = mutual[numbers][:, numbers], np.full(size, -1), 0
    waiting = [np.arange(len(numbers))]
    while waiting:
        some = waiting.pop()
        conductance, side = _best_cut(whole[some][:, some])
        if conductance < least:
            waiting += [some[side], some[~side]]
        else:
            family[numbers[some]], found = found, found + 1
    member = np.zeros((size, found))
    member[numbers, family[numbers]] = 1
    shares = hits @ member
    few = family < 0
    clear = shares.max(axis=1) >= _CLEAR * shares.sum(axis=1)
    family[few] = np.where(clear, shares.argmax(axis=1), -1)[few]
    return family[groups]


def _best_cut(weight: "csr_matrix") -> tuple[float, np.ndarray]:
    """Find the cut of least conductance along the Fiedler vector; return its conductance and its sides, bool (G,)."""
    from scipy.sparse import diags
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import eigsh

    degree = np.asarray(weight.sum(axis=1)).ravel()
    count = len(degree)
    if count < 2 * _GROUPS_BESIDE:
        return np.inf, np.zeros(count, bool)
    parts = connected_components(weight, directed=False)[1]
    largest = parts == np.bincount(parts).argmax()
    if not largest.all():
        return 0.0, largest
    root = 1 / np.sqrt(degree)
    scaled = diags(root) @ weight @ diags(root) + diags(np.ones(count))  # eigenvalues in 0..2, the largest sought
    options: dict[str, Any] = {"k": 2, "v0": np.sqrt(degree) + np.arange(count) / count, "tol": 1e-6}
    vectors = np.asarray(eigsh(scaled, **options)[1])
    order = np.argsort(vectors[:, 0] * root, kind="stable")
    sorted_, volume = weight[order][:, order].tocoo(), degree[order].cumsum()
    crossing = np.zeros(count + 1)  # an entry crosses the cuts between its two places
    np.add.at(crossing, np.minimum(sorted_.row, sorted_.col), sorted_.data)
    np.add.at(crossing, np.maximum(sorted_.row, sorted_.col), -sorted_.data)
    crossing = crossing.cumsum()[: count - 1] / 2
    conductance = crossing / np.minimum(volume[:-1], volume[-1] - volume[:-1])
    conductance[: _GROUPS_BESIDE - 1] = conductance[count - _GROUPS_BESIDE :] = np.inf
    side, best = np.zeros(count, bool), int(conductance.argmin())
    side[order[: best + 1]] = True
    return float(conductance[best]), side


def _out_of_order(heights: np.ndarray, orders: list[np.ndarray]) -> float:
    """Return how far slices of a brain lie in the wrong order, in steps: the 99th percentile over brains."""
    upwards = (heights[one] for one in map(_upwards(heights), orders))
    return float(np.quantile([(np.maximum.accumulate(one) - one).max() for one in upwards], 0.99))


def _fit(features: np.ndarray, orders: list[np.ndarray], groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit heights by one linear function of the components, float64 (N,), and say how far brains disagree on them."""
    fitted = features[:, : int(np.clip(len(orders) // _GROUPS_PER_DIRECTION, *_DIRECTIONS))]
    heights = _along_the_long_axis(features[:, :_LONG_AXIS])
    for _ in range(_ROUNDS):
        orders = [*map(_upwards(heights), orders)]
        heights = fitted @ _one_step_a_slice(fitted, orders)
    alike = _alike_in_other_groups(features, groups)
    means = heights[alike].mean(axis=1)
    return means[alike].mean(axis=1), float(np.std(heights - means))


def _along(heights: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """Smooth heights within each brain, so that no single slice stands out: medians of five in a row."""
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
    """Return the first principal components of rows, float64 (N, count)."""
    import torch
    from scipy.linalg import eigh

    centred = rows - rows.mean(0)
    blocks = map(torch.Tensor.double, centred.split(_BLOCK))
    spread = sum((block.T @ block for block in blocks), torch.zeros((), device=rows.device)).cpu().numpy()
    last = len(spread) - 1
    directions = eigh(spread, subset_by_index=[max(0, last - count + 1), last])[1][:, ::-1]  # the few that are wanted
    return (centred @ torch.from_numpy(directions.copy()).to(rows)).double().cpu().numpy()


def _upwards(heights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda order: order if trend(heights[order]) >= 0 else order[::-1]


def _alike_in_other_groups(
    features: np.ndarray, groups: np.ndarray, among: np.ndarray | None = None, count: int = _ALIKE
) -> np.ndarray:
    """Find the slices of other groups most similar to each slice, int64 (N, count): other brains at its height."""
    import torch

    values, group = torch.from_numpy(features).float(), torch.from_numpy(groups)
    chosen = torch.arange(0, len(values), -(-len(values) // _REFERENCES)) if among is None else torch.from_numpy(among)
    found = []
    for block, own in zip(values.split(_BLOCK), group.split(_BLOCK), strict=True):
        distance = torch.cdist(block, values[chosen]).masked_fill_(own[:, None] == group[chosen], torch.inf)
        found.append(chosen[distance.topk(min(count, len(chosen)), largest=False).indices])
    return torch.cat(found).numpy()


def _one_step_a_slice(features: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """Fit a linear function of the features, float64 (K,), that grows by one along most steps of the given orders."""
    steps = np.concatenate([np.diff(features[one], axis=0) for one in orders])
    length = np.linalg.norm(steps, axis=1)
    steps = steps[length > _COPY * np.median(length[length > 0])]  # a copy is no step
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
    nearest = distance.min(axis=1)
    weight = np.exp(-distance / np.median(nearest[nearest >= _COPY * nearest.max()]))
    return np.linalg.eigh(np.diag(weight.sum(axis=1)) - weight)[1][:, 1].argsort(kind="stable")


def trend(values: np.ndarray) -> float:
    """Return whether values rise along their order: their covariance with it."""
    return float((np.arange(len(values)) - (len(values) - 1) / 2) @ values)


def _members(groups: np.ndarray) -> list[np.ndarray]:
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])


def _along_the_long_axis(features: np.ndarray) -> np.ndarray:
    """Compute a coordinate that grows from one end of the set to the other, float64 (N,)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    chosen = np.arange(0, len(features), -(-len(features) // _LANDMARKS))
    landmarks = features[chosen]
    distance = cdist(landmarks, landmarks) + 1e-9
    near = distance <= np.sort(distance, axis=1)[:, [min(_NEAR, len(chosen) - 1)]]
    edges = csr_matrix(np.triu(distance))  # each once
    tree = minimum_spanning_tree(edges).toarray() > 0  # one piece, also across holes in every brain
    graph = csr_matrix(distance * (near | near.T | tree | tree.T))
    one_end = int(dijkstra(graph, indices=0).argmax())
    from_one = dijkstra(graph, indices=one_end)
    from_other = dijkstra(graph, indices=int(from_one.argmax()))
    nearest = KDTree(landmarks).query(features, k=min(5, len(chosen)))[1].reshape(len(features), -1)
    return (from_one - from_other)[nearest].mean(axis=1)
