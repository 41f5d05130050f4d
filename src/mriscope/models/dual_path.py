"""The study's StudyModel_1: two paths over one slice, with small and large kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mriscope.models.layers import Stages
from mriscope.models.registration import register


class DualPath(nn.Module):
    """Two parallel convolutional paths, each reduced to 128 numbers; two linear layers join them.

    Args:
        classes: number of outputs.
        size: height and width of the input in pixels.
        kernels: kernel size of each path.
        widths: channels of the three stages of each path; the first two stages have two convolutions.
    """

    def __init__(self, classes: int, size: int, *, kernels: Sequence[int], widths: Sequence[Sequence[int]]) -> None:
        super().__init__()
        paths = [_path(kernel, stages) for kernel, stages in zip(kernels, widths, strict=True)]
        self.features = _ParallelPaths(paths)
        self.pool = _ReducePaths([stages[-1] for stages in widths], (size // 8) ** 2)
        self.head = nn.Sequential(nn.Linear(128 * len(paths), 128), nn.ReLU(), nn.Linear(128, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, size, size)."""
        return self.head(self.pool(self.features(images)))


class _ParallelPaths(nn.Module):
    """Concatenate the maps of several paths along the channels."""

    def __init__(self, paths: Sequence[nn.Module]) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([path(images) for path in self.paths], dim=1)


class _ReducePaths(nn.Module):
    """Flatten the maps of each path and reduce them to 128 numbers by a linear layer of its own."""

    def __init__(self, widths: Sequence[int], places: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width * places, 128), nn.ReLU()) for width in widths)

    def forward(self, maps: Tensor) -> Tensor:
        parts = maps.split(self.widths, dim=1)
        return torch.cat([layer(part.flatten(1)) for layer, part in zip(self.layers, parts, strict=True)], dim=1)


def _path(kernel: int, widths: Sequence[int]) -> nn.Module:
    """Build a path: two stages of two convolutions, one of one, each with pooling, then batch norm and dropout."""
    layers: list[nn.Module] = []
    before = 1
    for width, repeats in zip(widths, (2, 2, 1), strict=True):
        for _ in range(repeats):
            layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return Stages(*layers, nn.BatchNorm2d(before), nn.Dropout(0.2))


@register
def study_model(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The study's StudyModel_1 (its run is StudyModel_Halved): paths of conv3 and conv5, joined by FC 128."""
    return DualPath(classes, size, kernels=(3, 5), widths=((16, 64, 256), (32, 128, 512)))
