"""The study's BaselineCNN and its variants: conv, ReLU, pool, batch norm in each stage, then two linear layers."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from mriscope.models.layers import Flatten, Stages
from mriscope.models.registration import register


class BaselineCNN(nn.Module):
    """Stages of 3×3 convolution, ReLU, 2×2 pooling and batch norm, then two linear layers.

    Args:
        classes: number of outputs.
        size: height and width of the input in pixels.
        widths: channels of each stage.
        last_norm: whether the last stage ends in batch norm, as all others do.
        stage_dropout: share dropped at the end of each stage.
        head_dropout: share dropped before the last linear layer.
    """

    def __init__(
        self,
        classes: int,
        size: int,
        *,
        widths: Sequence[int] = (32, 64),
        last_norm: bool = True,
        stage_dropout: Sequence[float] = (0, 0, 0),
        head_dropout: float = 0,
    ) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, (before, width) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            layers[f"conv{stage}"] = nn.Conv2d(before, width, 3, padding=1)
            layers[f"relu{stage}"] = nn.ReLU()
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
            if last_norm or stage < len(widths):
                layers[f"batchnorm{stage}"] = nn.BatchNorm2d(width)
            if stage_dropout[stage - 1]:
                layers[f"dropout{stage}"] = nn.Dropout(stage_dropout[stage - 1])
        self.features = Stages(layers)
        self.pool = Flatten()
        side = size // 2 ** len(widths)
        head = OrderedDict[str, nn.Module](fc1=nn.Linear(widths[-1] * side**2, 128), relu=nn.ReLU())
        if head_dropout:
            head["dropout"] = nn.Dropout(head_dropout)
        head["out"] = nn.Linear(128, classes)
        self.head = nn.Sequential(head)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, size, size)."""
        return self.head(self.pool(self.features(images)))


@register
def baseline_cnn(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The study's BaselineCNN: conv3 32, conv3 64, FC 128; also its HEM and weighted-sampler runs."""
    return BaselineCNN(classes, size, last_norm=False)


@register
def baseline_cnn_ce(*, classes: int = 4, size: int = 128) -> nn.Module:
    """BaselineCNN with batch norm after both stages and dropout 0.3, 0.4 and 0.5."""
    return BaselineCNN(classes, size, stage_dropout=(0.3, 0.4), head_dropout=0.5)


@register
def baseline_cnn_ce_dropped(*, classes: int = 4, size: int = 128) -> nn.Module:
    """BaselineCNN with batch norm after both stages and dropout 0.2 and 0.3."""
    return BaselineCNN(classes, size, stage_dropout=(0, 0.2), head_dropout=0.3)


@register
def baseline_cnn_ce_drop01(*, classes: int = 4, size: int = 128) -> nn.Module:
    """BaselineCNN with batch norm after both stages and dropout 0.1 before the output."""
    return BaselineCNN(classes, size, head_dropout=0.1)


@register
def baseline_cnn_ce_conv_add(*, classes: int = 4, size: int = 128) -> nn.Module:
    """BaselineCNN with a third stage of 128 channels and dropout 0.1 before the output."""
    return BaselineCNN(classes, size, widths=(32, 64, 128), head_dropout=0.1)


@register
def baseline_cnn_ce_conv_added_drop_minus(*, classes: int = 4, size: int = 128) -> nn.Module:
    """BaselineCNN with a third stage of 128 channels and no dropout."""
    return BaselineCNN(classes, size, widths=(32, 64, 128))
