"""Seconds that wait for the device, what the device can do at most, and what a training step must do at least."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

BYTES_OF_A_VALUE = 2  # bfloat16
BYTES_OF_A_WEIGHT = 42
"""AdamW in float32 reads weight, gradient and two moments and writes three of them (28); the gradient is written (4);
the bfloat16 copy is made (6) and read forwards and backwards (4)."""


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(
    work: Callable[[], object], device: torch.device, *, repeats: int, warm_up: int = 1, at_most_s: float = 1e9
) -> tuple[float, int]:
    """Return the median seconds of some work, each time waited for, and how often it was timed.

    Args:
        repeats: how often it is timed at most.
        warm_up: runs before, which are not timed.
        at_most_s: no further repeat begins once the timed ones took so long.
    """
    for _ in range(warm_up):
        work()
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < at_most_s:
        wait_for(device)
        started = time.perf_counter()
        work()
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), len(seconds)


@dataclass(frozen=True)
class Ceilings:
    """What the device reached in plain operations.

    Args:
        matmul: FLOP/s of a square matrix product in bfloat16.
        convolution: FLOP/s of a 3×3 convolution of 256 channels in bfloat16, channels last.
        bandwidth: bytes/s of a copy within the device, read and written.
    """

    matmul: float
    convolution: float
    bandwidth: float


def measure_ceilings(device: torch.device, *, small: bool) -> Ceilings:
    """Measure the device's ceilings on random numbers; `small` takes sizes for a try on a CPU."""
    side, images, count = (256, 2, 2**20) if small else (8192, 256, 2**30)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    matmul, _ = median_seconds(lambda: a @ b, device, repeats=20, warm_up=3)
    x = torch.randn(images, 256, 32, 32, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    w = torch.randn(256, 256, 3, 3, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    convolution, _ = median_seconds(lambda: functional.conv2d(x, w, padding=1), device, repeats=20, warm_up=3)
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy, _ = median_seconds(lambda: target.copy_(source), device, repeats=20, warm_up=3)
    work = 2 * images * 32 * 32 * 256 * 256 * 9
    return Ceilings(2 * side**3 / matmul, work / convolution, 2 * count / copy)


@dataclass(frozen=True)
class StepCost:
    """The least that a training step must do, layer by layer.

    Args:
        flops: of the step, forwards and backwards.
        bytes: each layer's input and output once forwards and twice backwards in bfloat16, and the weights' update.
    """

    flops: float
    bytes: float

    def floor_seconds(self, ceilings: Ceilings) -> float:
        """Return the longer of the two times that arithmetic and memory need at the device's ceilings."""
        return max(self.flops / ceilings.matmul, self.bytes / ceilings.bandwidth)


def step_cost(model: nn.Module, images: Tensor) -> StepCost:
    """Count what a training step of a batch costs at least; the model's gradients are left in place."""
    values = 0

    def count(_module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal values
        values += sum(one.numel() for one in (*inputs, output) if isinstance(one, Tensor))

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    weights = sum(one.numel() for one in model.parameters() if one.requires_grad)
    return StepCost(counter.get_total_flops(), 3 * values * BYTES_OF_A_VALUE + weights * BYTES_OF_A_WEIGHT)
