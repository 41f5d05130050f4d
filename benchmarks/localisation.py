"""Which map to trust: tasks on real slices whose answer lies in a known place, and what methods show of it.

    python3 run.py bench localisation                       all of it on the CPU, from the slices of MRISCOPE_DATA
    python benchmarks/localisation.py --prepare FILE        slices, regions and commit in one file, which travels
    python benchmarks/localisation.py --cohort FILE --device cuda --workers 8 --minutes 4 --zip OUT/localisation.zip
    python benchmarks/localisation.py --cohort FILE --tables    only the tables of what is there

Networks, maps and measures are kept in runs/bench/localisation, or in the folder that MRISCOPE_BENCH names, so that
what was cut off goes on. The zip file holds the measures alone, is written anew after each network, and is to be
unpacked into that folder. --minutes, or MRISCOPE_BENCH_MINUTES, ends the work between two methods; a training that has
begun is finished. With MRISCOPE_BENCH_QUICK=1 everything is tried on few slices with one epoch.
"""

import argparse
import os
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from keeping import FOLDER
from localising.measures import Setting, jobs, measure_network
from localising.networks import Network
from localising.tables import print_tables
from localising.tasks import make_cohort

MEASURES = ("*.json", "*-places.npz", "*-curves.npz")


def main() -> int:
    """Do the jobs in their order, then pack them or print the tables."""
    words = read_arguments()
    if words.prepare:
        make_cohort(words.data).save(words.prepare)
        print(f"{words.prepare}: {words.prepare.stat().st_size / 2**20:.1f} MiB")
        return 0
    words.folder.mkdir(parents=True, exist_ok=True)
    began, failed = time.time(), 0
    setting = Setting(words.cohort or words.data, words.folder, words.device, began + 60 * words.minutes)
    if not words.tables:
        for one, future in finished(setting, words.workers):
            error = future.exception()
            failed += error is not None
            print(*one, future.result() if error is None else "".join(traceback.format_exception(error)), flush=True)
            if words.zip:
                pack(words.folder, words.zip)
        print(f"all jobs: {time.time() - began:.0f} s")
    if not words.zip:
        print_tables(setting)
    return min(failed, 1)


def read_arguments() -> argparse.Namespace:
    given = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=given("MRISCOPE_DATA"), help="source of the slices")
    parser.add_argument("--prepare", type=Path, metavar="FILE", help="write what --cohort reads, and do nothing else")
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="what --prepare wrote, in the place of --data")
    parser.add_argument("--folder", type=Path, default=Path(given("MRISCOPE_BENCH", FOLDER / "localisation")))
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes side by side; default 1")
    parser.add_argument("--minutes", type=float, default=float(given("MRISCOPE_BENCH_MINUTES", "inf")))
    parser.add_argument("--zip", type=Path, metavar="FILE", help="pack the measures there, and print no tables")
    parser.add_argument("--tables", action="store_true", help="print the tables of what is there, and do nothing else")
    return parser.parse_args()


def finished(setting: Setting, workers: int) -> Iterator[tuple[Network, Future[str]]]:
    """Yield the networks as they are done, from processes that take the next one of the list when they are free."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begun = {pool.submit(measure_network, setting, one): one for one in jobs()}
        for future in as_completed(begun):
            yield begun[future], future


def pack(folder: Path, file: Path, patterns: Sequence[str] = MEASURES) -> None:
    """Write the measures into one file, which is never seen half written."""
    part = file.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as found:
        for one in sorted({one for pattern in patterns for one in folder.glob(pattern)}):
            found.write(one, one.name)
    part.replace(file)


if __name__ == "__main__":
    sys.exit(main())
