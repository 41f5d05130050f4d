"""The code of the tutorial and of the how-to pages runs, in one folder, on a phantom smaller than the tutorial's."""

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, needs_chromium
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import ImageDraw
from served import serving
from volume_files import phantom_bids, phantom_dicoms

import mriscope
from mriscope import cli, sweep
from mriscope.reports.page import Picture, run_page
from mriscope.results import Answer
from mriscope.run_directory import open_run

DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIAL = DOCS / "tutorial.md"
HOW_TO = [DOCS / "howto" / f"{name}.md" for name in ("own_images", "review", "export", "methods_section", "cluster")]
APART = [DOCS / "howto" / f"{name}.md" for name in ("add_a_model", "add_a_cam")]


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of the blocks that can be run."""
    return re.findall(r"^```(console|python)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run(page: Path, replace: tuple[str, str] = ("", "")) -> int:
    """Run the blocks of a page in the current folder; return how many commands of mriscope were among them."""
    commands = 0
    for language, text in blocks_of(page):
        text = text.replace(*replace)
        if language == "python":
            exec(text, {"__name__": page.stem})
            continue
        for line in text.splitlines():
            command, _, expected = line.removeprefix("$ ").partition("    # exits with ")
            program, *words = shlex.split(command)
            if program == "curl":
                subprocess.run([program, "--silent", "--show-error", *words], check=True, capture_output=True)
                continue
            assert program == "mriscope", line
            assert cli._run_app(words) == int(expected or 0), line
            commands += 1
    return commands


SMALLEST: dict[tuple[int, int], float] = {}
"""Of pictures that were drawn, by width and height: the size of their smallest text in pixels of the file."""
_draw, _draw_text = FigureCanvasAgg.draw, ImageDraw.ImageDraw.text


def note_size(picture: tuple[int, int], text: float) -> None:
    SMALLEST[picture] = min(text, SMALLEST.get(picture, text))


def draw_and_note(canvas: FigureCanvasAgg) -> None:
    _draw(canvas)
    for one in canvas.figure.findobj(Text):
        if one.get_visible() and one.get_text().strip():
            note_size(canvas.get_width_height(physical=True), float(one.get_fontsize()) / 72 * canvas.figure.dpi)


def draw_text_and_note(draw: Any, place: Any, text: str, colour: Any, font: Any, *rest: Any) -> None:
    _draw_text(draw, place, text, colour, font, *rest)
    note_size(draw.im.size, font.size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole tutorial was run."""
    place = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "draw", draw_and_note)
        patch.setattr(ImageDraw.ImageDraw, "text", draw_text_and_note)
        patch.chdir(place)
        patch.setattr(sweep, "count_cores", lambda: 1)  # no pool, whose workers would import everything again
        assert run(TUTORIAL, ("subjects=48,slices=16", "subjects=24,slices=4")) == 13
    return place


def test_the_tutorial_leaves_what_it_tells_to_open(folder: Path):
    opened = re.findall(r"`(\w+/\w+\.(?:html|json))`", TUTORIAL.read_text(encoding="utf-8"))
    assert len(opened) == 4
    assert [name for name in opened if not (folder / name).is_file()] == []


SIZES = """() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), sizes = [];
  while (texts.nextNode()) {
    const around = texts.currentNode.parentElement;
    if (texts.currentNode.textContent.trim() && around.getClientRects().length)
      sizes.push(parseFloat(getComputedStyle(around).fontSize));
  }
  const pictures = [...document.images].map((one) =>
    [one.naturalWidth, one.naturalHeight, one.getBoundingClientRect().width / one.naturalWidth]);
  return { sizes, pictures, wider: document.documentElement.scrollWidth - innerWidth };
}"""


