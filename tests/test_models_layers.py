"""Layers that train faster give the bits of torch's own."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mriscope.models.baseline_cnn import BaselineCNN
from mriscope.models.layers import Flatten, Stages


def maps_with_ties(channels: int = 3) -> Tensor:
    """Whole numbers around 0: most windows of 2×2 hold the greatest twice, or nothing above 0."""
    whole = torch.randint(-2, 2, (4, channels, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    return whole.contiguous(memory_format=torch.channels_last)


def outputs_and_gradients(layers: nn.Module, images: Tensor) -> Sequence[Tensor]:
    given = images.clone().requires_grad_()
    found = layers(given)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
    gradients = [one.grad for one in layers.parameters()]
    assert given.grad is not None
    return [found.detach(), given.grad, *(one for one in gradients if one is not None)]


def test_a_relu_behind_the_pooling_changes_no_bit():
    images, layers = maps_with_ties(), [nn.ReLU(), nn.MaxPool2d(2)]
    plain, ours = outputs_and_gradients(nn.Sequential(*layers), images), outputs_and_gradients(Stages(*layers), images)
    assert plain[1].count_nonzero() > 100
    for one, other in zip(plain, ours, strict=True):
        assert torch.equal(one, other)


def test_layers_keep_their_order_where_nothing_is_trained():
    seen: list[int] = []
    layers = Stages(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda *_, number=number: seen.append(number))
    layers(maps_with_ties())
    layers.eval()(maps_with_ties())
    assert seen == [0, 2, 1, 3, 4, 0, 1, 2, 3, 4]


def test_flattened_maps_get_their_gradient_in_their_own_format():
    given = maps_with_ties().requires_grad_()
    maps = given * 1.0
    formats: list[bool] = []
    flat = Flatten()(maps)
    maps.register_hook(lambda one: formats.append(one.is_contiguous(memory_format=torch.channels_last)))
    assert torch.equal(flat, maps.flatten(1))
    weight = torch.arange(flat.numel()).view_as(flat)
    (flat * weight).sum().backward()
    assert formats == [True]
    assert given.grad is not None
    assert torch.equal(given.grad.flatten(1), weight.float())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("last_norm", [False, True])
def test_baseline_cnn_trains_as_plain_layers_do(last_norm: bool, half: bool):
    torch.manual_seed(0)
    model = BaselineCNN(4, 8, widths=(4, 6), last_norm=last_norm).to(memory_format=torch.channels_last)
    plain = nn.Sequential(nn.Sequential(*model.features), nn.Flatten(), *model.head)
    images = maps_with_ties(1)
    found = []
    for one in (plain, model):
        one.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(outputs_and_gradients(one, images))
    assert len(found[0]) == 12 + 2 * last_norm
    # Batch norm sums in another order where its gradient has another memory format; without it no bit differs.
    error = 0.0 if not last_norm else 2**-6 if half else 1e-5
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=error, atol=error * float(theirs.abs().max()))
