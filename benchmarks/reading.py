"""Seconds to make the phantom and to read slices, the first time and from the cache; and many files of another size.

python3 run.py bench reading
MRISCOPE_DATA=... python3 benchmarks/reading.py 86437     files of 248×496 made from the slices there, in class folders
"""

import io
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from mriscope.data.readers import read

HEIGHT, WIDTH = 248, 496
SLICES = 61
"""Of a scan, as in the JPEG files of OASIS-1."""
DIFFERENT = 610
"""Files of different content; the others repeat them, which reading does not notice."""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8644
    sources = ["phantom:subjects=48,slices=16", "phantom:subjects=200,slices=32"] if len(sys.argv) < 2 else []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRISCOPE_CACHE"] = str(Path(folder, "cache"))
        if "MRISCOPE_DATA" in os.environ:
            sources += [os.environ["MRISCOPE_DATA"], str(make_files(Path(folder, f"{count} files"), count))]
            time.sleep(2.5)  # a file that is younger may change again without another time of change
        for source in sources:
            name = source if source.startswith("phantom") else Path(source).name
            wall, processor, read_count, size = measure(source)
            again, _, _, _ = measure(source)
            beyond = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 - size / 2**30
            print(
                f"{name:<32}{read_count:7,} slices   first {wall:6.1f} s ({processor:.1f} s of processors)   "
                f"from the cache {again:5.2f} s   peak memory {beyond:4.1f} GiB beyond the pixels"
            )


def measure(source: str) -> tuple[float, float, int, int]:
    """Return seconds by the clock and of processors, how many slices were read, and bytes of their pixels."""
    clock, processor = time.perf_counter(), time.process_time()
    slices = read(source, size=128) if not source.startswith("phantom") else read(source)
    return time.perf_counter() - clock, time.process_time() - processor, len(slices), slices.images.nbytes


def make_files(root: Path, count: int) -> Path:
    """Write slices as colour JPEG files of 248×496, named as those of OASIS-1."""
    slices = read(os.environ["MRISCOPE_DATA"])[:DIFFERENT]
    contents = []
    for pixels in slices.images:
        page, file = Image.new("RGB", (WIDTH, HEIGHT)), io.BytesIO()
        page.paste(Image.fromarray(pixels).resize((HEIGHT, HEIGHT)), ((WIDTH - HEIGHT) // 2, 0))
        page.save(file, "JPEG", quality=75)
        contents.append(file.getvalue())
    for row in range(count):
        subject, position = divmod(row, SLICES)
        folder = root / ("Non Demented" if subject % 4 else "Mild Dementia")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"OAS1_{subject + 1:04d}_MR1_mpr-1_{100 + position}.jpg").write_bytes(contents[row % DIFFERENT])
    return root


if __name__ == "__main__":
    main()
