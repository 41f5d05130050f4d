"""Count what there is to read: lines, modules, private helpers, and the trip through `run(recipe)`.

The trip is the order in which `run` first calls each function, as somebody who reads along would open it. A step leads
from one module to another; a climb is a step to a module of a higher layer of the import contract in pyproject.toml. Of
another commit:

    git worktree add ../before COMMIT && PYTHONPATH=../before/src python benchmarks/structure.py
"""

import ast
import inspect
import os
import sys
import tempfile
import tomllib
from itertools import pairwise
from pathlib import Path
from types import FrameType

import mriscope

SOURCE = Path(mriscope.__file__).parent
CONTRACTS = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = [layer.split(" | ") for layer in CONTRACTS["contracts"][0]["layers"]] + [["experiment"]]
"""From the top, as the import contract has them; experiment is what workflows was called before."""
SETTINGS = {
    "model": "compact_cnn",
    "data": "phantom:subjects=12,slices=8",
    "input": {"size": 32},
    "training": {"epochs": 1},
}


def count_code() -> dict[str, int]:
    """Count lines, modules, functions and those whose name begins with one underscore."""
    texts = [file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py")]
    functions = [
        node.name
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        "lines": sum(len(text.splitlines()) for text in texts),
        "modules": len(texts),
        "functions": len(functions),
        "private helpers": sum(name.startswith("_") and not name.startswith("__") for name in functions),
    }


def record_trip() -> list[str]:
    """Return the modules that `run` goes through, by the first call of each of their functions."""
    run, recipe = mriscope.run, mriscope.make_recipe(SETTINGS)
    seen: set[object] = set()
    trip: list[str] = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        inside = code.co_filename.startswith(f"{SOURCE}/") and not code.co_name.startswith("<")  # no comprehension
        if event != "call" or code in seen or not inside:
            return
        seen.add(code)
        module = ".".join(Path(code.co_filename).relative_to(SOURCE).with_suffix("").parts)
        if code.co_flags & inspect.CO_OPTIMIZED and trip[-1:] != [module]:  # as the body of a class is not
            trip.append(module)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRISCOPE_CACHE"] = f"{folder}/imports"
        run(recipe, f"{folder}/imports-all", silent=True)  # so that no import is on the trip
        os.environ["MRISCOPE_CACHE"] = f"{folder}/cache"
        sys.setprofile(follow)
        try:
            run(recipe, f"{folder}/run", silent=True)
        finally:
            sys.setprofile(None)
    return trip


def main() -> None:
    """Print the counts."""
    rank = {package: place for place, layer in enumerate(LAYERS) for package in layer}
    trip = record_trip()
    steps = [(rank[one.split(".")[0]], rank[other.split(".")[0]]) for one, other in pairwise(trip)]
    counts = count_code() | {
        "modules on the trip of run": len(set(trip)),
        "steps": len(steps),
        "climbs": sum(after < before for before, after in steps),
    }
    print("\n".join(f"{name:28} {count:6,}" for name, count in counts.items()))
    if "--trip" in sys.argv:
        climbs = [False, *(after < before for before, after in steps)]
        print("\n".join(f"{'^' if climb else ' '} {module}" for climb, module in zip(climbs, trip, strict=True)))


if __name__ == "__main__":
    main()
