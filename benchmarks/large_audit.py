"""How long the audit of a large set takes, and how much memory: slices of many brains, made from the public ones.

    MRISCOPE_DATA=folder python3 run.py bench large_audit                       86,437 slices of 248×496
    MRISCOPE_DATA=folder .venv/bin/python benchmarks/large_audit.py 100000 128 128

Every brain is one of the public ones, bent and shaded by a smooth random field of its own. A fifth of the brains is the
test part. The slices lie in a memory-mapped file, as those of the cache do, and their subjects are unknown. Two threads
are used. The time is that of `mriscope.audit` by the clock, without reading files; memory is the largest that the
process held, pages of the mapped file that the system keeps for it included.
"""

import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from on_gpu.auditing import make_slices
from sklearn.metrics import adjusted_rand_score
from torch.nn.functional import interpolate

import mriscope
from mriscope.audit.subjects import recover_subjects
from mriscope.data.slices import SliceSet

BLOCK = 512


def make(count: int, height: int, width: int, file: Path) -> tuple[np.memmap, np.ndarray]:
    """Slices uint8 (count, H, W) in a file, and their subjects, int64 (count,)."""
    public = mriscope.read(os.environ["MRISCOPE_DATA"])
    found = recover_subjects(public.images)
    order = np.lexsort((found.positions, found.subjects))
    slices = np.bincount(found.subjects).min()
    base = public.images[order].reshape(-1, slices, *public.images.shape[1:])
    small = make_slices(base, count, torch.device("cpu"))
    shuffled = np.random.default_rng(0).permutation(count)
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (count, height, width))
    for start in range(0, count, BLOCK):
        some = torch.from_numpy(small[shuffled[start : start + BLOCK]])[:, None].float()
        resized = interpolate(some, size=(height, width), mode="bilinear", align_corners=False)
        images[start : start + BLOCK] = resized[:, 0].round().clamp(0, 255).byte().numpy()
    images.flush()
    return np.load(file, mmap_mode="r"), shuffled // slices


def anonymous_gib() -> float:
    """Memory that is the process's own, without mapped files, in GiB."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    count, height, width = map(int, sys.argv[1:4]) if len(sys.argv) > 3 else (86_437, 248, 496)
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        images, subjects = make(count, height, width, Path(folder) / "slices.npy")
        labels = np.random.default_rng(1).integers(0, 4, subjects.max() + 1)[subjects]
        parts = np.where(subjects % 5 == 0, "test", "train")
        slices = SliceSet.of(images, labels, parts=parts)
        seen, done = [anonymous_gib()], threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                seen.append(anonymous_gib())

        threading.Thread(target=watch, daemon=True).start()
        began, worked = time.perf_counter(), time.process_time()
        found = mriscope.audit(slices)
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        done.set()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{count:,} slices of {height}×{width}, {subjects.max() + 1:,} brains, {torch.get_num_threads()} threads")
        print(f"by the clock {seconds:.1f} s, of the processor {worked:.1f} s")
        print(f"memory: {max(seen):.2f} GiB of its own ({seen[0]:.2f} before), {peak:.2f} GiB with mapped pages")
        print(f"with a subject {100 * found.subjects.known_slices / count:.2f} %; {found.verdict}")
        again = recover_subjects(slices.images)
        known = again.known
        print(f"adjusted Rand index of these {adjusted_rand_score(subjects[known], again.subjects[known]):.5f}")


if __name__ == "__main__":
    main()
