"""mriscope.explain.full_grad: computed by hand, and whatever comes behind a layer."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from explain_networks import RunsTwice, n_hooks, seeded, small_net, some_images, some_volumes
from torch import Tensor, nn

from mriscope.explain import FullGrad
from mriscope.explain.full_grad import full_grad

IMAGE = torch.tensor([[[[1.0, 1.0], [2.0, 0.0]]]])
SLOPES = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
CLASS = torch.zeros(1, dtype=torch.int64)


def with_gradients(layer: nn.Module) -> nn.Module:
    """The layer, and a sum of its places times 1, 2, 3 and 5."""
    head = nn.Linear(4, 1)
    with torch.no_grad():
        head.weight.copy_(SLOPES)
    return nn.Sequential(layer, nn.Flatten(), head).eval()


def convolution(bias: float | None) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 1, bias=bias is not None)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        if layer.bias is not None and bias is not None:
            layer.bias.fill_(bias)
    return layer


def norm(shift: float) -> nn.BatchNorm2d:
    """γ = 2, μ = 3, σ = 2, so the bias is the shift less 3."""
    layer = nn.BatchNorm2d(1, eps=0)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(shift)
        layer.running_mean, layer.running_var = torch.tensor([3.0]), torch.tensor([4.0])
    return layer


# |x ∂x| is proportional to 1, 2, 6, 0, stretched 1/6, 1/3, 1, 0; |bias G| to 1, 2, 3, 5, stretched 0, 1/4, 1/2, 1.
INPUT, BIAS = torch.tensor([[[1 / 6, 1 / 3], [1.0, 0.0]]]), torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        pytest.param(convolution(0.5), INPUT + BIAS, id="a convolution's bias"),
        pytest.param(convolution(-0.5), INPUT + BIAS, id="a negative bias"),
        pytest.param(convolution(None), INPUT, id="no bias"),
        pytest.param(convolution(0.0), INPUT, id="a bias of 0"),
        pytest.param(norm(1.0), INPUT + BIAS, id="a batch norm's bias"),
        pytest.param(norm(3.0), INPUT, id="a batch norm that adds nothing"),
    ],
)
def test_a_map_of_2x2_computed_by_hand(layer: nn.Module, wanted: Tensor):
    model = with_gradients(layer)
    torch.testing.assert_close(full_grad(model, IMAGE, CLASS), wanted)
    low, high = wanted.min(), wanted.max()
    torch.testing.assert_close(FullGrad(model)(IMAGE, 0), (wanted - low) / (high - low))


def test_a_batch_norm_without_weights_or_without_statistics():
    plain = nn.BatchNorm2d(1, eps=0, affine=False)
    plain.running_mean = torch.tensor([3.0])
    torch.testing.assert_close(full_grad(with_gradients(plain), IMAGE, CLASS), INPUT + BIAS)  # the bias is -3
    untracked = nn.BatchNorm2d(1, track_running_stats=False)
    assert full_grad(with_gradients(untracked), IMAGE, CLASS).isfinite().all()


def test_a_layer_that_runs_twice_counts_twice():
    model, images = seeded(RunsTwice), some_images(2)
    images.requires_grad_()
    middle = model.stem(images)
    first = model.shared(middle.relu())
    second = model.shared(first.tanh())
    logits = model.out((second + first.tanh()).relu().mean((2, 3)))
    gradients = torch.autograd.grad(logits[:, 2].sum(), [images, middle, first, second])

    def stretched(amounts: Tensor) -> Tensor:
        amounts = amounts - amounts.amin((2, 3), keepdim=True)
        return (amounts / (1e-7 + amounts.amax((2, 3), keepdim=True))).sum(1)

    biases = [layer.bias[:, None, None] for layer in (model.stem, model.shared, model.shared)]
    parts = [images * gradients[0], *[bias * gradient for bias, gradient in zip(biases, gradients[1:], strict=True)]]
    wanted = sum(stretched(part.detach().abs()) for part in parts)
    found = full_grad(model, images.detach(), torch.tensor([2, 2]))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_in_place_operations_change_nothing():
    model, images = small_net(), some_images()
    found = FullGrad(model)(images, 1)
    for place in (2, 5):
        model.features[place] = nn.ReLU()
    torch.testing.assert_close(FullGrad(model)(images, 1), found)
    assert found.amax((1, 2)).tolist() == [1.0] * 6


class Functional(nn.Module):
    """A network's convolutions and norms as functions, as those of no module."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        first, norm, _, pool, last, _ = self.net.features
        maps = F.conv2d(images, first.weight, padding=1, bias=first.bias)
        maps = F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return self.net.head(torch.conv2d(pool(maps.relu()), last.weight, last.bias, padding=1).relu())


def exported(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(net, (some_images(2),)).module()


@pytest.mark.parametrize("make", [Functional, exported])
def test_no_bias_is_lost_where_layers_are_functions(make: Callable[[nn.Module], nn.Module]):
    images, classes = some_images(2), torch.tensor([1, 2])
    wanted = full_grad(small_net(), images, classes)
    torch.testing.assert_close(full_grad(make(small_net()), images, classes), wanted, atol=1e-4, rtol=1e-4)


def test_volumes():
    model = nn.Sequential(nn.Conv3d(1, 3, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    maps = FullGrad(model)(some_volumes(), 1)
    assert maps.shape == (3, 9, 12, 10)
    assert maps.amin((1, 2, 3)).tolist() == [0.0] * 3
    assert maps.amax((1, 2, 3)).tolist() == [1.0] * 3


def test_an_error_in_the_model_leaves_nothing_behind():
    model = small_net().train()
    model.features[1].eval()

    def fail(*_: Any) -> None:
        raise IndexError("broken head")

    with model.head[5].register_forward_hook(fail), pytest.raises(IndexError, match="broken head"):
        FullGrad(model)(some_images())
    assert n_hooks(model) == 0
    assert model.training
    assert not model.features[1].training
    assert all(parameter.grad is None for parameter in model.parameters())
