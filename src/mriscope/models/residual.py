"""A residual network in the manner of ResNet-9, for a GPU: few wide layers, and a head that reads a map by place."""

from torch import Tensor, nn

from mriscope.models.compact import PlaceCNN, conv_block
from mriscope.models.registry import register


class _Residual(nn.Module):
    """Add what two blocks make of a map to the map itself.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(conv_block(width, width), conv_block(width, width))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.blocks(maps)


class ResidualCNN(PlaceCNN):
    """A strided stem, three stages that halve the map and double the channels, two residual pairs, one linear layer.

    Args:
        classes: number of outputs.
        width: channels of the stem; the last stage has eight times as many.
        places: as of PlaceCNN; so are dropout and mirror.
    """

    def __init__(self, classes: int, width: int, places: int, dropout: float, mirror: bool) -> None:
        features = nn.Sequential(
            conv_block(1, width, 5, 2),
            conv_block(width, 2 * width),
            nn.MaxPool2d(2),
            _Residual(2 * width),
            conv_block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            conv_block(4 * width, 8 * width),
            nn.MaxPool2d(2),
            _Residual(8 * width),
        )
        super().__init__(features, 8 * width, classes, places, dropout, mirror)


@register
def residual_cnn(
    *, classes: int = 4, size: int = 128, width: int = 64, places: int = 4, dropout: float = 0.2, mirror: bool = False
) -> nn.Module:
    """A ResNet-9 of 6.6 million weights whose head reads 4×4 places; made for a GPU."""
    return ResidualCNN(classes, width, places, dropout, mirror)
