"""What a training shows while it runs: a bar for the epoch on a terminal, a line per epoch everywhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Monitor:
    """Shows the steps and epochs of one training; a silent one shows nothing.

    Args:
        silent: show nothing.
        record: is also given the figures of each epoch.
    """

    def __init__(self, silent: bool = False, record: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._record = record
        self._console = Console(file=sys.stderr, quiet=silent, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task: TaskID | None = None

    @contextmanager
    def showing(self) -> Iterator["Monitor"]:
        """Shows the bar within the block, on a terminal only: a log keeps the lines."""
        self._bar.disable = not self._console.is_terminal
        with self._bar:
            yield self

    def begin_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"epoch {epoch}/{epochs}", total=steps, completed=done, figures="")

    def step(self, loss: float, accuracy: float, rate: float) -> None:
        assert self._task is not None
        figures = f"loss {loss:.4f}  accuracy {accuracy:.3f}  {rate:.0f} slices/s"
        self._bar.update(self._task, advance=1, figures=figures)

    def end_epoch(self, figures: dict[str, Any], epochs: int) -> None:
        if self._record is not None:
            self._record(figures)
        self._console.out(
            f"epoch {figures['epoch']}/{epochs}  "
            f"train loss {figures['train_loss']:.4f} accuracy {figures['train_accuracy']:.4f}  "
            f"validation loss {figures['validation_loss']:.4f} accuracy {figures['validation_accuracy']:.4f}  "
            f"{figures['slices_per_second']:.0f} slices/s"
        )
