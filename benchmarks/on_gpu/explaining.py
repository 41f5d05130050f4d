"""Explanations on the device: images per second of each method, and how far its maps are from the CPU's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from mriscope.data.batches import scaled
from mriscope.data.readers import read
from mriscope.explain import METHODS, explain
from mriscope.models.registry import create_model
from on_gpu.measuring import median_seconds
from on_gpu.setting import Setting

BATCHES = (16, 64)
PATIENCE_S = 0.5  # no further repeat begins after so many timed seconds
MOST_CPU_S = 3.0  # a batch that will take a CPU longer is not tried


@dataclass(frozen=True)
class MethodSpeed:
    """One method on one network.

    Args:
        network: BaselineCNN or ResNet-18, with random weights.
        method: by mriscope's name.
        gpu: images per second on the device by batch size.
        cpu: the same on the processor of the same machine; None where it was not tried.
        difference: largest absolute difference of normalised maps between device and CPU, in float32 convolutions.
        difference_tf32: the same with TF32 convolutions, which is PyTorch's default.
    """

    network: str
    method: str
    gpu: dict[int, float]
    cpu: dict[int, float | None]
    difference: float
    difference_tf32: float


@dataclass(frozen=True)
class ExplainResult:
    """All methods; `threads` of the CPU were used."""

    threads: int
    methods: list[MethodSpeed]

    def table(self) -> str:
        sizes = BATCHES if len(self.methods) and set(self.methods[0].gpu) == set(BATCHES) else (2,)
        head = " | ".join(f"GPU, batch {size} | CPU, batch {size}" for size in sizes)
        lines = [
            f"Images per second; the CPU uses {self.threads} threads; differences are of maps in [0, 1].",
            "",
            f"| network | method | {head} | difference, float32 | TF32 |",
            "|" + "---|" * (4 + 2 * len(sizes)),
        ]
        for one in self.methods:
            speeds = " | ".join(f"{one.gpu[size]:,.0f} | {_shown(one.cpu[size])}" for size in sizes)
            lines.append(
                f"| {one.network} | {one.method} | {speeds} | {one.difference:.1e} | {one.difference_tf32:.1e} |"
            )
        return "\n".join(lines)


def measure_explain(setting: Setting) -> ExplainResult:
    """Measure every method of mriscope.explain on both networks, on real slices."""
    sizes = (2,) if setting.quick else BATCHES
    pixels = torch.from_numpy(read(setting.data).images[: max(sizes)].copy())
    images = scaled(pixels, "unit").contiguous()
    methods = ("gradcam", "ablationcam") if setting.quick else tuple(METHODS)
    found: list[MethodSpeed] = []
    for network, model in _networks().items():
        for method in methods:
            if setting.left() < 0:
                return ExplainResult(torch.get_num_threads(), found)
            found.append(_measure(network, model, method, images, sizes, setting.device))
    return ExplainResult(torch.get_num_threads(), found)


def _networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    resnet = resnet18(num_classes=4)
    resnet.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return {"BaselineCNN": create_model("baseline_cnn", seed=0).eval(), "ResNet-18": resnet.eval()}


def _measure(
    network: str, model: nn.Module, method: str, images: Tensor, sizes: tuple[int, ...], device: torch.device
) -> MethodSpeed:
    cpu, gpu = torch.device("cpu"), {}
    on_cpu: dict[int, float | None] = {}
    model.to(cpu)
    rate = 0.0  # images per second of the smaller batch
    for size in sizes:
        if rate and size / rate > MOST_CPU_S:
            on_cpu[size] = None
            continue
        work = partial(explain, model, images[:size], (method,), 1)
        warm_up = partial(explain, model, images[:1], (method,), 1)
        warm_up()
        seconds, _ = median_seconds(work, cpu, repeats=5, warm_up=0, at_most_s=PATIENCE_S)
        rate = size / seconds
        on_cpu[size] = rate
    few = images[: sizes[0]]
    here = explain(model, few, (method,), 1)[method].maps
    model.to(device)
    there = images.to(device)
    for size in sizes:
        work = partial(explain, model, there[:size], (method,), 1)
        seconds, _ = median_seconds(work, device, repeats=9, at_most_s=PATIENCE_S)
        gpu[size] = size / seconds
    differences = []
    for allowed in (False, True):
        with _tf32(allowed):
            maps = explain(model, few.to(device), (method,), 1)[method].maps.cpu()
        differences.append(float((maps - here).abs().max()))
    return MethodSpeed(network, method, gpu, on_cpu, *differences)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _shown(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:,.1f}"
