"""The code of the tutorial and of the how-to pages runs, in one folder, on a phantom smaller than the tutorial's."""

import re
import shlex
from pathlib import Path

import pytest

from mriscope import cli, sweep

DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIAL = DOCS / "tutorial.md"
HOW_TO = [DOCS / "howto" / f"{name}.md" for name in ("own_images", "export", "methods_section")]
APART = [DOCS / "howto" / f"{name}.md" for name in ("add_a_model", "add_a_cam")]


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of the blocks that can be run."""
    return re.findall(r"^```(console|python)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(page: Path, replace: tuple[str, str] = ("", "")) -> int:
    """Run the blocks of a page in the current folder; return how many commands of mriscope were among them."""
    commands = 0
    for language, text in blocks_of(page):
        if language == "python":
            exec(text.replace(*replace), {"__name__": page.stem})
            continue
        for line in text.splitlines():
            command, _, expected = line.removeprefix("$ ").partition("    # exits with ")
            program, *words = shlex.split(command)
            assert program == "mriscope", line
            assert cli._run_app(words) == int(expected or 0), line
            commands += 1
    return commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole tutorial was run."""
    place = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sweep, "count_cores", lambda: 1)  # no pool, whose workers would import everything again
        assert run(TUTORIAL, ("subjects=48,slices=16", "subjects=24,slices=4")) == 13
    return place


def test_the_tutorial_leaves_what_it_tells_to_open(folder: Path):
    opened = re.findall(r"`(\w+/\w+\.(?:html|json))`", TUTORIAL.read_text(encoding="utf-8"))
    assert len(opened) == 4
    assert [name for name in opened if not (folder / name).is_file()] == []


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_goes_on_from_the_tutorial(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    run(page)


@pytest.mark.parametrize("page", APART, ids=lambda page: page.stem)
def test_a_how_to_stands_alone(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(page)


def test_the_paragraph_of_the_methods_section_says_what_the_run_holds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    run(DOCS / "howto" / "methods_section.md")
    assert re.search(
        r"slices of \d+ subjects, of whom 0 also had .* The model was compact_cnn, trained for 4 epochs",
        capsys.readouterr().out,
    )
