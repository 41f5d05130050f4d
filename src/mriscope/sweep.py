"""Run one function over many items: one after the other, in a pool of processes, or as tasks of a Ray cluster.

A task whose worker fails or is killed is tried three times in all and then reported, and the rest goes on. A mistake
that mriscope names is reported at once, as it would be the same the next time. Tasks are to be such that the same call
goes on with what an earlier one left.
"""

import logging
import multiprocessing
import os
import re
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_sentinels
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol

from mriscope.errors import ArgumentError, InterruptedTrainingError, MriscopeError, need
from mriscope.progress import show_notes

LOG = logging.getLogger("mriscope")

ATTEMPTS = 3
_SECONDS_TO_STOP = 60  # for a worker that writes what it has before it ends
_RAY_STORE = 80 * 2**20  # bytes of shared memory; what tasks take and return is small
_FORMS = "auto, here, serial, processes, processes:N, ray, or ray:ADDRESS as in ray:10.0.0.1:6379"


@dataclass(frozen=True)
class Executor:
    """Where tasks run.

    Attributes:
        kind: here is one after the other in this process, with all its threads; serial the same with as many threads as
            a task has by the others; auto is processes where several tasks are to be done on several cores without a
            GPU, else serial.
        workers: of processes; None for as many as fit the cores.
        address: of the head of a Ray cluster; None for a local one that ends with the sweep.
    """

    kind: Literal["here", "auto", "serial", "processes", "ray"] = "here"
    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its value, or why there is none."""

    value: Any = None
    problem: str | None = None
    again: bool = False
    """Whether another attempt may go better."""


def parse_executor(text: str) -> Executor:
    """Read where tasks are to run from what a user wrote.

    Raises:
        ArgumentError: it is none of the forms.

    Example:
        >>> parse_executor("processes:4").workers, parse_executor("ray:10.0.0.1:6379").address
        (4, '10.0.0.1:6379')
    """
    kind, colon, rest = text.partition(":")
    if kind in ("here", "auto", "serial") and not colon:
        return Executor(kind)
    if kind == "processes" and (not colon or re.fullmatch("[1-9][0-9]{0,5}", rest)):
        return Executor(kind, workers=int(rest) if rest else None)
    if kind == "ray" and (not colon or rest):
        return Executor(kind, address=rest or None)
    raise ArgumentError(f"there is no executor {text!r}; write {_FORMS}")


def count_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_idle_cores(samples: int = 5) -> int:
    """Return how many processors this process may use that nothing else uses now; at least one.

    Threads of one operation wait for each other, so that on a crowded machine one thread ends sooner than two.

    Args:
        samples: how often to look, 10 ms apart; the median counts.
    """
    busy = []
    for _ in range(samples):
        try:
            running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
        except OSError:  # only Linux has it
            return count_cores()
        busy.append(int(running) - 1)  # this process itself is running
        time.sleep(0.01)
    return max(1, count_cores() - sorted(busy)[samples // 2])


def threads_per_task(tasks: int) -> int:
    """Return how many threads each of several tasks computes with, by any executor.

    Sums depend on it in their last bits, so that it is a matter of the machine and of the number of all tasks, finished
    ones too: OMP_NUM_THREADS where that is set, else such that as many tasks as there are cores fit them.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told) > 0:
        return min(int(told), count_cores())
    return count_cores() // max(1, min(count_cores(), tasks))


