"""Runs are ranked; most tests write run directories by hand, so that the answer is known."""

import csv
import html
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_files import write_results

from mriscope.errors import InterruptedTrainingError, RecipeError, RunError
from mriscope.evaluation.plots import save
from mriscope.evaluation.predictions import Predictions, write_predictions
from mriscope.evaluation.ranking import holm
from mriscope.models.registry import count_macs, create_model
from mriscope.recipe import Recipe, make_recipe, write_recipe
from mriscope.recipes import find_recipe
from mriscope.reports.comparison import comparison_text
from mriscope.results import Comparison, Metrics
from mriscope.run_directory import METRICS, PREDICTIONS, RECIPE, WEIGHTS, RunDirectory
from mriscope.workflows import compare, train
from mriscope.workflows.compare import compare_recipes, compare_runs

OUTPUTS = ["compare.html", "ranking.csv", "ranking.md", "ranking.png"]
TWO = ("sick", "well")
STUDY = {"run": "BaselineCNN", "rank": 6, "accuracy": 97.19}
SMALL = """
model: {model}
data: phantom:subjects=24,slices=6,seed=1
input: {{size: 32}}
split: {{protocol: by_subject, test: 0.3, validation: 0.2}}
training: {{epochs: 1, batch_size: 32}}
"""


def write_run(folder: Path, right: Any, *, subjects: Any = None, paths: Any = None, **changes: Any) -> Path:
    """A finished run of two classes in turn, whose slices are called rightly or not.

    `changes` are settings of the recipe, and the fields protocol, leaky and device of its results and the fingerprint.
    """
    right = np.asarray(right, bool)
    records = {"fingerprint": "d" * 64, "protocol": "published", "leaky": None, "device": "CPU"}
    records |= {name: changes.pop(name) for name in list(changes) if name in records}
    recipe = make_recipe({"model": "baseline_cnn", "input": {"size": 32}, **changes})
    labels = np.arange(len(right)) % 2
    tested = Predictions.of(
        labels,
        np.eye(2)[np.where(right, labels, 1 - labels)],
        subjects=subjects,
        paths=[f"slice{row}" for row in range(len(right))] if paths is None else paths,
        class_names=TWO,
    )
    folder.mkdir(parents=True)
    (folder / RECIPE).write_text(write_recipe(recipe))
    (folder / WEIGHTS).touch()
    write_predictions(tested, folder / PREDICTIONS)
    write_results(folder, recipe, tested, data=records.pop("fingerprint"), **records)
    return folder


def write_recipes(folder: Path, **recipes: str) -> str:
    folder.mkdir()
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / "*.yaml")


