"""Progress of a training run: a bar for the epoch on a terminal, a line per epoch everywhere."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Monitor:
    """Show the steps and epochs of one training run.

    Args:
        silent: show nothing.
        record: is also given the metrics of each epoch.
    """

    def __init__(self, silent: bool = False, record: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._record = record
        self._console = Console(file=sys.stderr, quiet=silent, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[metrics]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task: TaskID | None = None

    @contextmanager
    def showing(self) -> Iterator["Monitor"]:
        """Show the bar within the block, on a terminal only: a log keeps the lines."""
        self._bar.disable = not self._console.is_terminal
        with self._bar:
            yield self

    def begin_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Start the bar of an epoch, counted from 1, of which some steps may be done already."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(f"epoch {epoch}/{epochs}", total=steps, completed=done, metrics="")

    def step(self, loss: float, accuracy: float, rate: float) -> None:
        """Advance the bar by one step; the means of the epoch so far and slices per second stand beside it."""
        assert self._task is not None
        metrics = f"loss {loss:.4f}  accuracy {100 * accuracy:.1f} %  {rate:.0f} slices/s"
        self._bar.update(self._task, advance=1, metrics=metrics)

    def end_epoch(self, metrics: Mapping[str, Any], epochs: int) -> None:
        """Print the line of an epoch, and hand its metrics on."""
        if self._record is not None:
            self._record(dict(metrics))
        self._console.out(
            f"epoch {metrics['epoch']}/{epochs}  "
            f"train loss {metrics['train_loss']:.4f} accuracy {100 * metrics['train_accuracy']:.2f} %  "
            f"validation loss {metrics['validation_loss']:.4f} accuracy {100 * metrics['validation_accuracy']:.2f} %  "
            f"{metrics['slices_per_second']:.0f} slices/s"
        )