def choose_executor(text: str, tasks: int, device: str = "auto") -> Executor:
    """Read where tasks are to run, and decide what auto means for so many.

    Raises:
        ArgumentError: as parse_executor.
    """
    executor = parse_executor(text)
    if executor.kind != "auto":
        return executor
    alone = min(tasks, count_cores() // threads_per_task(tasks)) < 2 or (device != "cpu" and _has_gpu())
    return Executor("serial" if alone else "processes")


def sweep(
    function: Callable[[Any], Any],
    items: Mapping[str, Any],
    executor: Executor,
    *,
    doing: str,
    of: int | None = None,
    skip: Callable[[str], bool] = lambda _: False,
) -> Iterator[tuple[str, Outcome]]:
    """Run a function over items; workers × threads never exceed the cores of this machine.

    Results are the same, byte for byte, by any executor but `here`, on machines of one kind, as each task computes with
    the same number of threads. Where the block that iterates ends early, as by Ctrl-C, all workers are stopped: they
    get SIGTERM, upon which a training writes its state, and are killed where that takes too long.

    Args:
        function: of one item, at the top of a module, as another process has to find it.
        items: by name; they can be pickled, and so can what the function returns.
        executor: where; of no kind auto.
        doing: what is done with an item, such as "training", for a note as each begins; "" for none.
        of: the number of all tasks of which these are what is left; as many as items if not given.
        skip: tells of a name, before its task begins, that it is not wanted any more.

    Yields:
        each name and what became of it, as it comes.

    Raises:
        InterruptedTrainingError: Ctrl-C in a task that runs in this process.
        MissingExtraError: Ray is not installed.
        ArgumentError: no Ray cluster answers.
    """
    waiting = deque((name, 1) for name in items)
    running: dict[Future[Outcome], tuple[str, int]] = {}
    workers = _open_workers(executor, len(items), threads_per_task(of or len(items)))
    try:
        while waiting or running:
            while waiting and len(running) < workers.size:
                name, attempt = waiting.popleft()
                if skip(name):
                    continue
                if doing:
                    LOG.warning("%s %s", doing, name)
                running[workers.submit(function, items[name])] = (name, attempt)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, attempt = running.pop(future)
                outcome = workers.collect(future)
                if outcome.problem is not None and outcome.again and attempt < ATTEMPTS:
                    LOG.warning("%s: %s; trying again (%d of %d)", name, outcome.problem, attempt + 1, ATTEMPTS)
                    waiting.appendleft((name, attempt + 1))
                else:
                    yield name, outcome
    finally:
        workers.close(finished=not waiting and not running)


class _Workers(Protocol):
    """Something that runs tasks, at most `size` at once."""

    @property
    def size(self) -> int: ...

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Outcome]": ...

    def collect(self, future: "Future[Outcome]") -> Outcome: ...

    def close(self, *, finished: bool) -> None: ...


def _open_workers(executor: Executor, tasks: int, threads: int) -> _Workers:
    if executor.kind in ("here", "serial"):
        return _Here(threads if executor.kind == "serial" else None)
    fitting = max(1, count_cores() // threads)
    if executor.kind == "ray":
        return _Ray(executor.address, fitting, threads)
    if executor.workers is not None and executor.workers > fitting:
        LOG.warning("%d workers of %d threads fit the cores here, not %d", fitting, threads, executor.workers)
    return _Processes(max(1, min(executor.workers or fitting, fitting, tasks)), threads)


class _Here:
    """This process itself."""

    size = 1

    def __init__(self, threads: int | None) -> None:
        self._threads = threads

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Outcome]":
        future: Future[Outcome] = Future()
        with nullcontext() if self._threads is None else limited_threads(self._threads):
            future.set_result(_call(function, item))
        return future

    def collect(self, future: "Future[Outcome]") -> Outcome:
        return future.result()

    def close(self, *, finished: bool) -> None:
        pass


class _Processes:
    """Pools of one process each, so that it is known which task was at work in one that was killed."""

    def __init__(self, size: int, threads: int) -> None:
        self.size, self._threads = size, threads
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Outcome], ProcessPoolExecutor] = {}
        self._children: set[BaseProcess] = set()

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Outcome]":
        others = set(multiprocessing.active_children())
        while True:
            pool = self._idle.pop() if self._idle else self._start()
            try:
                future = pool.submit(_call_in_worker, self._threads, function, item)
            except BrokenProcessPool:  # it was killed while it had nothing to do
                continue
            self._children |= set(multiprocessing.active_children()) - others
            self._busy[future] = pool
            return future

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # torch's threads do not outlive a fork
        return ProcessPoolExecutor(1, context, initializer=_begin_worker, initargs=(self._threads,))

    def collect(self, future: "Future[Outcome]") -> Outcome:
        pool = self._busy.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            pool.shutdown(wait=False)
            return Outcome(problem="its worker was killed", again=True)
        except Exception as error:  # what it returned could not be pickled
            outcome = Outcome(problem=f"{type(error).__name__}: {error}", again=True)
        self._idle.append(pool)
        return outcome

    def close(self, *, finished: bool) -> None:
        for pool in (*self._idle, *self._busy.values()):
            pool.shutdown(wait=False, cancel_futures=True)
        if not finished:
            for child in self._children:
                child.terminate()
        try:
            for child in self._children:
                child.join(_SECONDS_TO_STOP)
        finally:  # also upon a second Ctrl-C
            for child in self._children:
                child.kill()


