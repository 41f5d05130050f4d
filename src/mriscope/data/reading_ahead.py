"""Slices read by another process while this one is busy with imports."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mriscope.data.source import parse_source


@contextmanager
def reading_ahead(source: str) -> Iterator[None]:
    """Read files into the cache in another process while the block runs, which imports torch; then wait for them.

    Nothing is read ahead of the hub, which asks and tells, or where torch is imported already, or a second core is
    lacking. What goes wrong in the other process is no error here: the next reading finds nothing in the cache, reads
    for itself, and tells.

    Args:
        source: as mriscope.read takes it.

    Example:
        >>> with reading_ahead("folder of slices"):
        ...     import torch
    """
    if "torch" in sys.modules or (os.cpu_count() or 1) < 2 or parse_source(source).kind != "path":
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=_read, args=(source,), daemon=True)
    process.start()
    try:
        yield
        process.join()
    finally:
        process.kill()  # one that has ended is not touched
        process.join()


def _read(source: str) -> None:
    from mriscope.data.readers import read_silently

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who waits for it ends it
    logging.disable()
    with suppress(Exception):
        read_silently(source, None)
