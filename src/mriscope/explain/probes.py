"""Logits of masked images, and of outputs that lack a channel; no gradient is needed for either."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriscope.explain.model_tail import ModelTail, repeat_output
from mriscope.explain.scores import at_least_float32

_FEW_VALUES = 2**22  # of outputs that may always run at once; 16 MiB
_FAR = 1e7  # how far below its minimum a channel is set that could be negative, as Ablation-CAM's peers have it


@dataclass(frozen=True)
class Probes:
    """Logits for changed inputs of one layer, computed when they are first used and then kept for every class.

    Args:
        model: in eval mode.
        layer: the module.
        images: (B, C, ...), on the model's device.
        output: the layer's output for them, as the model holds it.
        activations: the same, read as float32 (B, C, h, w) or (B, C, d, h, w).
        logits: (B, K), for the images as they are.
        chunk: how many changed inputs run at once; more outputs of a layer, where those are small.
        precision: the dtype of the autocast under which the model runs; None without one.
    """

    model: nn.Module
    layer: nn.Module
    images: Tensor
    output: Tensor
    activations: Tensor
    logits: Tensor
    chunk: int
    precision: torch.dtype | None = None

    @cached_property
    def masked(self) -> Tensor:
        """Return logits for each image under the mask of each channel; float32 (B, C, K).

        A mask is the channel resized to the image, from 0 to 1. Those of channels without contrast are 0 everywhere,
        and share one pass.
        """
        with self._as_called():
            return torch.stack([self._mask(*pair) for pair in zip(self.images, self.activations, strict=True)])

    @cached_property
    def ablated(self) -> Tensor:
        """Return logits for each image where the layer lacks one channel; float32 (B, C, K).

        Only the part behind the layer runs. Lacking is 0 where the image's activations reach down to 0, else 1e7 below
        their minimum.
        """
        with self._as_called():
            replayable = None
            found: list[Tensor] = []
            for row in range(len(self.images)):
                image, output = self.images[row : row + 1], self.output[row : row + 1]
                tail = ModelTail(self.model, self.layer, image, output, replayable)
                replayable = tail.replayable  # a matter of the model, so the first image tells
                found.append(self._ablate(row, tail))
            return torch.stack(found)

    @cached_property
    def blank(self) -> Tensor:
        """Return logits for an image of zeros; float32 (1, K)."""
        return self._logits(torch.zeros_like(self.images[:1]))

    @contextmanager
    def _as_called(self) -> Iterator[None]:
        kind = self.images.device.type
        with torch.no_grad(), torch.autocast(kind, self.precision, enabled=self.precision is not None):
            yield

    def _mask(self, image: Tensor, maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        with_contrast = (flat.amax(1) > flat.amin(1)).nonzero()[:, 0]
        found = self.blank.expand(len(maps), -1).clone()
        for channels in with_contrast.split(self.chunk):
            found[channels] = self._logits(image[None] * _masks(maps[channels], image.shape[1:])[:, None])
        return found

    def _logits(self, images: Tensor) -> Tensor:
        return at_least_float32(self.model(images.to(self.images.dtype)))

    def _ablate(self, row: int, tail: ModelTail) -> Tensor:
        output = self.output[row : row + 1]
        # Channels are the second axis of maps, and the last one of what is reshaped to them.
        axis = 1 if output.shape[1:] == self.activations.shape[1:] else output.ndim - 1
        low = output.min()
        lacking = torch.where(low == 0, low, low - _FAR)
        active = (output.movedim(axis, 0).flatten(1) != lacking).any(1).nonzero()[:, 0]  # the others change nothing
        found = at_least_float32(self.logits[row]).expand(output.shape[axis], -1).clone()
        for channels in active.split(max(self.chunk, _FEW_VALUES // output.numel())):
            without = repeat_output(output, len(channels))
            without.movedim(axis, 1)[torch.arange(len(channels)), channels] = lacking
            found[channels] = at_least_float32(tail(without))
        return found


def _masks(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return channels (N, h, w) resized to the image and stretched from 0 to 1 each."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    masks = F.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=True)[:, 0]
    axes = tuple(range(1, masks.ndim))
    low = masks.amin(axes, keepdim=True)
    return (masks - low) / (masks.amax(axes, keepdim=True) - low + 1e-8)
