"""Tasks that workers can import: they compute, fail, are killed or wait, and leave a mark of each attempt."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from mriscope.errors import BadRow, BadRowsError


@dataclass(frozen=True)
class Item:
    number: int
    does: str
    folder: Path


ITEMS = ("computes", "is killed once", "is always killed", "fails once", "always fails", "is a mistake")


def items(folder: Path) -> dict[str, Item]:
    return {does: Item(number, does, folder) for number, does in enumerate(ITEMS)}


def attempts(folder: Path) -> dict[str, int]:
    return {does: len([*folder.glob(f"{does}-*")]) for does in ITEMS}


def act(item: Item) -> tuple[int, int]:
    """Return the square of a number and how many threads compute."""
    import torch

    attempt = len([*item.folder.glob(f"{item.does}-*")]) + 1
    (item.folder / f"{item.does}-{attempt}").touch()
    if item.does == "is always killed" or (item.does == "is killed once" and attempt == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if item.does == "always fails" or (item.does == "fails once" and attempt == 1):
        raise ValueError("out of luck")
    if item.does == "is a mistake":
        raise BadRowsError("set", [BadRow(0, "a.png", "is empty")], 1)  # which cannot be pickled
    return item.number**2, torch.get_num_threads()


def wait(folder: Path) -> None:
    (folder / f"worker-{os.getpid()}").touch()
    time.sleep(600)
