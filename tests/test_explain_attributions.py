"""mriscope.explain.attributions: agreement with captum, what must sum to what, and models of every kind."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum import attr
from torch import Tensor, nn

from mriscope.errors import MriscopeError
from mriscope.explain.attributions import (
    gradient_times_input,
    guided_backpropagation,
    input_gradients,
    integrated_gradients,
    occlusion,
    smooth_grad,
)
from mriscope.explain.maps import explain

METHODS = (gradient_times_input, integrated_gradients, smooth_grad, guided_backpropagation, occlusion)
CLASSES = torch.tensor([2, 0, 1])


class Small(nn.Module):
    """Two convolutions and ReLUs that are modules, functions or in place."""

    def __init__(self, kind: str = "module") -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8 * 25, 3)
        self.relu, self.relu2 = nn.ReLU(inplace=kind == "in place"), nn.ReLU()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images)
        if self.kind == "discarded":
            values.relu_()
        else:
            values = F.relu(values) if self.kind == "function" else self.relu(values)
        values = F.max_pool2d(values, 2)
        values = self.second(values)
        values = torch.relu(values) if self.kind == "function" else self.relu2(values)
        return self.head(F.adaptive_avg_pool2d(values, 5).flatten(1))


def some_images() -> Tensor:
    return torch.rand(3, 1, 20, 20, generator=torch.Generator().manual_seed(2)) - 0.3


@pytest.fixture
def model() -> nn.Module:
    return Small().eval()


def quietly(make: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum tells of the hooks that it sets
        return make().detach().float()


def test_agrees_with_captum_on_gradient_times_input(model: nn.Module):
    wanted = quietly(lambda: attr.InputXGradient(model).attribute(some_images(), target=CLASSES))
    torch.testing.assert_close(gradient_times_input(model, some_images(), CLASSES), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("steps", [10, 50])
def test_agrees_with_captum_on_integrated_gradients(model: nn.Module, steps: int):
    wanted = quietly(
        lambda: attr.IntegratedGradients(model).attribute(
            some_images(), target=CLASSES, n_steps=steps, method="gausslegendre"
        )
    )
    found = integrated_gradients(model, some_images(), CLASSES, steps=steps)
    assert (found - wanted).abs().max() < 1e-5
    assert found.abs().max() > 0.001


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (5, 5), (6, 2)])
def test_agrees_with_captum_on_occlusion(model: nn.Module, window: int, stride: int):
    wanted = quietly(
        lambda: attr.Occlusion(model).attribute(
            some_images(), (1, window, window), strides=(1, stride, stride), target=CLASSES
        )
    )
    found = occlusion(model, some_images(), CLASSES, window=window, stride=stride)
    assert (found - wanted).abs().max() < 1e-5
    assert found.abs().max() > 0.001


def test_agrees_with_captum_on_guided_backpropagation_and_guided_grad_cam(model: nn.Module):
    wanted = quietly(lambda: attr.GuidedBackprop(model).attribute(some_images(), target=CLASSES))
    guided = guided_backpropagation(model, some_images(), CLASSES)
    torch.testing.assert_close(guided, wanted, atol=1e-6, rtol=1e-5)
    layer: Any = model.get_submodule("second")
    both = quietly(
        lambda: attr.GuidedGradCam(model, layer).attribute(some_images(), target=CLASSES, interpolate_mode="bilinear")
    )
    wanted = both.sum(1).relu()
    found = explain(model, some_images(), ["guided_gradcam"], CLASSES, layer="second", normalise=False)
    torch.testing.assert_close(found["guided_gradcam"].maps, wanted, atol=1e-5 * float(wanted.max()), rtol=0)
    assert wanted.max() > 0


def test_integrated_gradients_sum_to_what_the_logit_gained(model: nn.Module):
    images = some_images()
    found = integrated_gradients(model, images, CLASSES, steps=200, baseline=0.1)
    with torch.no_grad():
        gained = (model(images) - model(torch.full_like(images, 0.1))).gather(1, CLASSES[:, None])[:, 0]
    torch.testing.assert_close(found.sum((1, 2, 3)), gained, atol=1e-3, rtol=1e-2)


def test_a_linear_model_by_hand():
    linear = nn.Linear(4, 2, bias=False)
    model = nn.Sequential(nn.Flatten(), linear)
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    linear.weight.data.copy_(weight)
    image, first = torch.tensor([[[[2.0, 1.0], [1.0, 5.0]]]]), torch.tensor([0])
    shares = torch.tensor([[[[2.0, -2.0], [3.0, 0.0]]]])
    for method in (gradient_times_input, integrated_gradients):
        torch.testing.assert_close(method(model, image, first), shares)
    torch.testing.assert_close(occlusion(model, image, first, window=1, stride=1), shares)
    torch.testing.assert_close(smooth_grad(model, image, first), weight[0].reshape(1, 1, 2, 2))
    # A window as large as the image takes all of the logit, whose value is 3, from every pixel.
    assert occlusion(model, image, first, window=2, stride=2).unique().tolist() == [3.0]


def test_a_guided_relu_by_hand():
    class Two(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            values = images.flatten(1)
            return torch.stack([F.relu(values[:, 0]) - F.relu(values[:, 1]) + F.relu(values[:, 2])], dim=1)

    image = torch.tensor([[[[1.0, 1.0, -1.0]]]])
    positive = torch.tensor([1])  # the network has one output, which speaks for class 1
    assert input_gradients(Two(), image, positive).flatten().tolist() == [1.0, -1.0, 0.0]
    assert guided_backpropagation(Two(), image, positive).flatten().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["function", "in place", "discarded"])
def test_relus_of_every_kind_are_guided(model: nn.Module, kind: str):
    wanted = guided_backpropagation(model, some_images(), CLASSES)
    torch.testing.assert_close(guided_backpropagation(Small(kind).eval(), some_images(), CLASSES), wanted)


@pytest.mark.parametrize("kind", ["module", "in place"])
def test_relus_of_an_exported_program_are_guided(kind: str):
    model = Small(kind).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (some_images(),)).module()
    wanted = guided_backpropagation(model, some_images(), CLASSES)
    torch.testing.assert_close(guided_backpropagation(program, some_images(), CLASSES), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_depends_on_the_chunk_and_nothing_stays_behind(model: nn.Module, method: Any):
    wanted = method(model, some_images(), CLASSES)
    assert wanted.shape == (3, 1, 20, 20)
    assert wanted.dtype == torch.float32
    torch.testing.assert_close(method(model, some_images(), CLASSES, chunk=2), wanted, atol=1e-6, rtol=1e-4)
    assert all(weight.grad is None for weight in model.parameters())
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(method(model, some_images(), CLASSES), wanted)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_gives_float32_near_full(model: nn.Module, method: Any):
    wanted = method(model, some_images(), CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        found = method(model, some_images(), CLASSES)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().mean() < 0.1 * wanted.abs().max()


def test_the_rule_is_all_but_exact_on_a_smooth_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(3, 2, 9, 9)
    gained = (model(images) - model(torch.zeros_like(images))).gather(1, CLASSES[:, None])[:, 0]
    found = integrated_gradients(model, images, CLASSES, steps=20)
    torch.testing.assert_close(found.sum((1, 2, 3)), gained, atol=1e-6, rtol=1e-5)


def test_smooth_grad_follows_its_seed(model: nn.Module):
    first = smooth_grad(model, some_images(), CLASSES, samples=5, seed=1)
    assert torch.equal(first, smooth_grad(model, some_images(), CLASSES, samples=5, seed=1))
    assert not torch.allclose(first, smooth_grad(model, some_images(), CLASSES, samples=5, seed=2))
    assert not torch.allclose(first, input_gradients(model, some_images(), CLASSES))
    none = smooth_grad(model, some_images(), CLASSES, samples=5, noise=0.0)
    torch.testing.assert_close(none, input_gradients(model, some_images(), CLASSES))


@pytest.mark.parametrize("method", METHODS)
def test_no_more_images_than_the_chunk_run_at_once(model: nn.Module, method: Any):
    counts: list[int] = []
    model.register_forward_pre_hook(lambda _model, given: counts.append(len(given[0])))
    method(model, some_images(), CLASSES, chunk=2)
    assert max(counts) == 2


@pytest.mark.parametrize(
    ("method", "settings", "sentence"),
    [
        (integrated_gradients, {"steps": 0}, "steps is 0; give at least 1"),
        (smooth_grad, {"samples": 0}, "samples is 0; give at least 1"),
        (occlusion, {"window": 0}, "window is 0; give at least 1"),
        (occlusion, {"stride": 0}, "stride is 0; give at least 1"),
        (occlusion, {"window": 3, "stride": 5}, "stride is 5 and leaves pixels between windows of 3; give at most 3"),
    ],
)
def test_a_wrong_setting_is_one_sentence(model: nn.Module, method: Any, settings: dict[str, int], sentence: str):
    with pytest.raises(MriscopeError, match=f"^{sentence}$"):
        method(model, some_images(), CLASSES, **settings)


def test_agrees_with_captum_on_volumes():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 3)
    )
    images = torch.rand(3, 1, 7, 8, 11)
    wanted = quietly(
        lambda: attr.Occlusion(model).attribute(images, (1, 4, 4, 4), strides=(1, 3, 3, 3), target=CLASSES)
    )
    assert (occlusion(model, images, CLASSES, window=4, stride=3) - wanted).abs().max() < 1e-5
    wanted = quietly(lambda: attr.IntegratedGradients(model).attribute(images, target=CLASSES))
    assert (integrated_gradients(model, images, CLASSES) - wanted).abs().max() < 1e-5
    wanted = quietly(lambda: attr.GuidedBackprop(model).attribute(images, target=CLASSES))
    assert (guided_backpropagation(model, images, CLASSES) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_volumes(method: Any):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 3)
    )
    assert method(model, torch.rand(3, 1, 6, 8, 10), CLASSES).shape == (3, 1, 6, 8, 10)


def test_threads_that_share_a_model_get_their_own():
    model, images = Small("in place").eval(), some_images()
    wanted = guided_backpropagation(model, images, CLASSES), input_gradients(model, images, CLASSES)
    start = threading.Barrier(2)

    def explain(place: int) -> bool:
        start.wait()
        method: Any = (guided_backpropagation, input_gradients)[place]
        return all(torch.allclose(method(model, images, CLASSES), wanted[place], atol=1e-6) for _ in range(50))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(explain, range(2))) == [True, True]
    assert not torch.allclose(*wanted)
