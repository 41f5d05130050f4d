"""Functions and commands in processes of their own, timed by the clock."""

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from timing.report import ROOT

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What every measurement is given.

    Args:
        data: the folder of the study's two parquet files.
        work: a folder for run directories and caches.
        quick: sizes for a try, whose figures mean nothing.
    """

    data: Path
    work: Path
    quick: bool


def in_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a new process, as allocator, threads and imports last as long as one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass(frozen=True)
class Timed:
    """A command that ended.

    Args:
        seconds: by the clock, from its start to its end.
        processor: seconds of all cores, its children's too.
        began: time.time() at its start.
        output: what it printed.
        code: its exit code.
    """

    seconds: float
    processor: float
    began: float
    output: str
    code: int


def run_command(
    words: Sequence[object], setting: Setting, *, codes: Sequence[int] = (0,), cache: str = "cache"
) -> Timed:
    """Run the package's command line with a cache of its own, which the first command fills."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "MRISCOPE_CACHE": str(setting.work / cache),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    before, began, started = _children(), time.time(), time.perf_counter()
    command = [sys.executable, "-m", "mriscope", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=setting.work)
    seconds = time.perf_counter() - started
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Timed(seconds, _children() - before, began, done.stdout, done.returncode)


def median_command(words: Sequence[object], setting: Setting, repeats: int, codes: Sequence[int] = (0,)) -> float:
    """Return the median seconds of a command, after one run that fills caches."""
    taken = [run_command(words, setting, codes=codes).seconds for _ in range(1 + repeats)]
    return statistics.median(taken[1:])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
