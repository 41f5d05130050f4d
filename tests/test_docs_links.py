"""Every link within the project's pages leads to a file or a heading that is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_in_the_contents_of_the_site():
    docs = ROOT / "docs"
    listed = set(re.findall(r"^([\w/]+)$", (docs / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {str(page.relative_to(docs).with_suffix("")) for page in PAGES if page.is_relative_to(docs)}
    assert listed == pages - {"index"}


def test_the_drawing_of_the_layers_is_that_of_the_import_contract():
    drawing = (ROOT / "docs" / "images" / "layers.svg").read_text(encoding="utf-8")
    drawn = [name.replace(" · ", " | ") for name in re.findall(r'class="name">([^<]+)<', drawing)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert drawn == contracts[0]["layers"][1:]  # without __main__
