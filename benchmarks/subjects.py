"""Seconds and memory to recover subjects from 1,000 to 100,000 slices.

    python3 run.py bench subjects

Every size runs in a process of its own. The slices are 64 × 64 pixels: 20 subjects of the phantom with 32 slices each,
of which every further subject is made by a smooth random warp and shading, the same for all slices of a subject. The
seconds are those of `recover_subjects` alone, by the clock and by the processor's time.
"""

import resource
import subprocess
import sys
import time

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from torch.nn.functional import affine_grid, grid_sample, interpolate

from mriscope.audit.subjects import recover_subjects
from mriscope.data.phantom import make_phantom

SIZES = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
SLICES, SIZE, BASE = 32, 64, 20


def many(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Slices uint8 (count, SIZE, SIZE), shuffled, and the subject of each."""
    base = torch.from_numpy(make_phantom(BASE, SLICES, size=SIZE).slices.images.copy()).view(BASE, SLICES, SIZE, SIZE)
    generator = torch.Generator().manual_seed(0)
    images = np.empty((-(-count // SLICES) * SLICES, SIZE, SIZE), np.uint8)
    plain = affine_grid(torch.eye(2, 3)[None], [1, 1, SIZE, SIZE], align_corners=False)
    for subject in range(len(images) // SLICES):
        coarse = torch.randn(1, 3, 7, 7, generator=generator)
        bent = interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
        grid = plain + 0.06 * bent[:, :2].permute(0, 2, 3, 1)
        warped = grid_sample(base[subject % BASE].float()[None], grid, align_corners=False)[0]
        images[subject * SLICES : (subject + 1) * SLICES] = (warped * (1 + 0.1 * bent[0, 2])).clamp(0, 255).byte()
    order = np.random.default_rng(0).permutation(count)
    return images[order], order // SLICES


def measure(count: int) -> None:
    images, truth = many(count)
    recover_subjects(images[:100])  # what is imported at first use is no part of the time
    clock, processor = time.perf_counter(), time.process_time()
    found = recover_subjects(images)
    seconds, work = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(
        f"| {count:,} | {seconds:.1f} | {work:.1f} | {peak:.2f} | {found.known.mean():.4f} "
        f"| {adjusted_rand_score(truth, found.subjects):.4f} |",
        flush=True,
    )


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        "| slices | s | processor s | peak GiB | with a subject | adjusted Rand index |\n|--|--|--|--|--|--|",
        flush=True,
    )
    for size in SIZES:
        subprocess.run([sys.executable, __file__, str(size)], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
    else:
        main()