def records_of(out: Path) -> list[dict[str, str]]:
    with (out / "ranking.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metrics_of(folder: Path) -> Metrics:
    return Metrics.read(folder / METRICS)


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Of 60 slices, a has all right, b all but one, and c 40; their recipes differ in the rate of learning."""
    runs = tmp_path / "runs"
    right = np.ones((3, 60), bool)
    right[1, 0] = right[2, :20] = False
    return [
        write_run(runs / "c", right[2], training={"learning_rate": 0.3}, model="keras_like"),
        write_run(runs / "a", right[0], training={"learning_rate": 0.1}, study=STUDY),
        write_run(runs / "b", right[1], training={"learning_rate": 0.2}),
    ]


def test_runs_are_ranked_with_ties_where_the_test_cannot_tell(three, tmp_path):
    comparison = compare_runs(three, tmp_path / "out")
    assert [(one.name, one.rank) for one in comparison.standings] == [("a", 1), ("b", 1), ("c", 3)]
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if file.name[0] != ".") == OUTPUTS
    _, b, c = comparison.standings
    assert b.above is not None
    assert c.above is not None
    assert [b.above.p, c.above.p] == pytest.approx([1, 2 / 2**19])
    assert [b.above.adjusted, c.above.adjusted] == pytest.approx(holm([b.above.p, c.above.p]))


def test_the_table_holds_the_figures_of_the_runs(three, tmp_path):
    compare_runs(three, tmp_path / "out")
    records = records_of(tmp_path / "out")
    assert [record["recipe"] for record in records] == ["a", "b", "c"]
    for record in records:
        metrics = metrics_of(tmp_path / "runs" / record["recipe"])
        for name, one in metrics.metrics.items():
            assert float(record[name]) == one.value == float(record[f"{name}_least"])
            assert [float(record[f"{name}_low"]), float(record[f"{name}_high"])] == [one.low, one.high]
        for name, one in metrics.classes.items():
            assert float(record[f"recall_{name}"]) == one.recall.value
        assert (int(record["parameters"]), float(record["training_seconds"])) == (1234, 61.5)
        assert float(record["slices_per_second"]) == 150
    assert [record["study_accuracy"] for record in records] == ["0.9719", "", ""]
    assert {record["leaky"] for record in records} == {"subjects unknown"}
    assert records[0]["p_above"] == ""
    assert float(records[2]["p_above_holm"]) == pytest.approx(2 * float(records[2]["p_above"]))


def test_macs_are_those_of_the_runs_own_network_and_size(three, tmp_path):
    compare_runs(three, tmp_path / "out")
    found = {record["recipe"]: int(record["macs"]) for record in records_of(tmp_path / "out")}
    for name, model in (("a", "baseline_cnn"), ("c", "keras_like")):
        assert found[name] == count_macs(create_model(model, classes=2, size=32).eval(), 32)


def test_equal_comparisons_give_equal_files(three, tmp_path):
    for name in ("one", "two"):
        compare_runs(three, tmp_path / name)
    for name in OUTPUTS:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_is_printed_says_how_it_was_judged_and_by_what_test(three, tmp_path):
    lines = comparison_text(compare_runs(three, tmp_path / "out")).splitlines()
    assert lines[0] == "published split, test part: 60 slices, subjects unknown"
    assert lines[2].split()[:3] == ["Rank", "Recipe", "Accuracy,"]
    assert lines[3].split()[:3] == ["1", "a", "100.00"]
    assert "97.19 (rank 6)" in lines[3]
    assert any(line.startswith("p: McNemar's exact test; subjects are unknown") for line in lines)


def test_the_page_is_one_file_that_lets_no_name_in_as_code(tmp_path):
    name = "<script>alert(1)</script>|x".replace("/", "_")
    runs = [
        write_run(tmp_path / name, [1, 1, 0, 1], leaky=True, training={"epochs": 1}),
        write_run(tmp_path / "plain", [1, 0, 0, 1], leaky=True, training={"epochs": 2}),
    ]
    out = tmp_path / "out"
    compare_runs(runs, out)
    page, text = (out / "compare.html").read_text(), (out / "ranking.md").read_text()
    assert "<script" not in page
    assert html.escape("<script>alert(1)") in page
    assert "default-src 'none'" in page
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in text
    assert r"\|x" in text
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if "alert" in line}
    assert widths == {9, 4, 7}  # ranking without a study column, recall and cost


def test_leaky_rows_are_marked_everywhere(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        compare, "save", lambda figure, path: (titles.append(figure.get_suptitle()), save(figure, path))
    )
    known = np.repeat(np.arange(10), 2)
    runs = [
        write_run(tmp_path / name, np.arange(20) >= wrong, subjects=known, leaky=leaky, training={"epochs": wrong + 1})
        for name, wrong, leaky in (("honest", 2, False), ("cheat", 1, True))
    ]
    out = tmp_path / "out"
    comparison = compare_runs(runs, out)
    assert [one.leaky for one in comparison.standings] == [True, False]
    assert [record["leaky"] for record in records_of(out)] == ["LEAKY", ""]
    assert "cheat (LEAKY)" in (out / "ranking.md").read_text()
    assert "LEAKY" in (out / "compare.html").read_text()
    assert "cheat (LEAKY)" in comparison_text(comparison)
    assert "exact sign-flip test over the 10 test subjects" in comparison.test
    assert "LEAKY: train and test share subjects" in titles[0].replace("\n", " ")


def test_runs_that_differ_in_their_seed_become_one_row(tmp_path):
    rights = {"x": [1] * 8 + [0] * 2, "x_seed1": [1] * 6 + [0] * 4, "y": [1] * 9 + [0]}
    runs = [
        write_run(tmp_path / name, right, seed=int(name.endswith("1")), training={"epochs": 1 + (name == "y")})
        for name, right in rights.items()
    ]
    out = tmp_path / "out"
    comparison = compare_runs(runs[::-1], out)
    y, x = comparison.standings
    assert [(one.name, one.runs) for one in (y, x)] == [("y", 1), ("x", 2)]
    accuracy = x.metrics["accuracy"]
    assert accuracy.value == pytest.approx(0.7)
    assert (accuracy.least, accuracy.greatest) == (0.6, 0.8)
    assert "60.00 to 80.00" in (out / "ranking.md").read_text()
    assert "Metrics are means over the seeds" in (out / "compare.html").read_text()
    assert comparison.test.startswith("exact sign-flip test over slices")


def test_two_runs_of_one_recipe_and_seed_stay_two_rows(tmp_path):
    runs = [write_run(tmp_path / place / "x", right) for place, right in (("cpu", [1, 1, 0, 1]), ("gpu", [1, 0, 0, 1]))]
    names = [one.name for one in compare_runs(runs, tmp_path / "out").standings]
    assert names == [str(run) for run in runs]  # both folders are called x


def test_a_row_on_other_data_is_refused_with_the_difference_named(three, tmp_path):
    other = write_run(tmp_path / "runs" / "other", [1, 0, 1], fingerprint="e" * 64)
    with pytest.raises(
        RunError, match=r"runs/c on 60 slices of data d{12} and \S+runs/other on 3 slices of data e{12}"
    ):
        compare_runs([*three, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_by_another_protocol_is_refused(three, tmp_path):
    other = write_run(tmp_path / "runs" / "other", np.ones(60), protocol="by_slice")
    with pytest.raises(RunError, match=r"runs/c was evaluated by the protocol published and \S+runs/other by by_slice"):
        compare_runs([*three, other], tmp_path / "out")


def test_a_row_on_other_test_slices_is_refused(three, tmp_path):
    paths = [f"slice{row}" for row in range(40, 100)]
    other = write_run(tmp_path / "runs" / "other", np.ones(60), paths=paths, training={"epochs": 7})
    with pytest.raises(RunError, match=r"on 60 test slices and \S+other on 60, of which 20 are the same"):
        compare_runs([*three, other], tmp_path / "out")


def test_a_row_of_another_input_size_is_judged_by_its_slices(three, tmp_path):
    larger = write_run(tmp_path / "large", np.ones(60), fingerprint="e" * 64, input={"size": 64})
    comparison = compare_runs([*three, larger], tmp_path / "out")
    assert len(comparison.standings) == 4
    assert any("slices of different sizes" in note for note in comparison.notes)
    relabelled = write_run(
        tmp_path / "turned", np.ones(60), fingerprint="e" * 64, input={"size": 96}, subjects=range(60)
    )
    with pytest.raises(RunError, match="evaluated on slices with other subjects, slice0 for one"):
        compare_runs([*three, relabelled], tmp_path / "out")


def test_seeds_that_draw_their_own_test_parts_are_compared_seed_by_seed(tmp_path):
    def write(name: str, seed: int, right: list[int]) -> Path:
        return write_run(
            tmp_path / f"{name}{seed}",
            right,
            paths=[f"{seed}-{row}" for row in range(len(right))],
            subjects=np.arange(len(right)) + 4 * seed,
            protocol="by_subject",
            seed=seed,
            training={"epochs": 1 + (name == "y")},
        )

    runs = [
        write("x", 0, [1, 1, 1, 1]),
        write("x", 1, [1, 1, 0]),
        write("y", 0, [0, 0, 1, 1]),
        write("y", 1, [0, 1, 1]),
    ]
    comparison = compare_runs(runs, tmp_path / "out")
    x, y = comparison.standings
    assert x.metrics["accuracy"].value == pytest.approx((1 + 2 / 3) / 2)
    assert y.above is not None
    assert y.above.p == pytest.approx(10 / 16)  # differences 1, 1, 1 and -1
    assert any("Each seed draws a test part of its own" in note for note in comparison.notes)
    with pytest.raises(RunError, match="x0 has 2 of them where y0 has 1; give both the same seeds"):
        compare_runs(runs[:3], tmp_path / "out")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (lambda runs: runs[:1], "this is one run; name runs of two recipes at least"),
        (lambda runs: [*runs, runs[1].parent / "." / "a"], "runs/a is named twice"),
        (lambda runs: [runs[0], runs[0].parent / "none"], "none is no run directory"),
        (lambda runs: [runs[0], unfinished(runs[1])], "the run in .*a is not finished"),
    ],
)
def test_what_cannot_be_compared_is_named(three, tmp_path, chosen, message):
    with pytest.raises(RunError, match=message):
        compare_runs(chosen(three), tmp_path / "out")


def unfinished(run: Path) -> Path:
    (run / METRICS).unlink()
    return run


def test_seeds_of_one_recipe_alone_are_no_comparison(tmp_path):
    runs = [write_run(tmp_path / f"x{seed}", [1, 0], seed=seed) for seed in range(2)]
    with pytest.raises(RunError, match="these are runs of one recipe, which differ in their seed alone"):
        compare_runs(runs, tmp_path / "out")


def test_a_run_directory_is_no_place_for_a_comparison(three):
    with pytest.raises(RunError, match="c is a run directory; name another folder"):
        compare_runs(three, three[0])


def times_of(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_recipes_are_trained_the_broken_reported_and_the_finished_left_alone(tmp_path, caplog):
    pattern = write_recipes(
        tmp_path / "recipes",
        good=SMALL.format(model="baseline_cnn") + "study: {run: BaselineCNN, rank: 6, accuracy: 97.19}\n",
        other=SMALL.format(model="different_baseline"),
        wrong_option=SMALL.format(model="baseline_cnn") + "model_options: {normz: 3}\n",
        no_source=SMALL.format(model="baseline_cnn").replace("phantom:subjects=24,slices=6,seed=1", "/no/such/folder"),
        unreadable="model: baseline_cnn\nepochs: 3\n",
    )
    runs, out = tmp_path / "runs", tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        comparison = compare_recipes([pattern], out, folder=runs, seeds=2, silent=True)
    check_first_comparison(comparison, runs, out)
    assert "wrong_option failed and is left out" in caplog.text
    trained = times_of(runs)
    again = compare_recipes([pattern], tmp_path / "again", folder=runs, seeds=2, silent=True)
    assert times_of(runs) == trained
    assert again == comparison


def check_first_comparison(comparison: Comparison, runs: Path, out: Path) -> None:
    assert sorted(path.name for path in runs.iterdir()) == ["good", "good_seed1", "other", "other_seed1"]
    assert [RunDirectory(runs / name).recipe.seed for name in ("good", "good_seed1")] == [0, 1]
    assert {one.name: one.runs for one in comparison.standings} == {"good": 2, "other": 2}
    for one in comparison.standings:
        values = [metrics_of(runs / name).metrics["accuracy"].value for name in (one.name, f"{one.name}_seed1")]
        assert one.metrics["accuracy"].value == pytest.approx(np.mean(values))
        assert one.study is None or one.name == "good"
    assert set(comparison.failures) == {"wrong_option", "no_source", "unreadable"}
    assert "baseline_cnn has no option 'normz'" in comparison.failures["wrong_option"]
    assert "/no/such/folder" in comparison.failures["no_source"]
    assert "epochs: unknown key" in comparison.failures["unreadable"]
    for name, why in comparison.failures.items():
        assert f"failed: {name}: {why}" in comparison_text(comparison)
        assert html.escape(name) in (out / "compare.html").read_text()
        assert f"* {name}: {why}".split("'")[0] in (out / "ranking.md").read_text()


class Trainer:
    """Stands in for the training: writes a run at once, or fails as it was told."""

    def __init__(self) -> None:
        self.failures: dict[str, BaseException] = {}
        self.called: list[str] = []
        self.settings: dict[str, Any] = {}

    def __call__(self, recipe: Recipe, folder: Path, **settings: Any) -> RunDirectory:
        self.called.append(folder.name)
        self.settings = settings
        if folder.name in self.failures:
            raise self.failures[folder.name]
        write_run(folder, [1, 0, 1, recipe.training.epochs > 1], **recipe.model_dump())
        return RunDirectory(folder)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    stand_in = Trainer()
    monkeypatch.setattr(train, "run", stand_in)
    return stand_in


@pytest.fixture
def recipes(tmp_path: Path) -> str:
    """Three recipes of the published split, a, b and c."""
    text = "model: baseline_cnn\nsplit: {{protocol: published}}\ntraining: {{epochs: {}}}\n"
    return write_recipes(tmp_path / "recipes", **{name: text.format(place) for place, name in enumerate("abc", 1)})


def test_after_ctrl_c_the_same_command_goes_on(trainer, recipes, tmp_path):
    trainer.failures["b"] = InterruptedTrainingError("stopped by Ctrl-C", 2)
    with pytest.raises(InterruptedTrainingError):
        compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
    assert trainer.called == ["a", "b"]
    assert not (tmp_path / "out").exists()
    trainer.failures.clear()
    compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
    assert trainer.called == ["a", "b", "b", "c"]


def test_one_seed_comes_after_the_other_and_a_row_that_fails_with_one_is_out(trainer, recipes, tmp_path):
    trainer.failures["b_seed1"] = ValueError("the loss\nis nan")
    comparison = compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs", seeds=3)
    assert trainer.called == ["a", "b", "c", "a_seed1", *["b_seed1"] * 3, "c_seed1", "a_seed2", "c_seed2"]
    assert [(one.name, one.runs) for one in comparison.standings] == [("c", 3), ("a", 3)]
    assert comparison.failures == {"b": "seed 1: ValueError: the loss is nan"}


def test_what_a_run_is_told_is_passed_on(trainer, recipes, tmp_path):
    compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs", source="phantom:seed=5", device="cpu")
    assert trainer.settings == {"device": "cpu"}
    assert RunDirectory(tmp_path / "runs" / "a").recipe.data == "phantom:seed=5"


def test_a_finished_run_of_other_settings_or_another_source_is_not_taken_for_it(trainer, recipes, tmp_path):
    for name, changes in (("a", {"training": {"epochs": 9}}), ("b", {"data": "phantom:seed=9"})):
        published = {"split": {"protocol": "published"}, "training": {"epochs": 2}, **changes}
        write_run(tmp_path / "runs" / name, [1, 0, 1, 1], **published)
    trainer.failures = {name: RunError("holds another run") for name in "ab"}
    with pytest.raises(RunError, match="1 of the recipes could be trained; a comparison needs two") as caught:
        compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
    assert trainer.called == ["a", "b", "c"]
    assert "\n  a: holds another run\n  b: holds another run" in str(caught.value)


def test_the_studys_figure_comes_from_the_recipe_as_it_is_now(trainer, recipes, tmp_path):
    compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
    with (tmp_path / "recipes" / "a.yaml").open("a") as file:
        file.write("study: {run: BaselineCNN, rank: 6, accuracy: 97.19}\n")
    comparison = compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
    assert trainer.called == ["a", "b", "c"]
    assert {one.name: one.study and one.study.accuracy for one in comparison.standings} == {
        "a": 97.19,
        "b": None,
        "c": None,
    }


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["{}/nothing*.yaml"], r"no file and no recipe fits \S+nothing\*.yaml"),
        (["{}/a.yaml"], "names a alone; a comparison needs two recipes"),
        (["{}/a.yaml", "{}/a.yaml"], "names a alone"),
        (["{}/*.yaml", "{}/more/*.yaml"], r"recipes/a.yaml and \S+more/a.yaml would share a run directory"),
        (["{}/a.yaml", "{}/more/other.yaml"], "a splits by published and other by by_subject, test 0.2, seed 0"),
    ],
)
def test_recipes_that_make_no_comparison_are_refused_before_any_training(trainer, recipes, tmp_path, patterns, message):
    folder = tmp_path / "recipes"
    write_recipes(folder / "more", a="model: keras_like\n", other="model: keras_like\n")
    with pytest.raises(RecipeError, match=message):
        compare_recipes([pattern.format(folder) for pattern in patterns], tmp_path / "out", folder=tmp_path / "runs")
    assert trainer.called == []


@pytest.mark.parametrize("source", ["sets/\U0001f600", "a\udcff", "~", "1e3", "a: b # c", " a\u2028b "])
def test_a_source_goes_into_the_recipes_as_it_is_named(source):
    recipes, failures = compare._read_recipes([find_recipe("baseline_cnn")], {"data": source, "manifest": None})
    assert (recipes["baseline_cnn"].data, failures) == (source, {})


def test_under_torchrun_it_refuses(trainer, recipes, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="compare trains in one process"):
        compare_recipes([recipes], tmp_path / "out", folder=tmp_path / "runs")
