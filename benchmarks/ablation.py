"""Ablation-CAM by the whole model for each channel, and by the part behind the layer (ModelTail), side by side.

    python3 run.py bench ablation

One slice of 1×128×128, networks with random weights, explained at their last convolution; one thread, processor time,
medians of rounds in which both take turns.
"""

import gc
import statistics
import time
from unittest import mock

import torch
from torch import nn
from torchvision.models import resnet18

from mriscope.explain import AblationCAM
from mriscope.explain.model_tail import ModelTail
from mriscope.models.registry import create_model

ROUNDS = 3


def networks() -> dict[str, tuple[nn.Module, str | None]]:
    """Return each network, and the layer that is explained; None takes the last convolution."""
    torch.manual_seed(0)
    resnet = resnet18(num_classes=4)
    resnet.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    ours = {name: (create_model(name, seed=0).eval(), None) for name in ("baseline_cnn", "keras_like", "compact_cnn")}
    return {**ours, "ResNet-18": (resnet.eval().to(memory_format=torch.channels_last), "layer4")}


def seconds(model: nn.Module, layer: str | None, image: torch.Tensor, *, whole: bool) -> float:
    """Return the processor time of one explanation; whole switches the replay off."""
    gc.collect()
    reproduces = mock.patch.object(ModelTail, "_reproduces", return_value=False) if whole else mock.MagicMock()
    with reproduces:
        started = time.process_time()
        AblationCAM(model, layer)(image, 1)
        return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    image = torch.rand(1, 1, 128, 128)
    print("| network | whole model for each channel | only the part behind the layer | gain |\n|---|---|---|---|")
    for name, (model, layer) in networks().items():
        rounds = [[seconds(model, layer, image, whole=whole) for whole in (True, False)] for _ in range(1 + ROUNDS)]
        plain, tail = (statistics.median(taken) for taken in zip(*rounds[1:], strict=True))
        print(f"| {name} | {plain:.3f} s | {tail:.3f} s | {plain / tail:.1f} × |", flush=True)


if __name__ == "__main__":
    main()
