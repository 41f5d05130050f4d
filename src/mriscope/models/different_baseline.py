"""The study's DifferentOdBaseline: two wide convolutions without batch norm."""

from collections import OrderedDict

from torch import Tensor, nn

from mriscope.models.layers import Flatten, Stages
from mriscope.models.registration import register


class DifferentBaseline(nn.Module):
    """Two stages of 5×5 convolution, ReLU and 2×2 pooling, then two linear layers.

    Args:
        classes: number of outputs.
        size: height and width of the input in pixels.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.features = Stages(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 32, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
            )
        )
        self.pool = Flatten()
        self.head = nn.Sequential(
            OrderedDict(fc1=nn.Linear(32 * (size // 4) ** 2, 64), relu=nn.ReLU(), out=nn.Linear(64, classes))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, size, size)."""
        return self.head(self.pool(self.features(images)))


@register
def different_baseline(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The study's DifferentOdBaseline: conv5 16, conv5 32, FC 64, no batch norm."""
    return DifferentBaseline(classes, size)
