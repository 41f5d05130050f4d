"""The command line as a process of its own: `mriscope`, and `python -m mriscope`."""

import atexit
import contextlib
import os
import sys

from mriscope.cli import main


def run() -> None:
    """Run the command line, and end the process without taking apart what imports made.

    After an import of torch that takes Python a quarter of a second, for memory that the system takes back anyway.
    """
    codes: list[int] = []
    atexit.register(_end, codes)  # the first that is registered is called last: threads and files have been seen to
    try:
        main()
    except SystemExit as ending:
        if isinstance(ending.code, int):
            codes.append(ending.code)
        raise


def _end(codes: list[int]) -> None:
    """End the process with a code; without one, or where something is left to print, leave it to Python."""
    with contextlib.suppress(Exception):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(codes[0])


if __name__ == "__main__":
    run()
