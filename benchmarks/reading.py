"""Seconds to make the phantom and to read the real slices, the first time and from the cache.

python3 run.py bench reading
"""

import os
import tempfile
import time
from pathlib import Path

from mriscope.data.readers import read


def main() -> None:
    sources = ["phantom:subjects=48,slices=16", "phantom:subjects=200,slices=32"]
    if "MRISCOPE_DATA" in os.environ:
        sources.append(os.environ["MRISCOPE_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRISCOPE_CACHE"] = folder
        for source in sources:
            first, count = seconds_to_read(source)
            again, _ = seconds_to_read(source)
            name = source if source.startswith("phantom") else Path(source).name
            print(f"{name:<32}{count:6,} slices   first {first:6.2f} s   from the cache {again:5.2f} s")


def seconds_to_read(source: str) -> tuple[float, int]:
    started = time.perf_counter()
    count = len(read(source))
    return time.perf_counter() - started, count


if __name__ == "__main__":
    main()
