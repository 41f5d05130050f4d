"""Stopping a training between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch

from mriscope.errors import Interrupted
from mriscope.training.devices import add_up


class Stop:
    """Whether somebody asked the training to stop."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, _: object) -> None:
        if self.signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.signal = number

    def wanted(self, device: torch.device) -> bool:
        """Whether any process was asked; all must stop at one step, or the others would wait for it for ever."""
        number = int(max(add_up([float(self.signal)], device)))
        self.signal = self.signal or number
        return number > 0

    def obey(self, where: str) -> None:
        if self.signal:
            name = "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name
            raise Interrupted(f"stopped by {name} {where}; give the same command again to go on", self.signal)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM end the training after the step in hand, not within it."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
