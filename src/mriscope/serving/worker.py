"""One thread that asks the model. Slices of requests that wait together are computed together."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Compute = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
AT_ONCE = 16  # slices that are computed together
PATIENCE = 0.005  # seconds that the first of them waits for others
WAITING = 64  # jobs


class BusyError(Exception):
    """As many jobs wait as may."""


@dataclass(frozen=True, eq=False)
class _Job:
    """Slices to compute, uint8 (N, H, W), or, where there are none, something else to do."""

    images: np.ndarray | None = None
    function: Callable[[], Any] = lambda: None
    future: "Future[Any]" = field(default_factory=Future)

    @property
    def count(self) -> int:
        return AT_ONCE if self.images is None else len(self.images)


class Worker:
    """The thread; use it as a context manager.

    Args:
        compute: from uint8 (N, H, W) to two arrays of N rows.
        waiting: how many jobs may wait.

    Example:
        >>> with Worker(lambda images: (images.mean((1, 2)), images.max((1, 2)))) as worker:
        ...     worker.predict(np.full((1, 2, 2), 7, np.uint8)).result()[0].tolist()
        [7.0]
    """

    def __init__(self, compute: Compute, waiting: int = WAITING) -> None:
        self._compute = compute
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="mriscope worker", daemon=True)

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)
        self._thread.join()

    @property
    def ready(self) -> bool:
        """Tell whether another job would be taken."""
        return self._thread.is_alive() and not self._jobs.full()

    @property
    def waiting(self) -> int:
        """Return how many jobs wait."""
        return self._jobs.qsize()

    def predict(self, images: np.ndarray) -> "Future[tuple[np.ndarray, np.ndarray]]":
        """Compute slices, uint8 (N, H, W), beside those of others; N is best at most AT_ONCE.

        Raises:
            BusyError: too many jobs wait.
        """
        return self._put(_Job(images))

    def call(self, function: Callable[[], Any]) -> "Future[Any]":
        """Call a function while nothing is computed.

        Raises:
            BusyError: too many jobs wait.
        """
        return self._put(_Job(function=function))

    def _put(self, job: _Job) -> "Future[Any]":
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError from None
        return job.future

    def _work(self) -> None:
        following = self._jobs.get()
        while following is not None:
            batch, following = self._gather(following)
            running = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if running:
                self._run(running)
            if not self._ending:
                following = following or self._jobs.get()

    def _gather(self, first: _Job) -> tuple[list[_Job], _Job | None]:
        """Return the jobs to do together, and the one that was taken from the queue and does not fit beside them."""
        batch, count, end = [first], first.count, time.monotonic() + PATIENCE
        while count < AT_ONCE:
            try:
                job = self._jobs.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                self._ending = True
                break
            if count + job.count > AT_ONCE:
                return batch, job
            batch.append(job)
            count += job.count
        return batch, None

    def _run(self, batch: list[_Job]) -> None:
        try:
            images = [job.images for job in batch if job.images is not None]
            if not images:
                batch[0].future.set_result(batch[0].function())
                return
            columns = self._compute(np.concatenate(images))
            ends = np.cumsum([job.count for job in batch])
            for job, end in zip(batch, ends, strict=True):
                job.future.set_result(tuple(column[end - job.count : end] for column in columns))
        except Exception as error:
            for job in batch:
                job.future.set_exception(error)
