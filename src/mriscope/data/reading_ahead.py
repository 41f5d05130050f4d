"""Slices read by another process while this one is busy with imports."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mriscope.data.source import parse_source

_READ = """
import logging, os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)  # who waits for this process ends it
threading.Thread(target=lambda: os._exit(len(os.read(0, 1))), daemon=True).start()  # nor does it outlive who waits
logging.disable()
from mriscope.data.readers import read_silently
read_silently(sys.argv[1], None)
"""


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
    # Not of multiprocessing, whose processes import the caller's script first. -P: no module of the current folder.
    words = [sys.executable, "-P", "-c", _READ, source]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, env=environment, stdin=pipe, stdout=nothing, stderr=nothing) as process:
        try:
            yield
            process.wait()
        finally:
            process.kill()  # one that has ended is not touched
