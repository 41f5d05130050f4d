"""mriscope.explain.cams: every formula on maps of 2×2, computed by hand; what holds for every map."""

import math
from collections.abc import Callable

import pytest
import torch
from explain_networks import some_images
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mriscope.explain import CAM
from mriscope.explain.cams import CAMS, hires_cam, map_of, nearest_classes, principal
from mriscope.explain.records import LayerRecord, record_forward


def evidence(activations: list[list[list[float]]], gradients: list[list[list[float]]]) -> LayerRecord:
    """One image whose class is 0, of two."""
    return LayerRecord(
        torch.tensor([activations]), torch.tensor([gradients]), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2)
    )


# Sums 10 and 3; mean gradients 1/2 and -1/2; products [[1, -2], [0, 8]] and [[0, 0], [1, -4]].
TWO_CHANNELS = evidence(
    [[[1.0, 2.0], [3.0, 4.0]], [[2.0, 0.0], [-1.0, 2.0]]], [[[1.0, -1.0], [0.0, 2.0]], [[0.0, 1.0], [-1.0, -2.0]]]
)
# Grad-CAM++: first channel, gradient 1: α = 1 / (2 + 10), gradient 2: α = 4 / (8 + 10 × 8);
# second, gradient 1: α = 1 / (2 + 3).
FIRST, SECOND = 1 / 12 + 2 / 22, 1 / 5


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("gradcam", [[0.5 - 1, 1.0], [1.5 + 0.5, 2.0 - 1]]),  # weights 1/2 and -1/2
        ("gradcam++", [[FIRST + 2 * SECOND, 2 * FIRST], [3 * FIRST - SECOND, 4 * FIRST + 2 * SECOND]]),
        ("xgradcam", [[0.7 - 2, 1.4], [2.1 + 1, 2.8 - 2]]),  # weights 7/10 and -3/3
        ("hirescam", [[1.0, -2.0], [1.0, 4.0]]),  # the sum of the products
        ("elementwise", [[1.0, 0.0], [1.0, 8.0]]),  # the sum of the positive products
        ("layercam", [[1.0, 0.0], [0.0, 8.0]]),  # only where the gradient is positive
        ("finercam", [[0.5 - 1, 1.0], [1.5 + 0.5, 2.0 - 1]]),  # Grad-CAM with gradients of another score
    ],
)
def test_a_map_of_2x2_computed_by_hand(method: str, wanted: list[list[float]]):
    found = map_of(CAMS[method].make(TWO_CHANNELS), TWO_CHANNELS, eigen_smooth=False)
    torch.testing.assert_close(found, torch.tensor([wanted]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "factor", "gradient", "wanted"),
    [
        # The second channel is a multiple of the first, which less its mean 3 is -2, -1, 0, 3: one component holds all.
        ("eigencam", 2.0, 1.0, [[-2.0, -1.0], [0.0, 3.0]]),  # the sum is 3 times the first channel: same direction
        ("eigencam", -2.0, 1.0, [[2.0, 1.0], [0.0, -3.0]]),  # the sum is minus the first channel
        ("eigengradcam", 2.0, 1.0, [[-2.0, -1.0], [0.0, 3.0]]),
        ("eigengradcam", 2.0, -1.0, [[2.0, 1.0], [0.0, -3.0]]),  # products are 1 and -2 times the first channel
    ],
)
def test_a_first_component_of_2x2_computed_by_hand(
    method: str, factor: float, gradient: float, wanted: list[list[float]]
):
    first = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    both = torch.stack([first, factor * first])[None]
    gradients = torch.ones_like(both)
    gradients[:, 1] = gradient
    known = LayerRecord(both, gradients, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2))
    torch.testing.assert_close(CAMS[method].make(known), math.sqrt(5) * torch.tensor([wanted]), atol=1e-5, rtol=1e-5)


