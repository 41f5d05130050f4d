"""How many slices a second `predict --out` answers for, in how much memory, by which executor.

    python3 run.py bench scaling                               20,000 slices
    .venv/bin/python benchmarks/scaling.py 1000000 5000        a million, in parts of 5,000

Slices are made: those of a phantom with noise, 176 × 176 pixels, as JPEG files of about 8.4 kB in parquet parts. The
model is `compact_cnn`, trained for one epoch on the phantom. Printed: slices/s by the clock, seconds of processor time
per 1,000 slices, and the largest memory of any process, in MiB.
"""

import io
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import mriscope
from mriscope.data.phantom import make_phantom
from mriscope.recipe import make_recipe
from mriscope.workflows.predict_parts import predict_parts

DISTINCT = 2_000  # JPEG files that are made; parts draw from them


def make_parts(folder: Path, count: int, size: int) -> None:
    images = make_phantom(24, 32, size=176).slices.images
    draw = np.random.default_rng(0)
    contents = []
    for at in range(DISTINCT):
        noise = draw.normal(0, 4, images.shape[1:])
        pixels = (images[at % len(images)] + noise * (images[at % len(images)] > 0)).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
        contents.append(buffer.getvalue())
    for number, start in enumerate(range(0, count, size)):
        chosen = draw.integers(0, DISTINCT, min(size, count - start))
        rows = [{"bytes": contents[at], "path": f"{start + row}.jpg"} for row, at in enumerate(chosen)]
        pq.write_table(pa.table({"image": rows}), folder / f"part-{number:05d}.parquet", row_group_size=1000)


def make(folder: Path, count: int, size: int) -> None:
    settings = {
        "model": "compact_cnn",
        "data": "phantom:subjects=24,slices=8",
        "input": {"size": 176},
        "training": {"epochs": 1},
    }
    mriscope.train(make_recipe(settings), folder / "run", device="cpu", silent=True)
    (folder / "set").mkdir()
    make_parts(folder / "set", count, size)


def measure(folder: Path, executor: str) -> None:
    """Predict in this process, which did nothing before, and print what it took."""
    began = time.monotonic()
    done = predict_parts(folder / "run", [str(folder / "set")], folder / "out", device="cpu", executor=executor)
    seconds = time.monotonic() - began
    assert not done.failures
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in used)
    print(
        f"{executor}: {done.slices:,} slices in {done.parts} parts, {done.slices / seconds:.0f} slices/s, "
        f"{1000 * processor / done.slices:.2f} s of processor time per 1,000, "
        f"at most {max(one.ru_maxrss for one in used) / 1024:.0f} MiB a process"
    )
    began = time.monotonic()
    assert predict_parts(folder / "run", [str(folder / "set")], folder / "out", device="cpu").kept == done.parts
    print(f"  again, with nothing left to do: {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["measure"]:
        measure(Path(sys.argv[2]), sys.argv[3])
    else:
        count, size = sys.argv[1:3] if len(sys.argv) > 2 else ("20000", "2500")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, "make", folder, count, size], check=True)
            for executor in ("serial", "processes"):
                subprocess.run([sys.executable, __file__, "measure", folder, executor], check=True)
                shutil.rmtree(Path(folder, "out"))


if __name__ == "__main__":
    main()
