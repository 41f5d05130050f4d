"""Networks on which explanations are tested: what disturbs an explanation, as small as it can be."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from mriscope.models.baseline_cnn import BaselineCNN

GRADIENT_METHODS = (
    "gradcam",
    "gradcam++",
    "xgradcam",
    "hirescam",
    "layercam",
    "elementwise",
    "eigengradcam",
    "finercam",
)
LAYER_METHODS = (*GRADIENT_METHODS, "eigencam", "scorecam", "ablationcam")
CAM_METHODS = (*LAYER_METHODS, "fullgrad")


class SmallNet(nn.Module):
    """Batch norm, in-place ReLUs behind both convolutions, pooling, dropout, two linear layers."""

    def __init__(self, channels: int = 1, classes: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Dropout(), nn.Linear(16, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class SmallVolumeNet(nn.Module):
    """A 3-D network with an odd number of places along each axis of its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 6, 3, stride=2, padding=1), nn.BatchNorm3d(6), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(48, 4))

    def forward(self, volumes: Tensor) -> Tensor:
        return self.head(self.features(volumes))


class Concatenating(nn.Module):
    """What comes before a layer is used again behind it, as in DenseNet and U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.late = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.mix, self.out = nn.Conv2d(12, 7, 3, padding=1), nn.Linear(7, 4)

    def forward(self, images: Tensor) -> Tensor:
        early = self.stem(images).relu()
        joined = torch.cat([images, early, self.late(early).relu_()], 1)
        return self.out(self.mix(joined).relu().mean((2, 3)))


class ReadsBatchSize(nn.Module):
    """Reads the number of images before a layer and uses it behind."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.out = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        return self.out(self.late(images).relu().reshape(count, 6, -1).amax(2))


class RunsTwice(nn.Module):
    """One convolution that runs twice, the second time on its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        first = self.shared(self.stem(images).relu()).tanh()
        return self.out((self.shared(first) + first).relu().mean((2, 3)))


def seeded(make: Any, *args: Any, seed: int = 1, **kwargs: Any) -> Any:
    """A network in eval mode with weights of its own, and batch norms that have seen something."""
    torch.manual_seed(seed)
    model = make(*args, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.7, 1.3)
    return model.eval()


def small_net(seed: int = 1, classes: int = 4) -> SmallNet:
    return seeded(SmallNet, classes=classes, seed=seed)


def baseline() -> nn.Module:
    return seeded(BaselineCNN, 4, 32, last_norm=False)


def resnet18() -> nn.Module:
    return seeded(importlib.import_module("torchvision").models.resnet18, weights=None, num_classes=4)


def _transformer(name: str, **settings: Any) -> nn.Module:
    """Weights large enough for answers to depend on the image, which those that training begins from are not."""
    model = seeded(importlib.import_module("timm").create_model, name, img_size=64, num_classes=4, **settings)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return model


def vit() -> nn.Module:
    return _transformer("vit_tiny_patch16_224", depth=2)


def swin() -> nn.Module:
    return _transformer("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 2), embed_dim=24, window_size=4)


def some_images(count: int = 6, channels: int = 1, size: int = 20, seed: int = 7) -> Tensor:
    """Noise from -0.5 to 1.5."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5


def some_volumes(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 9, 12, 10, generator=torch.Generator().manual_seed(7))


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
