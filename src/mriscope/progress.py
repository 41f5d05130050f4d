"""What a person sees while something long is done."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mriscope.files import visible

_EVERY = 10.0  # seconds between lines where nobody sees a bar move


@contextmanager
def saying(task: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a task is: a bar on a terminal, else a line to stderr every ten seconds.

    Args:
        task: what is done, such as "looking for copies".

    Yields:
        a function of what is done and what there is to do, 0 where that is unknown.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr, highlight=False)
    last, seen = time.monotonic(), console.is_terminal
    with Progress(console=console, disable=not seen, transient=True) as bar:
        shown = bar.add_task(task, total=None)

        def progress(done: int, total: int) -> None:
            nonlocal last
            bar.update(shown, completed=done, total=total or None)
            if not seen and time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                console.print(f"{task}: {done:,} of {total:,}" if total else f"{task}: {done:,}")

        yield progress


def show_notes() -> None:
    """Show what the package logs on stderr, a note for each record, in this process."""
    notes = logging.StreamHandler(sys.stderr)
    notes.setFormatter(_VisibleFormatter("note: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[notes], force=True)


class _VisibleFormatter(logging.Formatter):
    """Format a record such that no name within steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
