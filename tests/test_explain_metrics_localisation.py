"""mriscope.explain.metrics.localisation: maps against masks, against the brain and against each other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import spearmanr
from torch import Tensor

from mriscope.data.phantom import Phantom, make_phantom
from mriscope.data.readers import read
from mriscope.errors import MriscopeError
from mriscope.explain.metrics.localisation import (
    agreement,
    best_iou,
    brain_mask,
    energy_inside,
    outside_share,
    pixel_auroc,
    pointing_game,
    region_ratio,
)

LEFT = torch.tensor([[True, False], [True, False]])


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(6, 8, seed=2, size=96)


def one(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("values", "points", "energy", "iou"),
    [
        ((1.0, 0.5, 0.2, 0.3), 1, 0.6, 2 / 4),  # above 0.2 all is taken; the highest alone has 1 of 2 as well
        ((0.0, 1.0, 0.0, 1.0), 0, 0, 2 / 4),
        ((1.0, 0.0, 0.5, 0.0), 1, 1, 1),
        ((1.0, 1.0, 0.0, 0.0), 0.5, 0.5, 2 / 4),  # two are highest, one of them inside
        ((0.8, 0.9, 1.0, 0.1), 1, 1.8 / 2.8, 2 / 3),
        ((0.0, 0.0, 0.0, 0.0), 0, 0, 0),
        ((0.4, 0.4, 0.4, 0.4), 0, 0, 0),
    ],
)
def test_maps_worked_out_by_hand(values: tuple[float, ...], points: float, energy: float, iou: float) -> None:
    maps, masks = one(*values), LEFT[None]
    assert pointing_game(maps, masks).tolist() == pytest.approx([points])
    assert energy_inside(maps, masks).tolist() == pytest.approx([energy])
    assert best_iou(maps, masks).tolist() == pytest.approx([iou])


@pytest.mark.parametrize("score", [pointing_game, energy_inside, best_iou])
def test_an_empty_mask_has_no_score_and_volumes_have_one(score: Callable[[Tensor, Tensor], Tensor]) -> None:
    maps = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    masks = maps > 0.7
    masks[1] = False
    found = score(maps, masks)
    assert found.dtype == torch.float32
    assert found.isnan().tolist() == [False, True, False]
    assert found[[0, 2]].tolist() == pytest.approx(
        score(maps[[0, 2]].reshape(2, 4, 30), masks[[0, 2]].reshape(2, 4, 30))
    )
    assert score(masks.float(), masks)[0] == 1  # the truth itself


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.integers(2, 9))
def test_the_best_threshold_is_the_best_of_all(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    maps, mask = random.integers(levels, size=(1, 5, 6)) / levels, random.random((1, 5, 6)) < 0.4
    if not mask.any() or np.ptp(maps) == 0:
        return
    tried = [((maps >= cut) & mask).sum() / ((maps >= cut) | mask).sum() for cut in np.unique(maps)]
    assert best_iou(torch.from_numpy(maps), torch.from_numpy(mask)).item() == pytest.approx(max(tried))


def test_the_brain_is_all_that_the_phantom_drew(phantom: Phantom) -> None:
    images = phantom.slices.images
    drawn = np.array([ndimage.binary_fill_holes(pixels > 0) for pixels in images])
    found = brain_mask(images)
    assert found.shape == images.shape
    assert (found & drawn).sum((1, 2)) == pytest.approx((found | drawn).sum((1, 2)), rel=0.03)
    assert found[phantom.masks].mean() > 0.999  # disease lies within


def test_noise_and_specks_are_no_brain_and_fluid_is(phantom: Phantom) -> None:
    images = phantom.slices.images
    noisy = images + np.random.default_rng(0).integers(0, 12, images.shape).astype(np.uint8) * (images < 200)
    noisy[:, 2:6, 2:6] = 255
    assert (brain_mask(noisy) != brain_mask(images)).mean() < 0.01
    assert not brain_mask(noisy)[:, :8, :8].any()
    ring = np.zeros((1, 20, 20), np.uint8)
    ring[:, 4:16, 4:16], ring[:, 8:12, 8:12] = 200, 0
    assert brain_mask(ring).sum() == pytest.approx(144, abs=4)


def test_no_brain_in_black_slices() -> None:
    assert not brain_mask(np.zeros((2, 9, 9), np.uint8)).any()
    assert brain_mask(np.zeros((0, 9, 9), np.uint8)).shape == (0, 9, 9)
    speck = np.zeros((1, 9, 9), np.uint8)
    speck[0, 4, 4] = 9
    assert not brain_mask(speck).any()


def test_real_brains_fill_half_of_their_slices(real_slices_folder: Path) -> None:
    shares = brain_mask(read(real_slices_folder).images[::100]).mean((1, 2))
    assert ((shares > 0.35) & (shares < 0.65)).all()


def test_the_share_outside_the_brain(phantom: Phantom) -> None:
    images = phantom.slices.images[:3]
    brain = torch.from_numpy(brain_mask(images))
    assert outside_share(brain.float(), images).tolist() == [0, 0, 0]
    assert outside_share((~brain).float(), torch.from_numpy(images.copy())).tolist() == [1, 1, 1]
    mixed = outside_share(brain.float() + 3 * (~brain), images)
    outside = 3 * (~brain).sum((1, 2))
    torch.testing.assert_close(mixed, outside / (outside + brain.sum((1, 2))))
    assert outside_share(torch.zeros(brain.shape), images).isnan().all()  # 0 would make a silent method the best
    even = outside_share(torch.full(brain.shape, 0.5), images)
    torch.testing.assert_close(even, 1 - brain.float().mean((1, 2)))
    assert outside_share(torch.rand(brain.shape), np.zeros_like(images)).isnan().all()


def test_agreement_is_the_mean_rank_correlation() -> None:
    random = torch.Generator().manual_seed(1)
    maps = {name: torch.rand(4, 6, 6, generator=random).mul(5).round() / 5 for name in ("first", "second")}
    maps["opposite"] = 1 - maps["first"]
    names, matrix = agreement(maps)
    assert names == ["first", "second", "opposite"]
    pairs = zip(maps["first"].flatten(1), maps["second"].flatten(1), strict=True)
    each: list[Any] = [spearmanr(one, other)[0] for one, other in pairs]
    assert matrix[0].tolist() == pytest.approx([1, sum(each) / 4, -1])
    torch.testing.assert_close(matrix, matrix.T)


def test_agreement_leaves_out_maps_that_say_nothing() -> None:
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    silent = maps.clone()
    silent[1] = 0
    assert agreement({"a": maps, "b": silent})[1].tolist() == pytest.approx(np.ones((2, 2)))
    matrix = agreement({"a": maps, "zero": torch.zeros(3, 4, 4)})[1]
    assert matrix.diagonal().tolist() == [1, 1]
    assert matrix[0, 1].isnan()


MAP = torch.rand(1, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pointing_game(MAP, LEFT), "one mask for each map"),
        (lambda: energy_inside(MAP, LEFT[None].float()), "a mask is bool"),
        (lambda: best_iou(-MAP, LEFT[None]), "negative"),
        (lambda: best_iou(MAP * torch.nan, LEFT[None]), "not finite"),
        (lambda: brain_mask(np.zeros((2, 2), np.uint8)), "needs uint8"),
        (lambda: outside_share(MAP, np.zeros((1, 2, 2))), "needs uint8"),
        (lambda: agreement({"a": MAP, "b": torch.rand(2, 2, 2)}), "one shape"),
    ],
)
def test_mistakes_are_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        call()


def test_region_ratio_by_hand() -> None:
    everything = torch.ones(1, 2, 2, dtype=torch.bool)
    left = LEFT[None]
    assert region_ratio(one(3, 1, 3, 1), left, everything).item() == pytest.approx(0.75 / 0.5)
    assert region_ratio(one(1, 1, 1, 1), left, everything).item() == pytest.approx(1)
    brain = torch.tensor([[[True, True], [False, True]]])  # the pixel of 9 lies outside of the brain
    assert region_ratio(one(2, 1, 9, 1), left, brain).item() == pytest.approx(0.5 / (1 / 3))


def test_no_ratio_where_there_is_nothing_to_share() -> None:
    everything = torch.ones(1, 2, 2, dtype=torch.bool)
    assert region_ratio(one(0, 0, 0, 0), LEFT[None], everything).isnan().all()
    assert region_ratio(one(1, 2, 3, 4), ~everything, everything).isnan().all()


def test_pixel_auroc_is_that_of_scikit_learn_within_the_brain() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    maps = torch.from_numpy(random.integers(0, 6, (5, 8, 8)) / 5).float()  # with ties
    regions, brains = (torch.from_numpy(random.random((5, 8, 8)) < share) for share in (0.4, 0.7))
    found = pixel_auroc(maps, regions, brains)
    for row, (heat, region, brain) in enumerate(zip(maps, regions, brains, strict=True)):
        assert found[row].item() == pytest.approx(roc_auc_score(region[brain], heat[brain]), abs=1e-6)


def test_pixel_auroc_without_contrast_is_chance_and_without_a_region_nothing() -> None:
    everything = torch.ones(1, 2, 2, dtype=torch.bool)
    assert pixel_auroc(one(0, 0, 0, 0), LEFT[None], everything).item() == 0.5
    assert pixel_auroc(one(1, 2, 3, 4), everything, everything).isnan().all()