class _Ray:
    """Tasks of Ray Core, on a cluster that is there or on one of this machine alone."""

    def __init__(self, address: str | None, cores: int, threads: int) -> None:
        # Ray reads these when it is imported.
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"})
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it would hide GPUs from tasks
        if address is None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # by which it listens on the loopback alone
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        self._ray: Any = need("cluster", "ray")
        self._threads = threads
        alone = {"num_cpus": cores * threads, "include_dashboard": False, "object_store_memory": _RAY_STORE}
        try:
            self._ray.init(
                address or "local", log_to_driver=False, configure_logging=False, **(alone if address is None else {})
            )
        except Exception as error:  # its kinds are many
            where = f"no Ray cluster answers at {address}" if address else "Ray cannot be started here"
            reason = " ".join(str(error).split())[:200]
            raise ArgumentError(
                f"{where} ({reason}); start one with `ray start --head`, its token in RAY_AUTH_TOKEN or "
                "~/.ray/auth_token, or take another --executor"
            ) from error
        self._task = self._ray.remote(_call_in_worker).options(num_cpus=threads, max_retries=0)

    @property
    def size(self) -> int:
        cores = self._ray.cluster_resources().get("CPU", 0)  # nodes come and go
        return max(1, int(cores) // self._threads)

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Outcome]":
        # Relative paths within the item mean the same where a worker began in another folder.
        return self._task.remote(self._threads, function, item, str(Path.cwd())).future()

    def collect(self, future: "Future[Outcome]") -> Outcome:
        try:
            return future.result()
        except Exception as error:  # the worker, its node or the way there
            reason = (str(error).splitlines() or [""])[-1][:200]
            return Outcome(problem=f"its worker was lost ({type(error).__name__}: {reason})", again=True)

    def close(self, *, finished: bool) -> None:
        self._ray.shutdown()  # ends the tasks of this program, wherever they run


def _begin_worker(threads: int) -> None:
    """Prepare a process of the pool: Ctrl-C goes to the program alone, whose end is the worker's too."""
    os.environ.update({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    show_notes()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_sentinels([sentinel])
    os._exit(1)


def _call_in_worker(threads: int, function: Callable[[Any], Any], item: Any, folder: str | None = None) -> Outcome:
    """Call a function in a worker; no error of its crosses to the program, as some cannot be pickled."""
    try:
        if folder is not None:
            os.chdir(folder)
    except OSError as error:
        return Outcome(problem=f"{folder} is not on the machine of a worker ({error.strerror}); share it with all")
    try:
        with limited_threads(threads):
            return _call(function, item)
    except (InterruptedTrainingError, KeyboardInterrupt) as error:
        return Outcome(problem=str(error) or "its worker was interrupted", again=True)


def _call(function: Callable[[Any], Any], item: Any) -> Outcome:
    try:
        return Outcome(function(item))
    except InterruptedTrainingError:
        raise
    except MriscopeError as error:
        return Outcome(problem=str(error))
    except Exception as error:  # whatever ends one task, the others go on: it may be the night before a talk
        return Outcome(problem=f"{type(error).__name__}: {error}", again=True)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Compute with so many threads within the block."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def _has_gpu() -> bool:
    drivers = ("nvidiactl", "nvhost-gpu", "kfd", "dxg")  # of NVIDIA, of its boards, of AMD, and of Windows for Linux
    if sys.platform == "linux" and not any(Path("/dev", one).exists() for one in drivers):
        return False  # which importing torch would take seconds to tell
    import torch

    return torch.cuda.is_available()