def test_a_smoothed_map_is_the_first_component_of_weighted_channels_by_hand():
    # Channels x and x times 3 and 1: less the mean 3, the shares are 3 and 1 times -2, -1, 0, 3.
    first = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    both = torch.stack([first, first])[None]
    known = LayerRecord(both, torch.ones_like(both), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2))
    found = map_of(torch.tensor([[3.0, 1.0]]), known, eigen_smooth=True)
    torch.testing.assert_close(found, math.sqrt(10) * torch.tensor([[[-2.0, -1.0], [0.0, 3.0]]]), atol=1e-5, rtol=1e-5)


def pointwise(weights: list[float], head: list[list[float]], bias: float = 0.0, *, relu: bool = False) -> nn.Sequential:
    """One channel for each weight and the answer as a sum of all places, times the head's numbers.

    A head of one row is a network of one output, which is the logit of class 1.
    """
    first, last = nn.Conv2d(1, len(weights), 1, bias=False), nn.Linear(4 * len(weights), len(head))
    with torch.no_grad():
        first.weight.copy_(torch.tensor(weights).reshape(-1, 1, 1, 1))
        last.weight.copy_(torch.tensor(head).repeat_interleave(4, 1))
        last.bias.fill_(bias)
    return nn.Sequential(first, nn.ReLU() if relu else nn.Identity(), nn.Flatten(), last)


IMAGE = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])


def test_score_cam_computed_by_hand():
    # Channels x and -x make the masks x/4 and 1 - x/4; the logit is the sum of the image.
    # Masked images: 0, 1/4, 1, 4 and 0, 3/4, 1, 0, so scores 5.25 and 1.75.
    weight = 1 / (1 + math.exp(-3.5))
    found = CAM(pointwise([1.0, -1.0], [[1.0, 0.0]]), "0", method="scorecam")(IMAGE, 1, normalise=False)
    torch.testing.assert_close(found, (2 * weight - 1) * IMAGE[0])


def test_ablation_cam_computed_by_hand():
    # Channels x and 2x, of sums 7 and 14, and a bias of 4: 25. Without one: 18 and 11, so weights 7/25 and 14/25.
    model = pointwise([1.0, 2.0], [[1.0, 1.0]], bias=4.0, relu=True)
    found = CAM(model, "1", method="ablationcam")(IMAGE, 1, normalise=False)
    torch.testing.assert_close(found, (7 / 25 + 2 * 14 / 25) * IMAGE[0])


def test_ablation_cam_sets_a_channel_that_could_be_negative_far_below_computed_by_hand():
    # Channels x and -x, of least value -4; the logit is the sum of the first, 7. Without it: 4 × (-4 - 1e7).
    found = CAM(pointwise([1.0, -1.0], [[1.0, 0.0]]), "0", method="ablationcam")(IMAGE, 1, normalise=False)
    torch.testing.assert_close(found, (7 + 4 * (4 + 1e7)) / 7 * IMAGE[0])


def test_ablation_cam_of_a_logit_of_0_is_not_divided():
    # Channels x and 2x and a bias of -21: 0. Without one: -7 and -14.
    model = pointwise([1.0, 2.0], [[1.0, 1.0]], bias=-21.0, relu=True)
    found = CAM(model, "1", method="ablationcam")(IMAGE, 1, normalise=False)
    torch.testing.assert_close(found, (7 + 2 * 14) * IMAGE[0])


def test_finer_cams_score_computed_by_hand():
    # From 2 the others are 1, 2, 2 and 11 away: the last one is not counted.
    logits = torch.tensor([[2.0, 1.0, 0.0, 4.0, -9.0], [2.0, 1.0, 0.0, 4.0, -9.0]])
    shares = math.exp(1), 1.0, math.exp(4)
    wanted = (shares[0] * 1 + shares[1] * 2 + shares[2] * -2) / sum(shares)
    # From 4 they are 2, 3, 4 and 13 away.
    shares = math.exp(2), math.exp(1), 1.0
    largest = (shares[0] * 2 + shares[1] * 3 + shares[2] * 4) / sum(shares)
    torch.testing.assert_close(nearest_classes(logits, torch.tensor([0, 3])), torch.tensor([wanted, largest]))


