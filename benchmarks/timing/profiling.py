"""The profile of row 1, and how far it is from what the machine can do."""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from on_gpu.measuring import step_cost
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from mriscope.data.batches import batch, scaled
from mriscope.data.readers import read
from mriscope.models.registry import create_model
from mriscope.recipe import read_recipe
from mriscope.training.devices import pick_device
from timing.notebook import Notebook
from timing.report import Measured
from timing.running import Setting, in_process
from timing.training import notebook_rate, our_rate

SHOWN = 8


def top_operations(run: profile, steps: int) -> list[tuple[str, float]]:
    """Return the operations that took most of the processor by themselves, with ms of a step."""
    found = sorted(run.key_averages(), key=lambda one: one.self_cpu_time_total, reverse=True)
    return [(one.key, one.self_cpu_time_total / 1000 / steps) for one in found[:SHOWN]]


def profile_notebook(folder: Path, steps: int) -> list[tuple[str, float]]:
    iterator = Notebook(folder).steps()
    for _ in itertools.islice(iterator, 3):
        pass
    with profile(activities=[ProfilerActivity.CPU]) as run:
        for _ in itertools.islice(iterator, steps):
            pass
    return top_operations(run, steps)


def profile_ours(folder: Path, steps: int) -> list[tuple[str, float]]:
    """Profile the operations of a step of the package's loop in bfloat16."""
    device, slices = pick_device("cpu"), read(str(folder))
    model = create_model("baseline_cnn", seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(number: int) -> None:
        rows = slices.labels.argsort()[number * 32 : number * 32 + 32]
        pixels, labels = batch(slices, rows, device)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(scaled(pixels, "raw"))
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for number in range(3):
        step(number)
    with profile(activities=[ProfilerActivity.CPU]) as run:
        for number in range(steps):
            step(number)
    return top_operations(run, steps)


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(2 + repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:])


def ceilings(small: bool) -> dict[str, tuple[float, float]]:
    """Return FLOP/s of a matrix product and of a 3×3 convolution, for float32 and bfloat16, and bytes/s of a copy."""
    pick_device("cpu")
    side, images, repeats = (128, 1, 1) if small else (2048, 16, 7)
    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(side, side, dtype=kind) for _ in range(2))
        x, w = torch.randn(images, 64, 64, 64, dtype=kind), torch.randn(64, 64, 3, 3, dtype=kind)
        x, w = (one.to(memory_format=torch.channels_last) for one in (x, w))
        product = 2 * side**3 / seconds_of(lambda a=a, b=b: a @ b, repeats)
        work = 2 * images * 64 * 64 * 64 * 64 * 9
        with torch.no_grad():
            found[name] = product, work / seconds_of(lambda x=x, w=w: functional.conv2d(x, w, padding=1), repeats)
    source = torch.zeros(2**20 if small else 2**28, dtype=torch.uint8)
    target = torch.empty_like(source)
    rate = 2 * len(source) / seconds_of(lambda: target.copy_(source), repeats)
    return {**found, "copy": (rate, rate)}


def measure_profile(setting: Setting) -> Measured:
    """Profile row 1 before and after, beside the machine's ceilings."""
    steps = 1 if setting.quick else 10
    before, after = (in_process(one, setting.data, steps) for one in (profile_notebook, profile_ours))
    rows = [
        [f"`{one}`", f"{ms:.1f}", f"`{other}`", f"{own:.1f}"]
        for (one, ms), (other, own) in zip(before, after, strict=False)
    ]
    found = in_process(ceilings, setting.quick)
    flops = step_cost(create_model("baseline_cnn"), torch.zeros(2, 1, 128, 128)).flops / 2
    notes = [
        f"Of the machine: {name} products {found[name][0] / 1e9:.0f} GFLOP/s, 3×3 convolutions of 64 channels "
        f"{found[name][1] / 1e9:.0f} GFLOP/s."
        for name in ("float32", "bfloat16")
    ]
    notes.append(f"A copy moves {found['copy'][0] / 1e9:.1f} GB/s, read and written.")
    notes.append(shares(setting, flops, found, steps))
    return Measured(
        "Profile of row 1", ["notebook, operation", "ms per step", "mriscope, bfloat16", "ms per step"], rows, notes
    )


def shares(setting: Setting, flops: float, found: dict[str, tuple[float, float]], steps: int) -> str:
    theirs = in_process(notebook_rate, setting.data, steps)
    ours = in_process(our_rate, setting.data, read_recipe("baseline_cnn", ["training.precision=bfloat16"]), steps)
    return (
        f"A slice takes {flops / 1e6:.0f} MFLOP forwards and backwards: the notebook reaches "
        f"{100 * theirs * flops / found['float32'][1]:.0f} % of the convolution's rate in float32, "
        f"mriscope {100 * ours * flops / found['bfloat16'][1]:.0f} % of that in bfloat16."
    )
