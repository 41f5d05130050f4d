"""What a row of docs/performance.md holds, kept as JSON, and how the rows become a section of the page."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mriscope.environment import describe_environment
from mriscope.files import write_text

ROOT = Path(__file__).resolve().parents[2]
KEPT, PAGE = ROOT / "docs" / "speed.json", ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- written by benchmarks/speed.py -->", "<!-- end of what benchmarks/speed.py wrote -->"


@dataclass(frozen=True)
class Measured:
    """A table of figures.

    Args:
        title: the heading.
        header: names of the columns.
        rows: cells as they are shown.
        notes: sentences below the table.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join([f"### {self.title}", table, *self.notes])


def keep(name: str, measured: Measured, kept: Path) -> None:
    """Put a table into the file of kept ones, with where and when it was measured."""
    tables = read_kept(kept)
    tables[name] = {"measured": asdict(measured), "where": where()}
    write_text(kept, json.dumps(tables, indent=1, ensure_ascii=False) + "\n")


def where() -> str:
    """Describe machine, versions, commit and day."""
    found = describe_environment("cpu")
    versions = f"torch {found.packages['torch']}, Python {found.python}"
    return f"{found.cores} cores of {found.processor}, {versions}, commit {found.commit}, {found.started[:10]}"


def read_kept(kept: Path) -> dict[str, dict[str, object]]:
    return json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}


def write_page(kept: Path, page: Path, order: Sequence[str]) -> None:
    """Replace the page's section between the two marks by the tables that are kept, in order."""
    tables = read_kept(kept)
    parts = []
    for name in (name for name in order if name in tables):
        measured = Measured(**tables[name]["measured"])  # pyright: ignore[reportCallIssue]
        parts.append(f"{measured.markdown()}\n\n`python benchmarks/speed.py {name}`; {tables[name]['where']}.")
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(page, f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")
