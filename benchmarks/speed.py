"""How fast: training, comparing, cross-validating, predicting and starting, beside the usual notebook.

    python benchmarks/speed.py --data FOLDER                all tables
    python benchmarks/speed.py --data FOLDER epoch starts   some of them
    python benchmarks/speed.py --data FOLDER --quick        a try in about a minute, whose figures mean nothing

FOLDER holds the two parquet files of the study's set; MRISCOPE_DATA is the default. Each table that is measured is put
into docs/speed.json at once, and the section of docs/performance.md is written from that file, so that a run that was
broken off goes on with the names that are left. Run directories lie in runs/speed; a training that is finished there is
not run again. Measure on a machine that does nothing else.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from timing.growth import measure_growth
from timing.inference import measure_inference
from timing.processes import measure_crowded, measure_grid, measure_honest, measure_starts
from timing.profiling import measure_profile
from timing.report import KEPT, PAGE, ROOT, Measured, keep, write_page
from timing.running import Setting
from timing.training import measure_accuracy, measure_best, measure_compare, measure_epoch, measure_fast

TABLES: dict[str, Callable[[Setting], Measured]] = {
    "epoch": measure_epoch,
    "profile": measure_profile,
    "fast": measure_fast,
    "best": measure_best,
    "honest": measure_honest,
    "inference": measure_inference,
    "compare": measure_compare,
    "growth": measure_growth,
    "starts": measure_starts,
    "crowded": measure_crowded,
    "grid": measure_grid,
    "accuracy": measure_accuracy,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"one of {', '.join(TABLES)}; all if none")
    parser.add_argument("--data", type=Path, default=os.environ.get("MRISCOPE_DATA"))
    parser.add_argument("--quick", action="store_true")
    words = parser.parse_args()
    if unknown := set(words.tables) - set(TABLES):
        parser.error(f"there is no table {sorted(unknown)[0]!r}; choose of {', '.join(TABLES)}")
    if words.data is None or not words.data.is_dir():
        parser.error("name the folder of the two parquet files with --data, or in MRISCOPE_DATA")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if words.quick else ROOT / "runs" / "speed"
        work.mkdir(parents=True, exist_ok=True)
        setting = Setting(words.data.resolve(), work, words.quick)
        failed = [name for name in words.tables or TABLES if not measure(name, setting)]
    return len(failed)


def measure(name: str, setting: Setting) -> bool:
    """Measure one table and write it; what fails is told and stops no other."""
    started = time.perf_counter()
    try:
        measured = TABLES[name](setting)
    except Exception:
        traceback.print_exc()
        return False
    print(f"{measured.markdown()}\n\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    if not setting.quick:
        keep(name, measured, KEPT)
        write_page(KEPT, PAGE, list(TABLES))
    return True


if __name__ == "__main__":
    sys.exit(main())
