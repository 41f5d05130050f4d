"""mriscope.explain.measures: answers computed by hand, on models whose logits are sums of pixels."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import jaccard_score
from torch import Tensor, nn

from mriscope.data.phantom import make_phantom
from mriscope.explain import measures

RANDOM = torch.Generator().manual_seed(0)


class Sum(nn.Module):
    """Two classes: 0 and the weighted sum of the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        total = (images[:, 0] * self.weights).sum((1, 2))
        return torch.stack([torch.zeros_like(total), total], 1)


@pytest.fixture
def case() -> tuple[nn.Module, Tensor, Tensor]:
    """Only the upper left quarter of 32 × 32 pixels counts."""
    weights = torch.zeros(32, 32)
    weights[:16, :16] = 0.05
    images = torch.rand(6, 1, 32, 32, generator=RANDOM)
    images[:, :, :16, :16] += 0.5
    return Sum(weights), images, torch.ones(6, dtype=torch.int64)


def test_the_true_map_beats_every_other_in_deletion_and_insertion(case):
    model, images, classes = case
    truth = model.weights.detach().expand(6, 32, 32) / 0.05
    best = measures.deletion_insertion(model, images, truth, classes)
    noise = measures.deletion_insertion(model, images, measures.random_maps(6, (32, 32)), classes)
    worst = measures.deletion_insertion(model, images, 1 - truth, classes)
    assert (best[0] < noise[0]).all() and (noise[0] < worst[0]).all()
    assert (best[1] > noise[1]).all() and (noise[1] > worst[1]).all()


def test_the_curves_run_from_the_slice_to_its_blur():
    """One step: the trapezoid of the two ends, the same for deletion and insertion."""
    images = torch.rand(3, 1, 32, 32, generator=RANDOM)
    model, classes = Sum(torch.randn(32, 32, generator=RANDOM) * 0.01), torch.tensor([0, 1, 1])
    ends = [measures.probability(model, one, classes) for one in (images, measures._blurred(images))]
    areas = measures.deletion_insertion(model, images, torch.rand(3, 32, 32), classes, steps=1)
    for area in areas:
        assert torch.allclose(area, (ends[0] + ends[1]) / 2)


def test_no_value_depends_on_the_chunk_and_a_map_of_zeros_is_a_random_one(case):
    model, images, classes = case
    maps = torch.rand(6, 32, 32, generator=RANDOM)
    for one, other in zip(
        measures.deletion_insertion(model, images, maps, classes, chunk=1),
        measures.deletion_insertion(model, images, maps, classes),
        strict=True,
    ):
        assert torch.allclose(one, other)
    nothing = measures.deletion_insertion(model, images, torch.zeros(6, 32, 32), classes)
    noise = measures.deletion_insertion(model, images, measures.random_maps(6, (32, 32)), classes)
    assert all((one - other).abs().max() < 0.05 for one, other in zip(nothing, noise, strict=True))


def test_average_drop_by_hand():
    model = Sum(torch.tensor([[1.0, -2.0]]))
    images = torch.tensor([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
    maps = torch.tensor([[[0.5, 1.0]], [[1.0, 0.0]]])
    # The second image's darkest pixel is 1, so that hiding changes nothing; the first one's logit falls from 1 to 0.5.
    drop, rose = measures.average_drop(model, images, maps, torch.tensor([1, 1]))
    before, after = (1 / (1 + np.exp(-value)) for value in (1.0, 0.5))
    assert drop.tolist() == pytest.approx([(before - after) / before, 0])
    assert rose.tolist() == [False, False]
    rose = measures.average_drop(model, images[:1], maps[:1], torch.tensor([0]))[1]
    assert rose.tolist() == [True]


def test_sensitivity_is_1_where_the_map_foretells_the_loss(case):
    model, images, classes = case
    loss = (images - measures._blurred(images))[:, 0] * model.weights.detach()
    assert measures.sensitivity(model, images, loss, classes).tolist() == pytest.approx([1] * 6, abs=1e-4)
    assert measures.sensitivity(model, images, -loss, classes).tolist() == pytest.approx([-1] * 6, abs=1e-4)
    assert measures.sensitivity(model, images, torch.zeros(6, 32, 32), classes).isnan().all()


def test_sparsity_by_hand():
    maps = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]], [[0.0] * 2] * 2])
    # Of 1, 2, 3, 4: 1 - 2 (1·3.5 + 2·2.5 + 3·1.5 + 4·0.5) / (4 · 10) = 0.25
    assert measures.sparsity(maps).tolist() == pytest.approx([0, 0.75, 0.25, np.nan], nan_ok=True)


