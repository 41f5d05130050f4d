"""The study's KerasLikeModel and ModelOdGPT: stages of conv, ReLU, batch norm and pool, then three linear layers."""

from collections.abc import Sequence

from torch import Tensor, nn

from mriscope.models.layers import Flatten
from mriscope.models.registration import register


class KerasLike(nn.Module):
    """Stages of convolution, ReLU, batch norm and 2×2 pooling, then three linear layers.

    Args:
        classes: number of outputs.
        size: height and width of the input in pixels.
        kernel: of every convolution.
        widths: channels of each stage.
        stage_dropout: share dropped after each stage.
        hidden: width of the first linear layer; the second has 64.
        head_norm: batch norm after the first linear layer.
        head_dropout: share dropped before the output.
    """

    def __init__(
        self,
        classes: int,
        size: int,
        *,
        kernel: int,
        widths: Sequence[int],
        stage_dropout: Sequence[float],
        hidden: int,
        head_norm: bool = False,
        head_dropout: float = 0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width, dropped in zip((1, *widths), widths, stage_dropout, strict=False):
            layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.ReLU(), nn.BatchNorm2d(width)]
            layers += [nn.MaxPool2d(2), *([nn.Dropout(dropped)] if dropped else [])]
        self.features = nn.Sequential(*layers)
        self.pool = Flatten()
        side = size // 2 ** len(widths)
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * side**2, hidden),
            nn.ReLU(),
            *([nn.BatchNorm1d(hidden)] if head_norm else []),
            nn.Linear(hidden, 64),
            nn.ReLU(),
            *([nn.Dropout(head_dropout)] if head_dropout else []),
            nn.Linear(64, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, size, size)."""
        return self.head(self.pool(self.features(images)))


@register
def keras_like(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The study's KerasLikeModel: conv3 stages 16, 64, 128, 256, 512, FC 128, FC 64."""
    dropped = (0.05, 0, 0.2, 0, 0.2)
    widths = (16, 64, 128, 256, 512)
    return KerasLike(
        classes, size, kernel=3, widths=widths, stage_dropout=dropped, hidden=128, head_norm=True, head_dropout=0.2
    )


@register
def gpt_cnn(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The study's ModelOdGPT: conv5 stages 16, 32, 64, FC 256, FC 64."""
    return KerasLike(classes, size, kernel=5, widths=(16, 32, 64), stage_dropout=(0.1, 0.1, 0.2), hidden=256)
