"""Results of a long measurement, kept as they are made, so that one that was cut off goes on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mriscope.environment import describe_environment
from mriscope.files import write_text

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "bench"


class Kept:
    """Results by key in runs/bench/NAME-COMMIT.json; those of another commit are in another file.

    Where files differ from the commit ("+"), nothing is read, as nobody knows what made it.
    """

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        self.commit = describe_environment("").commit or "unknown"
        self.file = folder / f"{name}-{self.commit}.json"
        unsure = self.commit == "unknown" or self.commit.endswith("+")
        self._found = json.loads(self.file.read_text()) if self.file.is_file() and not unsure else {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return what is kept under a key, or else measure it, and keep it; values that JSON can hold."""
        if key not in self._found:
            self._found[key] = measure()
            write_text(self.file, json.dumps(self._found, indent=1) + "\n")
        return self._found[key]
