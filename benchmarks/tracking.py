"""Name a tracking server that is none, in seconds: `train --track ADDRESS` must end with one sentence within 10 s.

python3 run.py bench tracking

Prints, for each kind of such an address, the seconds from the command to its end, without the start of Python, and the
sentence.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from dead_servers import KINDS

from mriscope.errors import MriscopeError
from mriscope.recipe import make_recipe
from mriscope.workflows.train import run

RECIPE = make_recipe({"model": "keras_like", "data": "phantom:subjects=16,slices=2", "input": {"size": 32}})


def main() -> None:
    import mlflow  # noqa: F401 - what its import costs is that of any tracking

    for kind, (serve, _) in KINDS.items():
        with serve() as address, tempfile.TemporaryDirectory() as folder:
            start, told = time.perf_counter(), "no error"
            try:
                run(RECIPE, Path(folder, "run"), silent=True, device="cpu", track=address)
            except MriscopeError as error:
                told = str(error)
            print(f"{kind}: {time.perf_counter() - start:.1f} s, {told}", flush=True)


if __name__ == "__main__":
    main()
