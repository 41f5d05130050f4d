"""Stopping a training run between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch

from mriscope.errors import InterruptedTrainingError
from mriscope.training.devices import all_reduce_sum


class StopRequest:
    """Remember whether the run was requested to stop; an instance is the handler of signals."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, _: object) -> None:
        """Note the number of a signal."""
        if self.signal:  # the second signal stops at once
            raise KeyboardInterrupt
        self.signal = number

    def requested(self, device: torch.device) -> bool:
        """Return whether any process was requested to stop; all stop at one step, or the others would wait forever."""
        number = int(max(all_reduce_sum([float(self.signal)], device)))
        self.signal = self.signal or number
        return number > 0

    def raise_if_requested(self, where: str) -> None:
        """Raise InterruptedTrainingError, which names the signal and where the run stopped, if one came."""
        if self.signal:
            name = "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name
            raise InterruptedTrainingError(
                f"stopped by {name} {where}; give the same command again to go on", self.signal
            )


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM within the block into a request to stop after the current step."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
