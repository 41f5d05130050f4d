"""The results page says what run directories hold, and keeps it when they are gone."""

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from mriscope.recipe import make_recipe, read_recipe
from mriscope.run_directory import RunDirectory
from mriscope.workflows.train import run

ROOT = Path(__file__).resolve().parents[1]
ROW = """# Row {rank} of the study's table, {name}.
# The study reports {accuracy} % of the test slices.
# Expect {accuracy} %, 5 minutes on two CPU cores (an estimate: not run yet). It is small.
#   mriscope train recipes/study/{name}.yaml
model: {model}
data: phantom:subjects=16,slices=4,seed=1
input: {{size: 32}}
split: {{protocol: {protocol}, test: 0.3, validation: 0.2}}
training: {{epochs: 2, batch_size: 16}}
study: {{run: {name}, rank: {rank}, accuracy: {accuracy}}}
"""
CHANGED = ["training.precision=bfloat16", "training.epochs=1", 'training.optimizer_options={"weight_decay": 0.1}']


def load_page() -> Any:
    spec = importlib.util.spec_from_file_location("make_results_page", ROOT / "docs" / "make_results_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = load_page()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rows: low and collapsed run as they are, high with other settings, big and late not at all."""
    root = tmp_path_factory.mktemp("project")
    (root / "src/mriscope/recipes/study").mkdir(parents=True)
    rows = [
        ("low", 16, 1.0, "baseline_cnn", "by_slice"),
        ("collapsed", 18, 48.83, "different_baseline", "by_subject"),
        ("high", 6, 100.0, "keras_like", "by_slice"),
        ("big", 1, 99.97, "resnet50", "by_slice"),
        ("late", 19, 13.44, "baseline_cnn", "by_slice"),
    ]
    for name, rank, accuracy, model, protocol in rows:
        text = ROW.format(name=name, rank=rank, accuracy=accuracy, model=model, protocol=protocol)
        (root / "src/mriscope/recipes/study" / f"{name}.yaml").write_text(text)
    for name, changes in (("low", []), ("collapsed", []), ("high", CHANGED)):
        recipe = read_recipe(root / "src/mriscope/recipes/study" / f"{name}.yaml", changes)
        run(recipe, root / "runs" / name, silent=True)
    return root


@pytest.fixture
def written(project: Path, tmp_path: Path) -> Path:
    """The project with its page, in a place where a test may change it."""
    root = tmp_path / "project"
    shutil.copytree(project, root)
    PAGE.main(root / "runs", root)
    return root


def page_of(root: Path) -> str:
    return (root / "docs" / "results.md").read_text()


def cells(root: Path, name: str) -> list[str]:
    (line,) = re.findall(rf"^\| \d+ \| `{name}` .*$", page_of(root), re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_stand_by_the_studys_rank_with_the_figures_of_their_runs(written):
    assert re.findall(r"^\| (\d+) \|", page_of(written), re.MULTILINE) == ["1", "6", "16", "18", "19"]
    metrics = RunDirectory(written / "runs" / "low").metrics()
    one = metrics.metrics["accuracy"]
    assert one.reliable is False  # of a phantom with few subjects
    assert cells(written, "low")[2:4] == ["1.00", f"{100 * one.value:.2f} (interval not reliable here)"]
    assert metrics.training is not None
    assert cells(written, "low")[7:] == [f"{metrics.training.seconds / 60:.1f} min", "LEAKY"]
    assert cells(written, "collapsed")[8] == ""


def test_a_row_without_a_run_says_so(written):
    assert cells(written, "big")[3:] == ["not run", "", "", "", "", ""]
    assert page_of(written).count("Not run here.") == 1
    assert re.search(r"Row 19, late: The study reports 13\.44 %.+ Not run here\.", page_of(written))


def test_other_settings_than_the_recipes_are_named_as_a_command_takes_them(written):
    assert cells(written, "high")[8] == "1 of 2 epochs; `training.optimizer_options.weight_decay=0.1`; bfloat16; LEAKY"
    (command,) = re.findall(r"`(mriscope train recipes/study/high\.yaml .*?)`:", page_of(written))
    words = shlex.split(command)
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    again = read_recipe(written / "src/mriscope/recipes/study" / "high.yaml", changes)
    assert len(changes) == 3
    assert again == RunDirectory(written / "runs" / "high").recipe


def test_random_weights_in_the_place_of_imagenets_are_marked():
    recipe = make_recipe({"model": "resnet50", "study": {"run": "x", "rank": 1, "accuracy": 99.97}})
    record = {
        "recipe": {"model": "resnet50", "model_options": {"weights": "none"}, "training": {"epochs": 2}},
        "training": {"epochs": 2},
        "leaky": None,
    }
    assert PAGE.note(recipe, record) == "random weights, no ImageNet; 2 of 10 epochs"


def test_rows_at_or_above_the_studys_figure_less_one_point_are_counted(written):
    found = {name: RunDirectory(written / "runs" / name).metrics() for name in ("low", "collapsed", "high")}
    reported = {"low": 1.0, "collapsed": 48.83, "high": 100.0}
    accuracy = {name: 100 * one.metrics["accuracy"].value for name, one in found.items()}
    reach = [name for name in found if accuracy[name] >= reported[name] - 1]
    text = page_of(written)
    assert f"3 of the 4 CNN rows were run; **{len(reach)}** of them are at or above" in text
    (below,) = re.findall(r"Below it: (.*)\.", text)
    assert set(re.findall(r"`(\w+)`", below)) == set(found) - set(reach) >= {"high"}


@pytest.mark.parametrize(("value", "reached"), [(0.96186, 1), (0.96184, 0)])
def test_the_limit_is_one_point_below_as_the_studys_table_is_rounded(value, reached):
    recipe = make_recipe({"model": "baseline_cnn", "study": {"run": "x", "rank": 6, "accuracy": 97.19}})
    record = {"metrics": {"accuracy": {"value": value}}}
    assert f"**{reached}** of them" in PAGE.reached({"x": recipe}, {"x": record})


def test_the_unit_of_the_intervals_is_the_one_that_the_runs_used(written):
    assert "bootstrap intervals over subjects" in " ".join(page_of(written).split())
    records = json.loads((written / "docs" / "results.json").read_text())
    assert records.pop("crossval") == {}
    assert {record["interval"]["unit"] for record in records.values()} == {"subject"}
    records["low"]["interval"] = {"unit": "slice", "note": "they are too narrow"}
    assert "over slices or subjects, as stands below with each row." in PAGE.intervals(records)
    assert "intervals over slices," in PAGE.origin("low", PAGE.make_recipe({"model": "keras_like"}), records["low"])
    assert PAGE.intervals({"low": records["low"]}).endswith("over slices (they are too narrow).")


def test_a_row_stands_when_its_run_directory_is_gone(written):
    before = page_of(written)
    shutil.rmtree(written / "runs")
    PAGE.main(written / "runs", written)
    assert page_of(written) == before


def test_a_run_that_came_without_its_weights_from_another_program_stands_and_says_so(written):
    folder = written / "runs" / "low"
    (folder / "model.safetensors").unlink()
    facts = json.loads((folder / "environment.json").read_text())
    newer = {"started": "2999-01-01T00:00:00+00:00", "device": "a GPU", "program": "benchmarks/gpu.py"}
    (folder / "environment.json").write_text(json.dumps({**facts, **newer}))
    PAGE.main(written / "runs", written)
    (line,) = re.findall(r"^\* `mriscope train recipes/study/low\.yaml .*$", page_of(written), re.MULTILINE)
    assert "` by the loop of `benchmarks/gpu.py`: 2 epochs" in line
    assert "(a GPU)" in line


def test_the_newer_of_a_run_and_what_was_kept_stands(written):
    records = json.loads((written / "docs" / "results.json").read_text())
    records["low"]["run"]["started"] = "2000-01-01T00:00:00+00:00"
    records["high"]["run"]["started"] = "2999-01-01T00:00:00+00:00"
    for name in ("low", "high"):
        records[name]["run"]["commit"] = "kept"
    (written / "docs" / "results.json").write_text(json.dumps(records))
    PAGE.main(written / "runs", written)
    commits = {
        name: re.findall(rf"`mriscope train recipes/study/{name}\.yaml.*commit (\w+)", page_of(written))
        for name in records
    }
    assert commits["low"] != ["kept"]
    assert commits["high"] == ["kept"]


def test_headers_get_the_figures_of_rows_that_were_run_in_full(written):
    folder = written / "src/mriscope/recipes/study"
    before = {file.name: file.read_text() for file in folder.iterdir()}
    PAGE.main(written / "runs", written)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before
    for _ in range(2):  # the second time changes nothing
        PAGE.main(written / "runs", written, headers=True)
        after = {file.name: file.read_text() for file in folder.iterdir()}
        changed = {name for name in before if after[name] != before[name]}
        assert changed == {"low.yaml", "collapsed.yaml"}  # high was run for one epoch of two
        said = cells(written, "low")[3]
        assert re.search(
            rf"^# Expect {re.escape(said)} %, 1 min on \d+ cores? of .+\. It is small\.$", after["low.yaml"], re.M
        )


def test_a_project_without_runs_has_a_page(project, tmp_path):
    shutil.copytree(project / "src", tmp_path / "src")
    PAGE.main(tmp_path / "runs", tmp_path)
    assert "No row has been run yet." in page_of(tmp_path)


def test_the_page_of_this_project_is_what_the_kept_figures_give(tmp_path):
    shutil.copytree(ROOT / "src/mriscope/recipes", tmp_path / "src/mriscope/recipes")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "results.json", tmp_path / "docs")
    PAGE.main(tmp_path / "runs", tmp_path)
    for name in ("results.md", "results.json"):
        assert (tmp_path / "docs" / name).read_text() == (ROOT / "docs" / name).read_text()
