"""Quicker imports of large packages."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@atexit.register
def _unfreeze() -> None:
    """Let triton's objects go at the end, where it is loaded: its bindings print those that stay as leaks."""
    if "triton" in sys.modules:
        gc.unfreeze()


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Import within the block what stays until the program ends, such as torch.

    Importing torch makes a million objects that are never freed. Python's garbage collector would look through them
    again and again, also while it ends: a quarter of the time of an import of torch. Within the block it rests, and
    what was made until its end is not looked at any more.

    Example:
        >>> with lasting_imports():
        ...     import torch
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
