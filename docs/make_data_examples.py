"""Print `mriscope data info` of five layouts into docs/data.md, from the trees that its tests make."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "data.md"
BEGIN, END = "<!-- made by docs/make_data_examples.py -->", "<!-- end -->"


def main() -> None:
    sys.path.append(str(ROOT / "tests"))
    from layouts import adni, oasis, table
    from test_docs_volumes import bids, dicom

    trees: dict[str, Callable[[Path], object]] = {
        "oasis": oasis,
        "adni": adni,
        "table": table,
        "bids": bids,
        "dicom": dicom,
    }
    with tempfile.TemporaryDirectory() as folder:
        shown = [describe(Path(folder), name, make) for name, make in trees.items()]
    page = PAGE.read_text(encoding="utf-8")
    text = "\n\n".join([BEGIN, *shown, END])
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, page, flags=re.DOTALL), encoding="utf-8")
    print(f"written: {PAGE.name}")


def describe(folder: Path, name: str, make: Callable[[Path], object]) -> str:
    """Return the command and what it prints, notes first, as a block of Markdown."""
    make(folder / name)
    environment = {**os.environ, "MRISCOPE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-m", "mriscope", "data", "info", name]
    told = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    lines = [*told.stderr.strip().splitlines(), *told.stdout.strip().splitlines()]
    return "\n".join(["```", f"$ mriscope data info {name}", *(line.rstrip() for line in lines), "```"])


if __name__ == "__main__":
    main()
