"""A residual network in the manner of ResNet-9, for a GPU: few wide layers, and a head that reads a map by place."""

from torch import Tensor, nn

from mriscope.models.registry import register


def _block(before: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, batch norm and ReLU; the stride alone shrinks the map."""
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    """Add what two blocks make of a map to the map itself.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_block(width, width), _block(width, width))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.blocks(maps)


class ResidualCNN(nn.Module):
    """A strided stem, three stages that halve the map and double the channels, two residual pairs, one linear layer.

    Registered slices show the same anatomy at the same place, so the head keeps places apart where `places` is above 1.

    Args:
        classes: number of outputs.
        width: channels of the stem; the last stage has eight times as many.
        places: side of the map that the head reads; 1 is the mean over all places.
        dropout: share of the head's inputs dropped.
        mirror: in evaluation, predict with the mean of the logits of a slice and of its mirror image.
    """

    def __init__(self, classes: int, width: int, places: int, dropout: float, mirror: bool) -> None:
        super().__init__()
        self.mirror = mirror
        self.features = nn.Sequential(
            _block(1, width, 5, 2),
            _block(width, 2 * width),
            nn.MaxPool2d(2),
            _Residual(2 * width),
            _block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _block(4 * width, 8 * width),
            nn.MaxPool2d(2),
            _Residual(8 * width),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(places), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(8 * width * places**2, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes) of images (B, 1, H, W)."""
        logits = self._logits(images)
        return (logits + self._logits(images.flip(-1))) / 2 if self.mirror and not self.training else logits

    def _logits(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.features(images)))


@register
def residual_cnn(
    *, classes: int = 4, size: int = 128, width: int = 64, places: int = 4, dropout: float = 0.2, mirror: bool = False
) -> nn.Module:
    """A ResNet-9 of 6.6 million weights whose head reads 4×4 places; made for a GPU."""
    return ResidualCNN(classes, width, places, dropout, mirror)
