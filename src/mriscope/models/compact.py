"""A small network for subject-disjoint evaluation: cheap enough to train many folds of a cross-validation on a CPU."""

from torch import Tensor, nn

from mriscope.models.registration import register


def _block(before: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    """Return convolution (without bias, as batch norm has one), batch norm and ReLU; the stride alone downsamples."""
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class CompactCNN(nn.Module):
    """Strided convolutions down to a sixteenth of the side, global average pooling, and one linear layer.

    Args:
        classes: number of outputs.
        dropout: share of the pooled channels dropped before the output.
    """

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(1, 16, 7, 4),  # most of a small network's time goes into its first, large maps
            _block(16, 32, 3, 2),
            _block(32, 64, 3, 2),
            _block(64, 64, 3, 1),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, H, W)."""
        return self.head(self.pool(self.features(images)))


@register
def compact_cnn(*, classes: int = 4, size: int = 128, dropout: float = 0.3) -> nn.Module:
    """Four strided convolutions with batch norm, global average pooling and dropout: 61 thousand weights."""
    return CompactCNN(classes, dropout)
