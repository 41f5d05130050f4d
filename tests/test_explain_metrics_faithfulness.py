"""mriscope.explain.metrics.faithfulness and removal: cases worked by hand, linear models, and other libraries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.metrics import infidelity as captum_infidelity
from hypothesis import given
from hypothesis import strategies as st
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from mriscope.errors import MriscopeError, UnknownNameError
from mriscope.explain.metrics.baseline_maps import centre_maps, random_maps
from mriscope.explain.metrics.faithfulness import (
    average_drop,
    deletion,
    infidelity,
    insertion,
    road,
    sensitivity_n,
    sparsity,
    squares,
)
from mriscope.explain.metrics.removal import blur, impute, replace_pixels

SCORES: dict[str, Callable[..., Tensor]] = {
    "deletion": lambda *given, **options: deletion(*given, **options).auc,
    "insertion": lambda *given, **options: insertion(*given, **options).auc,
    "average drop": lambda *given, **options: average_drop(*given, **options)[0],
    "road": road,
    "infidelity": infidelity,
    "sensitivity-n": sensitivity_n,
}


class Linear(nn.Module):
    """Logits (weights · image, 0), so that the first class's probability is the sigmoid of the sum."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).flatten(1).sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)


def random_of(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def small_net(sides: int = 2) -> nn.Sequential:
    convolution, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if sides == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    torch.manual_seed(0)
    return nn.Sequential(
        convolution(1, 6, 3, padding=1), nn.ReLU(), pool(4), nn.Flatten(), nn.Dropout(), nn.Linear(6 * 4**sides, 3)
    ).eval()


def wavy_net() -> nn.Sequential:
    """All its weights come from a formula, so that another library's values can be kept here."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(48, 3, bias=False),
    )
    with torch.no_grad():
        first, last = net.parameters()
        first.copy_(torch.sin(torch.arange(27.0)).view_as(first))
        last.copy_(3 * torch.cos(torch.arange(144.0)).view_as(last))
    return net.eval()


PEER_WARNS = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
WAVY_IMAGES = (torch.sin(0.37 * torch.arange(512.0)).view(2, 1, 16, 16) + 1) / 2 + 0.1
WAVY_MAPS = (torch.sin(0.731 * torch.arange(512.0) + 0.1).view(2, 16, 16) + 1) / 2


# Curves


def test_curves_of_four_pixels_by_hand():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    model = Linear(torch.tensor([[0.5, 0.25], [-1.0, 0.5]]))  # worth 0.5, 0.5, -3 and 2
    heat = torch.tensor([[[0.2, 0.1], [0.0, 0.9]]])
    zero = torch.tensor([0])
    gone = deletion(model, image, heat, zero, steps=4, baseline="zero")
    sums = torch.tensor([0.0, -2.0, -2.5, -3.0, 0.0])
    assert gone.scores.dtype == torch.float32
    torch.testing.assert_close(gone.scores, sums.sigmoid()[None])
    torch.testing.assert_close(gone.auc, ((sums[1:].sigmoid() + sums[:-1].sigmoid()).sum() / 8)[None])
    come = insertion(model, image, heat, zero, steps=4, baseline="zero")
    torch.testing.assert_close(come.scores, torch.tensor([0.0, 2.0, 2.5, 3.0, 0.0]).sigmoid()[None])
    other = deletion(model, image, heat, torch.tensor([1]), steps=4, baseline="zero")
    torch.testing.assert_close(other.scores, 1 - gone.scores)


def test_a_step_takes_its_share_of_the_pixels():
    model = Linear(torch.ones(1, 2, 2))
    curve = deletion(model, torch.ones(1, 1, 2, 2), torch.rand(1, 2, 2), torch.tensor([0]), steps=2, baseline="zero")
    torch.testing.assert_close(curve.scores, torch.tensor([[4.0, 2.0, 0.0]]).sigmoid())


def test_deletion_curves_are_those_of_quantus():
    # Quantus 0.6.0: PixelFlipping(features_in_step=32, perturb_baseline=0.0, normalise=False), softmax=True, on the
    # same net, images and maps; it gives no score for the whole image.
    theirs = [
        [0.999786, 0.999113, 0.930001, 0.949816, 0.737755, 0.275723, 0.28227, 0.333333],
        [0.190366, 0.712097, 0.823319, 0.973661, 0.948608, 0.699787, 0.780201, 0.333333],
    ]
    ours = deletion(wavy_net(), WAVY_IMAGES, WAVY_MAPS, torch.tensor([0, 2]), steps=8, baseline="zero")
    torch.testing.assert_close(ours.scores[:, 1:], torch.tensor(theirs), atol=1e-5, rtol=0)  # theirs to six places


@given(st.integers(0, 10_000))
def test_no_map_beats_what_each_pixel_is_worth(seed: int):
    weights, image = random_of(1, 5, 5, seed=seed) - 0.5, random_of(1, 1, 5, 5, seed=seed + 1)
    model, zero = Linear(weights), torch.tensor([0])
    oracle, other = (weights * image)[:, 0], random_of(1, 5, 5, seed=seed + 2)
    for curve, sign in ((deletion, 1), (insertion, -1)):
        best, found = (curve(model, image, heat, zero, baseline="zero", steps=25).scores for heat in (oracle, other))
        assert (sign * (found - best) >= -1e-6).all()


def test_random_maps_tell_nothing():
    images, model = random_of(1, 1, 24, 24).expand(200, -1, -1, -1), small_net()
    maps, classes = random_maps(images), torch.zeros(200, dtype=torch.int64)
    gain = insertion(model, images, maps, classes, steps=8).auc - deletion(model, images, maps, classes, steps=8).auc
    for values in (gain, road(model, images, maps, classes)):
        assert values.mean().abs() < 3 * values.std() / 200**0.5


def test_a_map_of_zeros_removes_pixels_by_chance_everywhere():
    image = torch.zeros(1, 1, 16, 16)
    image[..., :8, :] = 1 / 128  # weighs the upper half: in the order of reading, half the steps would take all of it
    arguments = Linear(torch.ones(1, 16, 16)), image, torch.zeros(1, 16, 16), torch.tensor([0])
    scores = deletion(*arguments, steps=2, baseline="zero").scores
    assert scores[0, 1].logit() == pytest.approx(0.5, abs=0.1)
    assert (scores == deletion(*arguments, steps=2, baseline="zero").scores).all()


def test_values_that_tie_go_in_one_order_whatever_the_map():
    image, model = random_of(1, 1, 8, 8), Linear(random_of(1, 8, 8, seed=4) - 0.5)
    found = [
        deletion(model, image, torch.full((1, 8, 8), value), torch.tensor([0]), baseline="zero").scores
        for value in (0.0, 0.3, 1.0)
    ]
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


# What stands for removed pixels


def test_baselines():
    images = random_of(2, 3, 16, 32)
    assert (replace_pixels(images, "zero") == 0).all()
    torch.testing.assert_close(replace_pixels(images, "mean")[1, 2], images[1, 2].mean().expand(16, 32))
    point = torch.zeros(1, 1, 32, 48)
    point[0, 0, 10, 20], point[0, 0, 0, 0] = 25, 9  # windows of 5 pixels a side, of which 3 by 3 are there at a corner
    local = replace_pixels(point, "local")
    assert local[0, 0, 8:13, 18:23].sum() == pytest.approx(25)
    assert local[0, 0, 0, 0].item() == pytest.approx(1)
    with pytest.raises(UnknownNameError, match="no baseline 'blurr'"):
        replace_pixels(images, "blurr")


@pytest.mark.parametrize("size", [(33, 33), (17, 33, 33)])
def test_a_blurred_point_is_a_gaussian(size: tuple[int, ...]):
    image = torch.zeros(1, 1, *size)
    image[(0, 0, *[side // 2 for side in size])] = 1
    found, deviation = blur(image)[0, 0], min(size) / 16
    assert found.sum() == pytest.approx(1, abs=1e-5)
    profile = found[tuple(side // 2 for side in size[:-1])]
    places = (torch.arange(33) - 16) / deviation
    inside = places.abs() <= 3
    expected = torch.exp(-(places**2) / 2)
    torch.testing.assert_close((profile / profile.max())[inside], expected[inside])
    torch.testing.assert_close(blur(torch.full((1, 2, *size), 0.7)), torch.full((1, 2, *size), 0.7))


def test_a_missing_pixel_is_the_mean_of_its_neighbours():
    image = torch.arange(9.0).view(1, 1, 3, 3) ** 2
    known = torch.ones(1, 3, 3, dtype=torch.bool)
    known[0, 1, 1] = False
    sides, corners = 1 + 9 + 25 + 49, 0 + 4 + 36 + 64
    assert impute(image, known)[0, 0, 1, 1] == pytest.approx(sides / 6 + corners / 12, rel=1e-5)
    known[:], known[0, 0, 0] = True, False  # at the border, those that there are
    assert impute(image, known)[0, 0, 0, 0] == pytest.approx((2 * 1 + 2 * 9 + 16) / 5, rel=1e-5)


def test_a_missing_voxel_is_the_mean_of_its_neighbours():
    volume = torch.zeros(1, 1, 3, 3, 3)
    volume[0, 0, 0, 1, 1], volume[0, 0, 0, 0, 1], volume[0, 0, 0, 0, 0] = 1, 10, 100
    known = torch.ones(1, 3, 3, 3, dtype=torch.bool)
    known[0, 1, 1, 1] = False
    assert impute(volume, known)[0, 0, 1, 1, 1] == pytest.approx((4 + 2 * 10 + 100) / 56, rel=1e-4)


@PEER_WARNS
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("smooth", [True, False])
def test_imputation_agrees_with_pytorch_grad_cam(share: float, smooth: bool):
    images = blur(random_of(3, 2, 40, 48)) + 0.1 * random_of(3, 2, 40, 48, seed=9)
    maps = random_maps(images) if smooth else random_of(3, 40, 48, seed=5)
    known = maps >= maps.flatten(1).quantile(share, 1)[:, None, None]
    ours = impute(images, known)
    for image, keep, mine in zip(images, known, ours, strict=True):
        torch.testing.assert_close(mine, NoisyLinearImputer(noise=0)(image, keep.float()), atol=2e-4, rtol=0)
    assert (ours == images).masked_select(known[:, None]).all()


def test_what_is_imputed_does_not_depend_on_the_batch():
    images, known = random_of(4, 1, 24, 24), random_maps(torch.zeros(4, 1, 24, 24)) > 0.6
    torch.testing.assert_close(impute(images, known)[2:3], impute(images[2:3], known[2:3]), atol=1e-6, rtol=0)


# Average drop and ROAD


def test_average_drop_by_hand():
    images = torch.tensor([[[[2.0, -1.0]]]]).expand(4, -1, -1, -1)
    maps = torch.tensor([[[1.0, 1.0]], [[0.5, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    drop, rise = average_drop(Linear(torch.ones(1, 1, 2)), images, maps, torch.zeros(4, dtype=torch.int64))
    y, half = torch.tensor(1.0).sigmoid(), torch.tensor(0.5)
    torch.testing.assert_close(drop, torch.stack([y * 0, (y - half) / y, y * 0, (y - half) / y]))
    assert rise.tolist() == [False, False, True, False]


def test_average_drop_of_a_probability_that_is_zero():
    images, maps = torch.full((1, 1, 1, 1), -500.0), torch.tensor([[[1.0]]])
    drop, rise = average_drop(Linear(torch.ones(1, 1, 1)), images, maps, torch.tensor([0]))
    assert drop.tolist() == [0]
    assert rise.tolist() == [False]


@PEER_WARNS
def test_road_is_that_of_pytorch_grad_cam_where_there_is_no_noise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mriscope.explain.metrics.faithfulness._NOISE", 0.0)
    net, classes = wavy_net(), [0, 2]
    targets = [ClassifierOutputSoftmaxTarget(target) for target in classes]
    means = []
    for ways in (RemoveLeastRelevantFirst, RemoveMostRelevantFirst):
        metrics = [
            PerturbationConfidenceMetric(ways(percentile, NoisyLinearImputer(noise=0)))
            for percentile in (10, 30, 50, 70, 90)
        ]
        means.append(np.mean([one(WAVY_IMAGES, WAVY_MAPS.numpy(), targets, net) for one in metrics], axis=0))
    ours = road(net, WAVY_IMAGES, WAVY_MAPS, torch.tensor(classes))
    np.testing.assert_allclose(ours.numpy(), (means[0] - means[1]) / 2, atol=2e-4)


def test_road_of_a_map_that_finds_the_evidence():
    images = 0.1 * random_of(1, 1, 24, 24)
    images[..., 4:10, 6:12] += 1
    weights, maps = torch.zeros(1, 24, 24), torch.zeros(1, 24, 24)
    weights[:, 4:10, 6:12], maps[:, 4:10, 6:12] = 0.2, 1
    model, zero = Linear(weights), torch.tensor([0])
    assert road(model, images, maps, zero, percentiles=[10])[0] > 0.15
    assert road(model, images, -maps, zero, percentiles=[10])[0] < -0.15
    assert road(model, images, 0 * maps, zero)[0].abs() < 0.1
    assert (road(model, images, maps, zero) == road(model, images, maps, zero)).all()
    assert (road(model, images, maps, zero) != road(model, images, maps, zero, seed=1)).all()


@pytest.mark.parametrize("percentiles", [(), (0, 50), (50, 100)])
def test_road_needs_percentiles_between(percentiles: tuple[int, ...]):
    with pytest.raises(MriscopeError, match="above 0 and below 100"):
        road(small_net(), random_of(1, 1, 8, 8), random_of(1, 8, 8), torch.tensor([0]), percentiles=percentiles)


# Infidelity and sensitivity-n


def test_a_linear_model_is_explained_fully_by_what_each_pixel_is_worth():
    images, weights = random_of(3, 1, 24, 24), random_of(1, 24, 24, seed=8) - 0.5
    worth = ((images - blur(images)) * weights)[:, 0]
    arguments = Linear(weights), images, 7 * worth, torch.zeros(3, dtype=torch.int64)
    assert (infidelity(*arguments) < 1e-9).all()
    torch.testing.assert_close(sensitivity_n(*arguments), torch.ones(3))
    arguments = Linear(weights), images, -worth, torch.zeros(3, dtype=torch.int64)
    torch.testing.assert_close(sensitivity_n(*arguments), -torch.ones(3))


def test_infidelity_agrees_with_captum():
    net, classes = small_net(), torch.tensor([0, 1, 2])
    images = random_of(3, 1, 24, 24)
    regions = squares(images, 40, seed=2)
    maps = squared_gradients(net, images, classes)
    maps = torch.stack([oriented(net, *one) for one in zip(images, maps, classes, strict=True)])

    def blur_within(repeated: Tensor) -> tuple[Tensor, Tensor]:
        within = regions.repeat(3, 1, 1)[:, None]
        return within.float(), blur(repeated).where(within, repeated)

    theirs = captum_infidelity(
        net, blur_within, images, maps[:, None], target=classes, n_perturb_samples=40, normalize=True
    )
    ours = infidelity(net, images, maps, classes, samples=40, seed=2)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-9)


def squared_gradients(net: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    asked = images.clone().requires_grad_()
    net(asked).gather(1, classes[:, None]).sum().backward()
    assert asked.grad is not None
    return asked.grad[:, 0] ** 2


def oriented(net: nn.Module, image: Tensor, heat: Tensor, target: Tensor) -> Tensor:
    """The map, or its negative, whichever says the truth: Captum also scales by numbers below 0."""
    mine, zero = (infidelity(net, image[None], one[None], target[None], samples=40, seed=2) for one in (heat, 0 * heat))
    return heat if mine < zero else -heat


def test_a_map_that_says_the_contrary_is_no_better_than_none():
    images, weights = random_of(2, 1, 24, 24), random_of(1, 24, 24, seed=8)
    worth = ((images - blur(images)) * weights)[:, 0]
    model, classes = Linear(weights), torch.zeros(2, dtype=torch.int64)
    none = infidelity(model, images, 0 * worth, classes)
    torch.testing.assert_close(infidelity(model, images, -worth, classes), none)
    lost = [(model(images)[:, 0] - model(blur(images).where(one, images))[:, 0]) ** 2 for one in squares(images, 64)]
    torch.testing.assert_close(none, torch.stack(lost).mean(0).detach())


def test_squares_are_square_and_inside():
    for one in squares(torch.zeros(1, 1, 32, 48), 50).int():
        rows, columns = one.amax(1).sum(), one.amax(0).sum()
        assert rows == columns
        assert one.sum() == rows * columns
        assert 4 <= rows <= 16


def test_sensitivity_n_needs_some_places_but_not_all():
    with pytest.raises(MriscopeError, match="n is 64; sensitivity-n needs 1 to 63 places"):
        sensitivity_n(small_net(), random_of(1, 1, 16, 16), random_of(1, 16, 16), torch.tensor([0]), n=64)


# Sparsity and maps that know nothing


def test_sparsity_by_hand():
    maps = torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1], [4, 1, 3, 2], [0, 0, 0, 0], [0, -2, 0, 2]])
    torch.testing.assert_close(sparsity(maps.view(5, 2, 2)), torch.tensor([0.75, 0, 0.25, 0, 0.5]))


def test_sparsity_is_that_of_quantus():
    # Quantus 0.6.0: Sparseness(normalise=False, abs=True) on the same maps, which are at least 0.
    theirs = torch.tensor([0.40269769, 0.40308070])
    torch.testing.assert_close(sparsity(WAVY_MAPS), theirs, atol=1e-6, rtol=0)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30), st.floats(0.125, 8, width=32))
def test_sparsity_has_no_unit(values: list[float], scale: float):
    maps = torch.tensor([values])
    found = sparsity(maps)
    assert 0 <= found <= 1 - 1 / len(values) + 1e-6
    if max(values) > 1e-30:
        torch.testing.assert_close(sparsity(scale * maps), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(24, 32), (5, 5), (12, 16, 16)])
def test_maps_that_know_nothing(size: tuple[int, ...]):
    images = torch.zeros(3, 2, *size)
    for maps in (random_maps(images), centre_maps(images)):
        assert maps.shape == (3, *size)
        assert maps.dtype == torch.float32
        assert (maps.flatten(1).amin(1) == 0).all()
        assert (maps.flatten(1).amax(1) == 1).all()
    assert (random_maps(images) == random_maps(images)).all()
    assert (random_maps(images) != random_maps(images, seed=1)).any()
    assert (random_maps(images)[0] != random_maps(images)[1]).any()
    heat = centre_maps(images)[0]
    assert heat[tuple(side // 2 for side in size)] == 1
    torch.testing.assert_close(heat, heat.flip(tuple(range(len(size)))))


# What all of them have in common


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("sides", [2, 3])
def test_no_score_depends_on_the_chunk(name: str, sides: int):
    size = (16, 16) if sides == 2 else (8, 16, 16)
    images, classes = random_of(3, 1, *size), torch.tensor([2, 0, 1])
    maps = random_maps(images)
    whole, parts = (SCORES[name](small_net(sides), images, maps, classes, chunk=chunk) for chunk in (64, 5))
    assert whole.dtype == torch.float32
    assert whole.shape == (3,)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SCORES)
def test_the_model_answers_in_eval_mode_and_comes_back(name: str):
    images, classes = random_of(2, 1, 16, 16), torch.tensor([2, 0])
    maps, model = random_maps(images), small_net()
    expected = SCORES[name](model, images, maps, classes)
    found = SCORES[name](model.train(), images, maps.requires_grad_(), classes)
    torch.testing.assert_close(found, expected)
    assert all(module.training for module in model.modules())
    assert not found.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", SCORES)
def test_a_map_of_zeros_has_a_score(name: str):
    images = random_of(2, 1, 16, 16)
    found = SCORES[name](small_net(), images, torch.zeros(2, 16, 16), torch.tensor([2, 0]))
    assert found.isfinite().all()
    if name == "sensitivity-n":
        assert (found == 0).all()


@pytest.mark.parametrize("name", SCORES)
def test_no_images_no_scores(name: str):
    nothing = torch.zeros(0, 1, 16, 16), torch.zeros(0, 16, 16), torch.zeros(0, dtype=torch.int64)
    assert SCORES[name](small_net(), *nothing).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.rand(2, 8, 8)}, r"maps are torch.float32 \(2, 8, 8\).*need floats of \(2, 16, 16\)"),
        ({"maps": torch.ones(2, 16, 16, dtype=torch.int64)}, "maps are torch.int64"),
        ({"maps": torch.full((2, 16, 16), torch.nan)}, "NaN"),
        ({"classes": torch.tensor([0])}, "1 classes for 2 images"),
        ({"classes": torch.tensor([0, 3])}, "class 3 cannot be explained"),
        ({"chunk": 0}, "chunk is 0"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str):
    arguments: dict[str, Any] = {
        "images": torch.rand(2, 1, 16, 16),
        "maps": torch.rand(2, 16, 16),
        "classes": torch.tensor([0, 1]),
    }
    with pytest.raises(MriscopeError, match=message):
        deletion(small_net(), **(arguments | changes))


def test_half_precision_is_scored_in_full():
    images, classes = random_of(2, 1, 16, 16), torch.tensor([2, 0])
    maps = random_maps(images)
    full = deletion(small_net(), images, maps, classes).scores
    half = deletion(small_net().bfloat16(), images.bfloat16(), maps, classes).scores
    assert half.dtype == torch.float32
    assert F.l1_loss(half, full) < 0.01