def test_localisation_by_hand():
    maps = torch.tensor([[[1.0, 1.0], [0.5, 0.0]], [[0.2, 0.1], [0.3, 0.4]], [[0.0, 0.0], [0.0, 0.0]]])
    masks = torch.tensor([[[True, False], [True, False]]] * 3)
    assert measures.pointing_game(maps, masks).tolist() == [0.5, 0, 0.5]
    assert measures.share_within(maps, masks).tolist() == pytest.approx([0.6, 0.5, np.nan], nan_ok=True)
    assert measures.best_iou(maps, masks).tolist() == pytest.approx([2 / 3, 2 / 3, 0.5])


def test_the_best_iou_is_that_of_trying_every_threshold():
    maps = (torch.rand(4, 9, 9, generator=RANDOM) * 20).round() / 20
    masks = torch.rand(4, 9, 9, generator=RANDOM) > 0.7
    for one, mask, found in zip(maps, masks, measures.best_iou(maps, masks), strict=True):
        scores = [jaccard_score(mask.ravel(), (one >= level).ravel()) for level in one.unique()]
        assert float(found) == pytest.approx(max(scores))


def test_the_brain_is_found_with_its_ventricles_and_without_specks():
    pixels = np.zeros((1, 40, 40), np.uint8)
    pixels[0, 8:32, 8:32] = 150
    pixels[0, 16:24, 16:24] = 2  # a ventricle
    pixels[0, 2, 2], pixels[0, 36, :] = 120, 3  # a speck and noise
    expected = np.zeros((40, 40), np.bool_)
    expected[8:32, 8:32] = True
    assert np.array_equal(measures.brain_masks(pixels)[0], expected)
    assert not measures.brain_masks(np.zeros((1, 8, 8), np.uint8)).any()
    phantom = make_phantom(subjects=4, slices=4, size=64).slices.images
    found = measures.brain_masks(phantom)
    assert (found & (phantom > 0)).sum() / (phantom > 0).sum() > 0.97
    assert (found & (phantom == 0)).sum() / found.sum() < 0.03


def test_rank_correlation_agrees_with_scipy():
    some, others = torch.rand(2, 3, 8, 8, generator=RANDOM)
    within = np.random.default_rng(0).random((3, 8, 8)) > 0.4
    found = measures.rank_correlation(some, others, within)
    expected = [
        spearmanr(some[row].numpy()[within[row]], others[row].numpy()[within[row]]).statistic for row in range(3)
    ]
    assert found == pytest.approx(expected)
    assert measures.rank_correlation(some, some**3) == pytest.approx([1, 1, 1])
    assert np.isnan(measures.rank_correlation(some, torch.zeros(3, 8, 8))).all()


def test_ssim_is_1_of_equal_maps_and_by_formula_of_even_ones():
    some = torch.rand(2, 32, 32, generator=RANDOM)
    assert measures.ssim(some, some).tolist() == pytest.approx([1, 1])
    low, high = torch.full((1, 20, 20), 0.2), torch.full((1, 20, 20), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert measures.ssim(low, high).tolist() == pytest.approx([expected], rel=1e-5)


class Tiny(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 28 * 28, 2))


def test_randomisation_goes_from_the_last_layer_to_the_first_on_a_copy():
    model = Tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    seen: list[list[bool]] = []

    def make(one: nn.Module) -> Tensor:
        seen.append([torch.equal(value, before[name]) for name, value in one.state_dict().items() if "weight" in name])
        return torch.rand(2, 32, 32, generator=RANDOM)

    found = measures.randomise(model, make, np.ones((2, 32, 32), np.bool_), stages=3)
    assert found.layers == ("4", "2", "0")
    assert seen == [[True] * 3, [True, True, False], [True, False, False], [False] * 3]
    assert found.ssim.shape == found.rank_correlation.shape == (3, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_map_that_ignores_the_weights_stays_as_it_was():
    images = torch.rand(2, 32, 32, generator=RANDOM)
    found = measures.randomise(Tiny(), lambda _: images, np.ones((2, 32, 32), np.bool_), stages=2)
    assert found.ssim == pytest.approx(np.ones((2, 2)))
    assert found.rank_correlation == pytest.approx(np.ones((2, 2)))


def test_the_baselines_know_nothing_of_the_images():
    noise = measures.random_maps(3, (16, 20), seed=1)
    assert torch.equal(noise, measures.random_maps(3, (16, 20), seed=1))
    assert not torch.equal(noise, measures.random_maps(3, (16, 20), seed=2))
    bump = measures.centre_maps(2, (15, 21))
    assert bump.shape == (2, 15, 21)
    assert divmod(int(bump[0].argmax()), 21) == (7, 10)
    assert torch.allclose(bump, bump.flip(-1))
