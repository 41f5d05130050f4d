"""Layers that compute what torch's do, and train faster on a CPU."""

import torch
from torch import Tensor, nn


class Stages(nn.Sequential):
    """Layers one after the other; in training, a ReLU goes behind the max pooling that follows it.

    The greatest of several numbers above 0 is the same before and after, and where none is above 0 no gradient passes
    either way, so that values and gradients are equal to the last bit, and the ReLU has a quarter of the pixels to do.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what the layers make of maps, float (B, C, H, W)."""
        maps, layers = input, list(self)
        for place, (one, following) in enumerate(zip(self, list(self)[1:], strict=False)):
            if self.training and isinstance(one, nn.ReLU) and isinstance(following, nn.MaxPool2d):
                layers[place : place + 2] = following, one
        for layer in layers:
            maps = layer(maps)
        return maps


class Flatten(nn.Flatten):
    """Flatten maps; in training, their gradient comes back in the memory format that they have.

    torch gives it channels first, and on a CPU the max pooling before then reorders its whole input and output.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return float (B, C · H · W) of float (B, C, H, W)."""
        reordered = input.device.type == "cpu" and input.is_contiguous(memory_format=torch.channels_last)
        if self.training and input.requires_grad and reordered:
            input.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
        return super().forward(input)
