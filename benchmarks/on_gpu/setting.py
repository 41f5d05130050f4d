"""What every part of benchmarks/gpu.py is given."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """Where a measurement runs, on what, and until when.

    Args:
        device: a GPU; the CPU for a try.
        data: the folder of the study's two parquet files.
        carried: the folder that `--prepare` filled.
        work: a folder for run directories; what is to be kept is packed from there.
        quick: one epoch and small sets, so that the script can be tried on a CPU.
        deadline: time.monotonic() at which the whole script should have ended.
    """

    device: torch.device
    data: Path
    carried: Path
    work: Path
    quick: bool
    deadline: float

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - time.monotonic()
