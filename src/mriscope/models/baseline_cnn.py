"""The study's BaselineCNN: two convolutions and two linear layers."""

from collections import OrderedDict

from torch import Tensor, nn

from mriscope.models.registry import register


class BaselineCNN(nn.Module):
    """Two stages of convolution, ReLU and 2×2 pooling, then two linear layers.

    Args:
        classes: number of outputs.
        size: height and width of the input in pixels.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 32, 3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                batchnorm1=nn.BatchNorm2d(32),
                conv2=nn.Conv2d(32, 64, 3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
            )
        )
        self.pool = nn.Flatten()
        self.head = nn.Sequential(
            OrderedDict(fc1=nn.Linear(64 * (size // 4) ** 2, 128), relu=nn.ReLU(), out=nn.Linear(128, classes))
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.features(images)))


@register
def baseline_cnn(*, classes: int = 4, size: int = 128) -> nn.Module:
    """The reference study's BaselineCNN: conv3 32, conv3 64, FC 128."""
    return BaselineCNN(classes, size)
