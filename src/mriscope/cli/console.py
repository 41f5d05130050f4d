"""Standard output and error: readable in any encoding, safe whatever a name holds, and quiet once nobody reads."""

import codecs
import os
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

from mriscope.files import visible

# What stands in tables and sentences, for consoles that lack it; any other character becomes a question mark.
_PLAIN = {"–": "-", "—": "-", "×": "x", "±": "+-", "…": "...", "·": ".", "≤": "<=", "≥": ">=", "→": "->"}


class ReaderGoneError(Exception):
    """Whoever read the output has closed it, as `head` does."""


class _Output:
    """Standard output: names cannot steer the terminal, and a closed pipe is an error of its own.

    It has no `buffer`, so that nothing is written past it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(visible(text))
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self._stream, name)


class _Errors:
    """Standard error: where nobody reads it any more, the work goes on without it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(BrokenPipeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def set_up_streams() -> None:
    """Wrap standard output and error, where there are any."""
    codecs.register_error("mriscope", _replace)
    for name, wrapper in (("stdout", _Output), ("stderr", _Errors)):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process's life
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="mriscope")
        setattr(sys, name, wrapper(stream))


def silence(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, to nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_json(text: str) -> None:
    """Print JSON in ASCII, so that no encoding loses a character of it."""
    print(re.sub(r"[^\0-\x7f]", _escape, text))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end
