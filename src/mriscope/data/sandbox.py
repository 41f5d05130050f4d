"""Files of volumes are parsed in child processes, each under limits of memory and processor time.

A parser that runs wild on a forged or damaged file then costs that file alone. A child answers requests one after the
other, in JSON and raw pixels, so that nothing it says can run code here.
"""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mriscope.errors import DataError

MEMORY = 4 * 2**30  # bytes of addresses, of which libraries take a part without using it
SECONDS = 1.5  # of processor time, besides ...
SECONDS_PER_MIB = 1.0  # ... of files; a volume takes a tenth of it
SHARE = 2**25  # bytes of files that are worth a child of their own
PATIENCE = 600  # seconds by the clock, for files on disks that hang
_LONGEST = 2**31
PARSER = "mriscope.data.parsing"

Request = dict[str, Any]
_Item = TypeVar("_Item")


@dataclass(frozen=True, eq=False)
class Answer:
    """What a child says: facts, and images where it was asked for them.

    Args:
        facts: what JSON can hold.
        images: uint8 (N, H, W), or None.
    """

    facts: dict[str, Any]
    images: np.ndarray | None = None


class Sandbox:
    """Children that parse files; use it as a context manager.

    Args:
        children: how many.
        memory: bytes of addresses that each may take.
        program: the module that a child runs, see `parsing.serve`.
        seconds: of processor time for each request; None: what parsing its files may take.

    Example:
        >>> with Sandbox() as sandbox:
        ...     for request, answer in sandbox.map(requests):
        ...         print(answer if isinstance(answer, DataError) else answer.facts)
    """

    def __init__(
        self, children: int = 1, memory: int = MEMORY, program: str = PARSER, seconds: float | None = None
    ) -> None:
        self._count = children
        self._memory = memory
        self._program = program
        self._seconds = seconds
        self._local = threading.local()
        self._started: list[_Child] = []
        self._threads = ThreadPoolExecutor(self._count)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._started:
            child.stop()
        self._threads.shutdown()

    def map(
        self, items: Iterable[_Item], request_of: Callable[[_Item], Request | DataError]
    ) -> Iterator[tuple[_Item, Answer | DataError]]:
        """Answer requests in order, a few ahead of what is taken, so that memory holds a few answers at a time.

        Args:
            items: whatever requests are made of.
            request_of: makes one; "task" and "files" are needed, see `parsing.answer`. A reason why there is none is
                the answer itself.

        Yields:
            Each item with its answer, or with the reason why its files hold none, as the predicate of a sentence.
        """
        waiting: deque[tuple[_Item, Future[Answer | DataError]]] = deque()
        for item in items:
            waiting.append((item, self._threads.submit(self._ask, request_of(item))))
            if len(waiting) > 2 * self._count:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()

    def _ask(self, request: Request | DataError) -> Answer | DataError:
        if isinstance(request, DataError):
            return request
        child: _Child | None = getattr(self._local, "child", None)
        if child is None or not child.alive:
            child = self._local.child = _Child(self._memory, self._program)
            self._started.append(child)
        try:
            found = [Path(file).stat() for file in request["files"]]
            if not all(stat.S_ISREG(one.st_mode) for one in found):  # a pipe may never answer, and a device never end
                return DataError("is no ordinary file")
            mebibytes = sum(one.st_size for one in found) / 2**20
            seconds = SECONDS + SECONDS_PER_MIB * mebibytes if self._seconds is None else self._seconds
            return child.ask({**request, "seconds": seconds})
        except OSError as error:
            return DataError(f"cannot be read ({error.strerror})")
        except DataError as error:
            return error


class _Child:
    """One process that parses; it ends itself where it goes beyond its limits."""

    def __init__(self, memory: int, program: str) -> None:
        self._work = "parse" if program == PARSER else "prepare"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        package = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", program, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: Request) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            DataError: the files hold none, or the process went beyond its limits.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            facts = json.loads(self._receive(int.from_bytes(self._receive(8))))
            if "error" in facts:
                raise DataError(str(facts["error"]))
            shape = facts.pop("shape", None)
            if shape is None:
                return Answer(facts)
            images = np.frombuffer(self._receive(int(np.prod(shape, dtype=object))), np.uint8).reshape(shape)
            return Answer(facts, images)
        except DataError:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise DataError(self._why_it_ended()) from error
        finally:
            watch.cancel()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _receive(self, count: int) -> bytes:
        assert self._process.stdout is not None
        if not 0 <= count <= _LONGEST:
            raise ValueError("an answer of no possible length")
        content = self._process.stdout.read(count)
        if len(content) < count:
            raise EOFError
        return content

    def _why_it_ended(self) -> str:
        self.stop()
        if self._process.returncode == -getattr(signal, "SIGPROF", 0):
            return f"takes longer to {self._work} than any file of its size should; it is damaged or forged"
        code = self._process.returncode
        return f"ended the process that was to {self._work} it (code {code}); it is damaged or forged"


def children_for(files: Iterable[Path]) -> int:
    """Return how many children to parse files with: one for a few, up to one for each core."""
    size = 0
    for file in files:
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    return max(1, min(_cores(), 8, size // SHARE))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