def test_finer_cam_with_two_classes_is_grad_cam_of_their_difference():
    model = pointwise([1.0, -1.0], [[1.0, 0.0], [0.25, 0.5]])
    finer, plain = (CAM(model, "0", method=name) for name in ("finercam", "gradcam"))
    # Gradients of the difference: 0.75 along x and -0.5 along -x. The formula's 1e-9 beside a share of 2e-4 shows.
    torch.testing.assert_close(finer(IMAGE, 0, normalise=False), 1.25 * IMAGE[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(plain(IMAGE, 0, normalise=False), IMAGE[0])


def test_hires_cam_is_complete_on_the_last_map():
    torch.manual_seed(0)
    last, head = nn.Conv2d(7, 5, 3), nn.Linear(5, 4)
    model = nn.Sequential(nn.Conv2d(1, 7, 3), nn.Tanh(), last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    images, classes = some_images(), torch.tensor([0, 1, 2, 3, 0, 1])
    records = record_forward(model, [last], images, record=True)

    def score(logits: Tensor, classes: Tensor) -> Tensor:
        return logits.gather(1, classes[:, None])[:, 0]

    logits = records.logits.detach()
    known = LayerRecord(records.activations()[0], records.gradients(score, classes)[0], classes, logits)
    explained = map_of(hires_cam(known), known, eigen_smooth=False).sum((1, 2))
    torch.testing.assert_close(explained, logits[range(6), classes] - head.bias.detach()[classes])


# --- the sign of a component ---


def singular(shares: Tensor) -> Tensor:
    """The component by the solver for singular values, of any sign."""
    rows = shares.flatten(2).mT
    rows = rows - rows.mean(1, keepdim=True)
    return (rows @ torch.linalg.svd(rows).Vh[:, :1].mT)[..., 0].unflatten(1, shares.shape[2:])


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([(2, 3), (5, 4), (2, 3, 2)]))
def test_a_component_is_the_singular_one_and_rises_with_the_sum_over_channels(
    seed: int, channels: int, size: tuple[int, ...]
):
    random = torch.Generator().manual_seed(seed)
    shares = torch.rand(2, channels, *size, generator=random, dtype=torch.float64)
    found, any_sign = principal(shares), singular(shares)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), any_sign.flatten(1).norm(dim=1))
    total = shares.sum(1)
    assert ((found * (total - total.flatten(1).mean(1).view(-1, *[1] * len(size)))).flatten(1).sum(1) > -1e-5).all()
    torch.testing.assert_close(found.flatten(1).mean(1), torch.zeros(2).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda shares: shares.flip(1), id="channels in another order"),
        pytest.param(lambda shares: shares * 1.001, id="scaled"),
        pytest.param(lambda shares: shares + 0.5, id="raised"),
        pytest.param(lambda shares: torch.cat([shares, torch.zeros_like(shares)], 1), id="with silent channels"),
        pytest.param(lambda shares: shares + 1e-6 * torch.randn(shares.shape), id="disturbed"),
    ],
)
def test_no_small_change_inverts_a_component(change: Callable[[Tensor], Tensor]):
    torch.manual_seed(0)
    shares = torch.rand(200, 6, 5, 5).relu() * torch.linspace(0.2, 2, 6)[:, None, None]
    torch.testing.assert_close(principal(change(shares)), principal(shares), atol=0.02, rtol=0)


def test_the_opposite_of_a_layer_has_the_opposite_component():
    shares = torch.randn(100, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(principal(-shares), -principal(shares), atol=1e-5, rtol=0)


def test_a_silent_layer_has_a_component_of_zeros():
    assert not principal(torch.zeros(1, 3, 4, 4)).any()
    assert not principal(torch.full((1, 3, 4, 4), 2.0)).any()


def test_finer_cams_nearest_classes_may_be_nearer_than_a_logit_of_one():
    logits = torch.tensor([[0.0, 0.5, 2.0, 3.0, 4.0]], dtype=torch.float64)
    near = (0.5, 2.0, 3.0)  # the nearest three; the class itself and the farthest stay out
    expected = -sum(math.exp(y) * y for y in near) / sum(map(math.exp, near))
    assert nearest_classes(logits, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-6)