@needs_chromium
def test_no_text_of_the_pages_and_their_pictures_has_less_than_10_pixels(folder: Path, tmp_path: Path):
    run = open_run(folder / "runs" / "compact")
    pictures = [Picture(path.stem, "", path.read_bytes()) for path in sorted((run.path / "figures").glob("*.png"))]
    pictures.append(Picture("Explanations", "", (folder / "explained" / "grid.png").read_bytes()))
    (tmp_path / "run.html").write_text(run_page("A run", run.metrics(), "", run.environment, pictures))
    pages = [folder / name for name in ("audited/audit.html", "compared/compare.html", "explained/explain.html")]
    pages += [folder / "explain_compared" / "explain_compare.html", tmp_path / "run.html"]
    measured = 0
    with chromium() as browser:
        for width, page in itertools.product((390, 1280), pages):
            shown = browser.new_page(viewport={"width": width, "height": 900})
            shown.goto(page.as_uri())
            found = shown.evaluate(SIZES)
            assert found["wider"] <= 0, page
            assert min(found["sizes"]) >= 10, page
            scales = {(wide, high): scale for wide, high, scale in found["pictures"] if (wide, high) in SMALLEST}
            assert [size for size, scale in scales.items() if SMALLEST[size] * scale < 10] == [], page
            measured += len(scales)
            shown.close()
    assert measured >= 2 * 8


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_goes_on_from_the_tutorial(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    run(page)


def test_the_how_to_of_bids_runs_and_prints_what_it_shows(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    phantom_bids(Path("bids"))
    page = DOCS / "howto" / "bids.md"
    assert run(page) == 5
    capsys.readouterr()
    shown = re.search(r"```text\n\$ mriscope (.*?)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert cli._run_app(shlex.split(shown[1])) == 0
    printed = capsys.readouterr().out.splitlines()
    beginnings = [line.split("  ")[0] for line in shown[2].splitlines() if line]  # probabilities depend on the machine
    assert [one for one in beginnings if not any(line.startswith(one) for line in printed)] == []


def test_the_how_to_of_dicom_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    phantom_dicoms(Path("dicom"))
    assert run(DOCS / "howto" / "dicom.md") == 4
    capsys.readouterr()
    assert cli._run_app(["predict", "runs/dicom", "dicom/AD/p0", "--json"]) == 0
    assert len(Answer.from_json(capsys.readouterr().out).slices) == 6


ELSEWHERE = ("data fetch", "explain-compare", "export", "predict exported", "serve", "compare", "ui")
"""Commands of the how-to of the public slices that ask other hosts, wait for callers or run for long."""


def test_the_how_to_of_the_public_slices_runs_on_a_set_that_leaks_as_they_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    for number, path in enumerate(sorted(Path("brains").rglob("sub-*.png"))):
        place = Path("public", ("train", "train", "test")[number % 3], path.parent.name)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copytree("public/test/Non_Demented", "your_folder")
    shutil.copy(next(Path("your_folder").iterdir()), "your_slice.jpg")
    page = (DOCS / "howto" / "public_set.md").read_text(encoding="utf-8")
    lines = re.findall(r"^mriscope (.*?)(?: *#.*)?$", page, re.MULTILINE)
    assert len(lines) == 19
    for line in lines:
        if line.startswith(ELSEWHERE):
            continue
        words = shlex.split(line.replace("hf:Falah/Alzheimer_MRI", "public").replace("--folds 5", "--folds 3"))
        few = {"train": ["--set", "training.epochs=1"], "crossval": ["--folds", "3"]}.get(words[0], [])
        assert cli._run_app([*words, *few]) == (3 if words[0] == "audit" else 0), line


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_how_to_of_serving_asks_a_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("requests")
    monkeypatch.chdir(folder)
    shutil.copy(next(Path("brains").rglob("*.png")), "brains/slice.png")
    try:
        with serving(open_run("runs/compact"), mriscope.load_model("runs/compact", "cpu")) as (client, _):
            run(DOCS / "howto" / "serve.md", ("http://127.0.0.1:8000/", client.url))
    finally:
        Path("brains/slice.png").unlink()
    assert re.match(r"\w*Demented \{'", capsys.readouterr().out)


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
