"""The audit of many slices on the device: seconds, memory, and whether the subjects found are the true ones."""

import resource
import time
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from mriscope.audit.subjects import recover_subjects
from on_gpu.measuring import wait_for
from on_gpu.setting import Setting

COUNTS = (5_000, 100_000)
BASE = "phantom_base.npy"
AT_ONCE = 50  # subjects made together


@dataclass(frozen=True)
class AuditSize:
    """recover_subjects on some number of slices.

    Args:
        device: where it ran.
        slices: how many, of 64×64 pixels.
        seconds: by the clock, once.
        device_gib: peak of the device's memory; 0 on a CPU.
        process_gib: peak of the process's memory so far.
        with_subject: share of the slices whose subject is beyond doubt.
        rand_index: adjusted, of the subjects found with the true ones.
    """

    device: str
    slices: int
    seconds: float
    device_gib: float
    process_gib: float
    with_subject: float
    rand_index: float


@dataclass(frozen=True)
class AuditResult:
    """Rising sizes on the device, the smallest on the CPU too, and whether both found the same subjects there."""

    sizes: list[AuditSize]
    same_as_cpu: bool

    def table(self) -> str:
        lines = [
            "| device | slices | s | device GiB | process GiB | with a subject | adjusted Rand index |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.device} | {one.slices:,} | {one.seconds:.1f} | {one.device_gib:.2f} | {one.process_gib:.2f} "
            f"| {one.with_subject:.4f} | {one.rand_index:.4f} |"
            for one in self.sizes
        ]
        return "\n".join([*lines, f"\nThe same subjects on device and CPU at the smallest size: {self.same_as_cpu}."])


def measure_audit(setting: Setting) -> AuditResult:
    """Recover the subjects of slices made from the phantom, as benchmarks/subjects.py makes them."""
    base = np.load(setting.carried / BASE)
    counts = (1_000,) if setting.quick else COUNTS
    images = make_slices(base, max(counts), setting.device)
    recover_subjects(images[:100], device=str(setting.device))  # what is loaded at first use is no part of the time
    here, first = _measure(images, base.shape[1], counts[0], torch.device("cpu"))
    sizes, same = [first], False
    for count in counts:
        there, size = _measure(images, base.shape[1], count, setting.device)
        same = same or (count == counts[0] and np.array_equal(here, there))
        sizes.append(size)
        print(size, flush=True)
    return AuditResult(sizes, same)


def make_slices(base: np.ndarray, count: int, device: torch.device) -> np.ndarray:
    """Return uint8 (count, H, W) slices, those of each subject together.

    Every subject is one of the base's, bent and shaded by a smooth random field that is the same for all its slices.

    Args:
        base: uint8 (S, L, H, W), L slices of S subjects.
        count: how many slices.
        device: where they are made.
    """
    subjects, slices, side = base.shape[:3]
    generator = torch.Generator().manual_seed(0)
    plain = affine_grid(torch.eye(2, 3)[None], [1, 1, side, side], align_corners=False).to(device)
    originals = torch.from_numpy(base).to(device)
    made: list[Tensor] = []
    for first in range(0, -(-count // slices), AT_ONCE):
        coarse = torch.randn(AT_ONCE, 3, 7, 7, generator=generator).to(device)
        bent = interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
        grid = plain + 0.06 * bent[:, :2].permute(0, 2, 3, 1)
        own = originals[torch.arange(first, first + AT_ONCE, device=device) % subjects].float()
        warped = grid_sample(own, grid, align_corners=False)
        made.append((warped * (1 + 0.1 * bent[:, 2:])).clamp(0, 255).byte().cpu())
    return torch.cat(made).flatten(0, 1)[:count].numpy()


def _measure(images: np.ndarray, per_subject: int, count: int, device: torch.device) -> tuple[np.ndarray, AuditSize]:
    """Return the subjects found in the first slices, shuffled, and what finding them took."""
    order = np.random.default_rng(0).permutation(count)
    shuffled, truth = images[order], order // per_subject
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait_for(device)
    started = time.perf_counter()
    found = recover_subjects(shuffled, device=str(device))
    seconds = time.perf_counter() - started
    used = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    rand = float(adjusted_rand_score(truth, found.subjects))
    size = AuditSize(str(device), count, seconds, used, process, float(found.known.mean()), rand)
    return found.subjects, size
