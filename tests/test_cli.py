"""The commands as their users call them; most within this process, where the answer is the same and comes sooner."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from data_files import png, write_files
from PIL import Image

from mriscope import choices, cli
from mriscope.cli.reading import Reading
from mriscope.data.slices import CLASS_NAMES, SEVERITY
from mriscope.evaluation.calibration import fit_temperature, scale_by_temperature
from mriscope.evaluation.pooling import POOLINGS, choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import read_predictions, write_predictions
from mriscope.evaluation.tasks import TASKS, to_task
from mriscope.explain import METHODS
from mriscope.results import ExplainedRegions
from mriscope.run_directory import RunDirectory

RECIPE = """
model: baseline_cnn
data: phantom:subjects=24,slices=6,seed=1
input: {size: 32}
split: {protocol: by_subject, test: 0.3, validation: 0.2}
training: {epochs: 2, batch_size: 16}
"""
RUN_FILES = {
    *("recipe.yaml", "split.json", "environment.json", "last.ckpt", "history.csv"),
    *("model.safetensors", "predictions.parquet", "metrics.json"),
}


@pytest.fixture
def call(capsys):
    """Call the command line: its exit code and what it printed."""

    def run(*words: object):
        code = cli._run_app([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "small.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def run_folder(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert cli._run_app(["train", str(recipe), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def picture(tmp_path) -> Path:
    file = tmp_path / "slice.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def test_a_run_directory_holds_what_the_contract_names(run_folder):
    assert {file.name for file in run_folder.iterdir()} >= RUN_FILES
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert metrics["protocol"] == "by_subject"
    assert metrics["leaky"] is False
    predictions = RunDirectory(run_folder).predictions()
    tested = predictions.of_part("test")
    assert metrics["n_slices"] == len(tested)
    assert metrics["n_subjects"] == tested.n_subjects == len(tested) // 6
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa"):
        figure = metrics["metrics"][name]
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["method"] == ("Wilson" if name == "accuracy" else "Bayesian bootstrap")
        assert figure["reliable"] is False  # of fewer than 20 subjects
    assert metrics["metrics"]["auroc"]["low"] is None  # a class has one test subject
    assert metrics["metrics"]["accuracy"]["value"] == (tested.predicted == tested.labels).mean()


def test_the_predictions_table_has_the_columns_of_the_contract(run_folder):
    import pyarrow.parquet as pq

    columns = pq.read_table(run_folder / "predictions.parquet").column_names
    assert columns == [
        "path",
        "label",
        "predicted",
        "subject",
        "part",
        *(f"probability_{name}" for name in CLASS_NAMES),
    ]


def test_no_test_subject_was_trained_on(run_folder):
    parts = json.loads((run_folder / "split.json").read_text())["parts"]
    subjects = {part: {path.split("_p")[0] for path in paths} for part, paths in parts.items()}
    assert not subjects["test"] & (subjects["train"] | subjects["validation"])
    assert not subjects["train"] & subjects["validation"]


def test_a_finished_run_is_left_alone_and_says_so(call, recipe, run_folder):
    before = {file: file.stat().st_mtime_ns for file in run_folder.iterdir() if file.is_file()}
    code, out, _ = call("train", recipe, "--out", run_folder)
    assert code == 0
    assert "was finished already; --fresh would train it anew" in out
    for name in ("metrics.json", "model.safetensors", "last.ckpt", "recipe.yaml"):
        assert (run_folder / name).stat().st_mtime_ns == before[run_folder / name]


def test_the_same_recipe_again_gives_the_same_run(call, recipe, run_folder, tmp_path):
    code, _, _ = call("train", recipe, "--out", tmp_path / "again")
    assert code == 0
    for name in ("model.safetensors", "predictions.parquet", "split.json"):
        assert (tmp_path / "again" / name).read_bytes() == (run_folder / name).read_bytes()


def test_another_recipe_in_the_same_folder_is_refused_with_the_difference(call, recipe, run_folder):
    code, _, err = call("train", recipe, "--out", run_folder, "--set", "training.epochs=3", "--set", "seed=4")
    assert code == 2
    assert "training.epochs is 2 there and 3 here; seed is 0 there and 4 here" in err
    assert err.count("\n") == 1


def test_a_folder_of_other_things_is_not_touched(call, recipe, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = call("train", recipe, "--out", tmp_path, "--fresh")
    assert code == 2
    assert "holds thesis.txt and is no run directory" in err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_fresh_begins_anew(call, recipe, tmp_path):
    folder = tmp_path / "run"
    assert call("train", recipe, "--out", folder)[0] == 0
    code, _, err = call("train", recipe, "--out", folder, "--fresh", "--set", "training.epochs=1")
    assert code == 0, err
    assert len(RunDirectory(folder).history()) == 1


def test_evaluate_shows_what_the_run_recorded(call, run_folder):
    code, out, _ = call("evaluate", run_folder, "--json")
    assert code == 0
    shown, kept = json.loads(out), RunDirectory(run_folder).metrics()
    assert shown["metrics"] == {name: one.to_json() for name, one in kept.metrics.items()}
    assert shown["confusion_matrix"] == kept.confusion_matrix
    code, out, _ = call("evaluate", run_folder)
    assert out.startswith("by subject split, test part: ")


def test_evaluate_on_another_source_judges_all_of_it_and_writes(call, run_folder, tmp_path):
    source = "phantom:subjects=8,slices=3,seed=9"
    code, out, err = call("evaluate", run_folder, "--data", source, "--out", tmp_path / "other", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["protocol"], shown["n_slices"], shown["n_subjects"]) == ("external", 24, 8)
    assert json.loads((tmp_path / "other" / "metrics.json").read_text()) == shown
    assert {file.name for file in (tmp_path / "other" / "figures").iterdir()} == {
        *("confusion.png", "roc.png", "reliability.png")
    }


def test_evaluate_by_subject_pools_as_the_validation_part_says(call, run_folder, tmp_path):
    words = ("--level", "subject", "--task", "non_vs_demented")
    code, out, err = call("evaluate", run_folder, *words, "--out", tmp_path / "judged", "--json")
    assert code == 0, err
    shown, predictions = json.loads(out), RunDirectory(run_folder).predictions()
    tested, validation = (to_task(predictions.of_part(part), words[-1]) for part in ("test", "validation"))
    how = choose_pooling(validation)
    pooled = pool_by_subject(tested, how)
    assert shown["pooling"] == {"how": how, "chosen": True, "divided_subjects": 0}
    assert (shown["level"], shown["task"], list(shown["classes"])) == (
        "subject",
        words[-1],
        ["Non_Demented", "Demented"],
    )
    assert (shown["n_slices"], shown["n_subjects"]) == (len(tested), len(pooled))
    assert np.sum(shown["confusion_matrix"]) == len(pooled)
    assert shown["metrics"]["accuracy"]["value"] == (pooled.predicted == pooled.labels).mean()
    assert shown["calibration"]["temperature"] == fit_temperature(pool_by_subject(validation, how))
    kept = read_predictions(tmp_path / "judged" / "predictions.parquet")
    assert kept.paths.tolist() == [f"subject-{number}" for number in np.unique(tested.subjects)]
    _, out, _ = call("evaluate", run_folder, *words, "--pooling", "majority")
    assert "task non_vs_demented: Non_Demented, Demented\n" in out
    assert "each subject is evaluated once, by the majority of its slices (as named)\n" in out
    accuracy = next(line for line in out.splitlines() if line.startswith("accuracy"))
    assert accuracy.endswith("interval not reliable here")  # of seven subjects
    assert out.count("test not reliable here") == 4  # two calibration errors, before and after the temperature
    assert "note: the temperature is fitted on 4 subjects of the validation part only" in out


def test_evaluate_by_subject_needs_subjects_and_says_how_to_find_them(call, run_folder, tmp_path):
    nameless = tmp_path / "run"
    shutil.copytree(run_folder, nameless)
    p = RunDirectory(run_folder).predictions()
    write_predictions(replace(p, subjects=np.full(len(p), -1)), nameless / "predictions.parquet")
    code, _, err = call("evaluate", nameless, "--level", "subject")
    assert code == 2
    count = len(p.of_part("test"))
    assert f"the subject of {count} of {count} slices is unknown" in err
    assert "find them with `mriscope audit SOURCE --out DIR`" in err


def manifest_of(run_folder: Path, file: Path, subject_of: Callable[[str], int], leave_out: int = 0) -> list[str]:
    """Write subjects for all slices of a run but the last few; the paths of its test part."""
    parts = json.loads((run_folder / "split.json").read_text())["parts"]
    paths = [path for name in ("train", "validation", "test") for path in parts[name]]
    kept = paths[: len(paths) - leave_out]
    file.write_text("path,subject\n" + "".join(f"{path},{subject_of(path)}\n" for path in kept))
    return parts["test"]


def test_evaluate_takes_the_subjects_of_a_runs_own_slices_from_a_manifest(call, run_folder, tmp_path):
    nameless, file, words = tmp_path / "run", tmp_path / "slices.csv", ("--level", "subject", "--json")
    shutil.copytree(run_folder, nameless)
    p = RunDirectory(run_folder).predictions()
    write_predictions(replace(p, subjects=np.full(len(p), -1)), nameless / "predictions.parquet")
    numbers = dict(zip(p.paths.tolist(), p.subjects.tolist(), strict=True))
    manifest_of(run_folder, file, lambda path: numbers.get(path, 900))
    code, out, err = call("evaluate", nameless, *words, "--manifest", file)
    assert code == 0, err
    assert json.loads(out) == json.loads(call("evaluate", run_folder, *words)[1])


def test_evaluate_finds_by_a_manifest_that_test_subjects_were_trained_on(call, run_folder, tmp_path):
    file, words = tmp_path / "slices.csv", ("--level", "subject", "--json", "--out", tmp_path / "judged")
    tested = manifest_of(run_folder, file, lambda path: int(path.rsplit("_p", 1)[1].split(".")[0]))
    code, out, err = call("evaluate", run_folder, *words, "--pooling", "majority", "--manifest", file)
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["leaky"], shown["shared_subjects"], shown["n_subjects"]) == (True, 6, 6)
    manifest_of(run_folder, file, lambda path: -1 if path not in tested else 1)
    shown = json.loads(call("evaluate", run_folder, "--json", "--manifest", file)[1])
    assert (shown["leaky"], shown["n_subjects"]) == (None, 1)


def test_evaluate_says_which_slice_a_manifest_lacks(call, run_folder, tmp_path):
    tested = manifest_of(run_folder, tmp_path / "slices.csv", len, leave_out=2)
    code, out, err = call("evaluate", run_folder, "--manifest", tmp_path / "slices.csv")
    assert (code, out) == (2, "")
    assert f"slices.csv lacks 2 of the run's {len(tested)} slices, first {tested[-2]!r}; give each a row" in err
    assert err.count("\n") == 1


def test_evaluate_refuses_the_slices_the_run_was_trained_on(call, run_folder):
    code, _, err = call("evaluate", run_folder, "--data", "phantom:subjects=24,slices=6,seed=1")
    assert code == 2
    assert (
        "of the 144 slices of phantom:subjects=24,slices=6,seed=1 were in this run's training or validation part" in err
    )


def test_explain_writes_an_overlay_for_each_slice_and_a_grid(call, run_folder, tmp_path):
    code, out, err = call("explain", run_folder, "--n", 5, "--out", tmp_path)
    assert code == 0, err
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 6
    assert "6 pictures in" in out
    sizes = {file.name: size_of(file) for file in pictures}
    assert sizes.pop("grid.png")[0] > 128
    assert set(sizes.values()) == {(32, 32)}


def test_explain_takes_images_a_layer_and_a_class(call, run_folder, picture, tmp_path):
    words = ("--images", picture, "--layer", "features.conv1", "--class", "Mild_Demented", "--study-exponents")
    code, _, err = call("explain", run_folder, *words, "--out", tmp_path / "out")
    assert code == 0, err
    names = {file.name for file in (tmp_path / "out").iterdir() if file.name[0] != "."}
    assert names == {"grid.png", "000_slice_gradcam.png", "explain.html", "regions.csv", "regions.json"}
    told = ExplainedRegions.read(tmp_path / "out" / "regions.json")
    assert (told.model, told.explained, told.regions.n_slices) == ("baseline_cnn", "Mild", 1)
    assert not any(one.ratio.has_interval for method in told.regions.methods for one in method.regions)


def test_explain_shows_several_methods_in_one_matrix_and_a_page(call, run_folder, tmp_path):
    words = ("--methods", "gradcam, layercam,eigencam", "--colormap", "inferno", "--alpha-by-strength")
    code, out, err = call("explain", run_folder, "--n", 3, *words, "--flip-smooth", "--out", tmp_path)
    assert code == 0, err
    assert f"10 pictures in {tmp_path}; begin with {tmp_path / 'explain.html'}" in out
    ends = [file.stem.rpartition("_")[2] for file in tmp_path.glob("0*.png")]
    assert sorted(ends) == ["eigencam"] * 3 + ["gradcam"] * 3 + ["layercam"] * 3
    page = (tmp_path / "explain.html").read_text()
    placed = ExplainedRegions.read(tmp_path / "regions.json").regions.n_placed
    assert page.count("data:image/png;base64,") == 1 + 3 * (1 + 3) + placed  # the scale; each plain, mapped, in regions
    assert page.count("times its area") > 0
    assert page.count("No regions are told of this slice") == 3 - placed
    assert "share of the map over the region's share of the area" in page.replace("&#39;", "'")
    assert page.count(" outside the brain</figcaption>") + page.count("empty map</figcaption>") == 9
    assert len(re.findall(r"true [^;]+; predicted [^;]+; subject [0-9]+, position [0-9]", page)) == 3
    assert "Which side of a picture is the subject's left is not known of image files" in page
    for words in ("Grad-CAM, Layer-CAM, Eigen-CAM", "flips and brightness", "inferno", "split by subject"):
        assert words in page
    assert "nothing on this page is a diagnosis" in page
    assert "LEAKY" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_explain_marks_a_leaky_run(call, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    metrics = json.loads((run_folder / "metrics.json").read_text())
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**metrics, "leaky": True}))
    assert call("explain", tmp_path / "run", "--n", 1, "--out", tmp_path / "out")[0] == 0
    assert '<p class="verdict leaky">LEAKY' in (tmp_path / "out" / "explain.html").read_text()
    assert call("explain", run_folder, "--n", 1, "--out", tmp_path / "honest")[0] == 0
    assert size_of(tmp_path / "out" / "grid.png")[1] > size_of(tmp_path / "honest" / "grid.png")[1]


def test_explain_compare_prints_the_tables_and_a_recommendation(call, run_folder, tmp_path):
    code, out, err = call("explain-compare", run_folder, "--n", 6, "--methods", "gradcam,layercam", "--out", tmp_path)
    assert code == 0, err
    written = {file.name for file in tmp_path.iterdir() if file.name[0] != "."}
    files = {f"explain_compare.{kind}" for kind in ("csv", "html", "json")}
    assert written - {"cohort.png"} == {*files, "explain_compare_regions.csv"}
    assert ("and cohort.png" in out) == ("cohort.png" in written)
    for words in ("split by subject", "Grad-CAM", "Random map", "Centre map", "Insertion less deletion", "recommended"):
        assert words.lower() in out.lower()


def test_explain_takes_away_what_it_wrote_before_and_nothing_else(call, run_folder, tmp_path):
    out, word = tmp_path / "explain", ("explain", run_folder, "--out", tmp_path / "explain")
    assert call(*word, "--n", 6)[0] == 0
    for name in ("000_mine.png", "notes.txt"):
        (out / name).write_text("mine")
    before = {file.name for file in out.glob("*.png")}
    assert call(*word, "--n", 2, "--seed", 5, "--colormap", "jett")[0] == 2  # a mistake costs nothing
    assert {file.name for file in out.glob("*.png")} == before
    assert call(*word, "--n", 2, "--seed", 5)[0] == 0
    after = {file.name for file in out.iterdir()}
    assert len([name for name in after if name.endswith(".png")]) == 1 + 2 + 1
    assert {"grid.png", "explain.html", "000_mine.png", "notes.txt"} < after


@pytest.mark.parametrize("listed", ["damaged", "{}", '["../outside.png", "notes.txt", 3]'])
def test_explain_takes_away_nothing_that_is_not_its_own(call, run_folder, tmp_path, listed):
    out = tmp_path / "explain"
    out.mkdir()
    (tmp_path / "outside.png").write_text("mine")
    (out / "notes.txt").write_text("mine")
    (out / "pictures.json").write_text(listed)
    assert call("explain", run_folder, "--n", 1, "--out", out)[0] == 0
    assert (tmp_path / "outside.png").is_file()
    assert (out / "notes.txt").is_file()


def test_predict_prints_class_and_probabilities_of_files_and_folders(call, run_folder, picture):
    code, out, err = call("predict", run_folder, picture, picture.parent, "--json")
    assert code == 0, err
    answers = json.loads(out)["slices"]
    assert [answer["path"] for answer in answers] == [str(picture)] * 2
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert answer["class"] == max(answer["probabilities"], key=answer["probabilities"].get)
    _, out, _ = call("predict", run_folder, picture)
    assert out.splitlines()[0].split()[:6] == ["image", "class", *SEVERITY]


def test_predict_agrees_with_the_predictions_of_the_run(call, run_folder, tmp_path):
    """A test slice saved as a picture gets the probabilities that the run recorded for it, calibrated."""
    from mriscope.data.readers import read

    slices = read("phantom:subjects=24,slices=6,seed=1", size=32)
    tested = RunDirectory(run_folder).predictions().of_part("test")
    row = slices.paths.tolist().index(tested.paths[0])
    Image.fromarray(np.array(slices.images[row])).save(tmp_path / "one.png")
    _, out, _ = call("predict", run_folder, tmp_path / "one.png", "--json")
    answer = json.loads(out)
    said = [answer["slices"][0]["probabilities"][name] for name in CLASS_NAMES]
    expected = scale_by_temperature(tested.probabilities[:1], answer["inference"]["temperature"])[0]
    np.testing.assert_allclose(said, expected, atol=1e-6)


def test_splits_are_written_and_named(call, tmp_path):
    words = ("split", "phantom:subjects=8,slices=2", "--protocol", "by_slice", "--folds", 2, "--out", tmp_path)
    code, out, err = call(*words)
    assert code == 0, err
    assert out.split() == [str(tmp_path / f"repeat0-fold{fold}.json") for fold in (0, 1)]


def test_models_are_listed(call):
    code, out, _ = call("models", "--json")
    cards = {card["name"]: card for card in json.loads(out)}
    assert code == 0
    assert cards["baseline_cnn"]["parameters"] == 8_408_132
    assert set(cards["baseline_cnn"]) == {"name", "parameters", "macs", "about"}
    assert "8,408,132" in call("models")[1]


def test_data_info_counts(call):
    code, out, _ = call("data", "info", "phantom:subjects=8,slices=3", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["n_slices"], facts["n_subjects"], facts["size"]) == (24, 8, [128, 128])
    assert sum(one["slices"] for one in facts["classes"].values()) == 24
    assert sum(one["subjects"] for one in facts["classes"].values()) == 8
    assert "24 slices of 128×128, 8 subjects" in call("data", "info", "phantom:subjects=8,slices=3")[1]


def test_an_audit_answers_a_script_with_its_exit_code(call, run_folder, tmp_path):
    source = "phantom:subjects=24,slices=6,seed=1"
    code, out, err = call("audit", source, "--split", run_folder / "split.json", "--out", tmp_path / "audit")
    assert code == 0, err  # a split by subject, made at the size of the run's network
    assert out.startswith("No leak found: the ")
    assert f"written to {tmp_path / 'audit'}; begin with" in out
    record = json.loads((run_folder / "split.json").read_text())
    parts = record["parts"]
    parts["train"][0], parts["test"][0] = parts["test"][0], parts["train"][0]
    (tmp_path / "recipe.yaml").write_text((run_folder / "recipe.yaml").read_text())
    (tmp_path / "split.json").write_text(json.dumps(record))
    code, out, _ = call("audit", source, "--split", tmp_path / "split.json", "--out", tmp_path / "audit", "--json")
    facts = json.loads(out)
    assert (code, facts["leaky"], facts["split"]["shared"]["subjects_in_train"]) == (3, True, 2)
    code, out, _ = call("audit", source, "--out", tmp_path / "audit")
    assert code == 5
    assert out.startswith("No split was audited")


def test_an_audit_that_cannot_tell_says_so_with_its_exit_code(call, tmp_path):
    names = [(part, name, seed) for part in ("train", "test") for name in ("AD", "CN") for seed in range(4)]
    write_files(
        tmp_path / "data", {f"{part}/{name}/{seed}.png": png(row) for row, (part, name, seed) in enumerate(names)}
    )
    code, out, _ = call("audit", tmp_path / "data", "--out", tmp_path / "audit")
    assert code == 4
    assert out.startswith("CANNOT TELL")


def test_the_real_slices_are_counted(call, real_slices_folder):
    code, out, _ = call("data", "info", real_slices_folder, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["parts"] == {"test": 1280, "train": 5120}
    assert {name: (one["train"], one["test"]) for name, one in facts["classes"].items()} == {
        "Mild_Demented": (724, 172),
        "Moderate_Demented": (49, 15),
        "Non_Demented": (2566, 634),
        "Very_Mild_Demented": (1781, 459),
    }


def test_the_real_slices_train_by_the_published_split(call, recipe, real_slices_folder, tmp_path):
    settings = ("--set", "split.protocol=published", "--set", "training.epochs=4", "--set", "training.batch_size=32")
    code, _, err = call("train", recipe, "--data", real_slices_folder, "--out", tmp_path / "run", *settings)
    assert code == 0, err
    metrics = RunDirectory(tmp_path / "run").metrics()
    assert (metrics.n_slices, metrics.n_subjects, metrics.leaky) == (1280, 200, True)
    assert metrics.interval.unit == "subject"
    assert metrics.metrics["accuracy"].low > 634 / 1280  # more than the share of the largest class


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "absent.yaml"], "absent.yaml: cannot be read (there is no such file, and no recipe of that name)"),
        (["train", "{recipe}", "--devise", "cpu"], "No such option: --devise"),
        (["train", "{recipe}", "--device", "tpu", "--out", "{tmp}/r"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["train", "{recipe}", "--set", "model=baselin", "--out", "{tmp}/r"], "did you mean baseline_cnn"),
        (["train", "{recipe}", "--set", "training.lr=1", "--out", "{tmp}/r"], "did you mean learning_rate?"),
        (["train", "{recipe}", "--set", "training.optimizer=AdamV", "--out", "{tmp}/r"], "did you mean"),
        (["train", "{recipe}", "--set", "training.objective=cross", "--out", "{tmp}/r"], "cross_entropy"),
        (["train", "{recipe}", "--data", "{tmp}/nowhere", "--out", "{tmp}/r"], "does not exist"),
        (["train", "{recipe}", "--data", "phantom:subjcts=3", "--out", "{tmp}/r"], "subjects"),
        (["train", "{recipe}", "--set", "split.protocol=published", "--out", "{tmp}/r"], "publishes no train and test"),
        (["evaluate", "{tmp}"], "is no run directory"),
        (["evaluate", "{run}", "--part", "tset"], "'tset' is not one of 'test', 'validation'"),
        (["evaluate", "{run}", "--data", "{tmp}/nowhere"], "does not exist"),
        (["evaluate", "{run}", "--level", "subjects"], "'subjects' is not one of"),
        (["evaluate", "{run}", "--task", "non_vs_dement"], "is not one of 'four_classes'"),
        (["evaluate", "{run}", "--level", "subject", "--pooling", "mean"], "mean_probability"),
        (["evaluate", "{run}", "--pooling", "majority"], "goes with --level subject"),
        (["evaluate", "{run}", "--level", "subject", "--part", "validation"], "name it with --pooling"),
        (["explain", "{run}", "--layer", "features.conv9", "--out", "{tmp}/e"], "features.conv"),
        (["explain", "{run}", "--methods", "gradcam,layercan", "--out", "{tmp}/e"], "did you mean layercam"),
        (["explain-compare", "{run}", "--methods", "gradcam,layercan"], "did you mean layercam"),
        (["explain-compare", "{run}", "--n", "1"], "Invalid value for '--n'"),
        (["explain", "{run}", "--class", "Mild", "--out", "{tmp}/e"], "did you mean Mild_Demented or"),
        (["explain", "{run}", "--colormap", "jett", "--out", "{tmp}/e"], "did you mean jet"),
        (["explain", "{run}", "--images", "{tmp}/no.png", "--out", "{tmp}/e"], "there is no file"),
        (["explain", "{run}", "--alpha", "2"], "Invalid value for '--alpha'"),
        (["predict", "{run}", "{tmp}/no.png"], "there is no file"),
        (["predict", "{run}", "{tmp}"], "holds no image file and no volume; name one that does"),
        (["predict", "{run}", "{recipe}"], "1 of 1 rows are unusable; name image files (.jpg,"),
        (["data", "info", "nowhere"], "does not exist"),
        (["train", "{recipe}", "--set", "split.fold=1", "--out", "{tmp}/r"], "split: fold is given without folds"),
        (
            ["train", "{recipe}", "--set", "split.file={tmp}/x.json", "--out", "{tmp}/r"],
            "x.json does not exist; name a file",
        ),
        (
            ["crossval", "{recipe}", "--protocol", "published", "--out", "{tmp}/r"],
            "not one of 'by_subject', 'by_slice'",
        ),
        (["crossval", "{recipe}", "--folds", "1", "--out", "{tmp}/r"], "Invalid value for '--folds'"),
        (["crossval", "{recipe}", "--out", "{run}"], "and is no cross-validation; name an empty or new folder"),
        (["split", "phantom:subjects=8,slices=2", "--folds", "9", "--out", "{tmp}/s"], "9 folds need 9 subjects"),
        (["data", "fetch", "Falah"], "write hf:owner/name"),
        (["audit", "phantom:subjects=4", "--split", "published", "--out", "{tmp}/a"], "publishes no train and test"),
        (
            ["data", "info", "phantom:subjects=4", "--manifest", "{tmp}/no.csv"],
            "no.csv does not exist; name a CSV file",
        ),
        (["evaluate", "{run}", "--manifest", "{tmp}/no.csv"], "no.csv does not exist; name a CSV file"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_code_2(call, run_folder, recipe, tmp_path, words, message):
    filled = [word.format(run=run_folder, recipe=recipe, tmp=tmp_path) for word in words]
    code, out, err = call(*filled)
    assert code == 2
    assert err.startswith("mriscope: ")
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []  # and nothing is left half-written


@pytest.mark.parametrize("name", ["model.safetensors", "predictions.parquet", "metrics.json", "recipe.yaml"])
@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_run_is_told_from_a_program_error(call, run_folder, tmp_path, picture, name, content):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run_folder, folder)
    (folder / name).write_bytes(content)
    codes = {call(*words)[0] for words in (("evaluate", folder), ("predict", folder, picture))}
    assert codes <= {0, 2}
    assert 2 in codes


def test_an_unfinished_run_is_not_judged(call, run_folder, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run_folder, folder)
    (folder / "metrics.json").unlink()
    code, _, err = call("evaluate", folder)
    assert code == 2
    assert "is not finished; give its `mriscope train` command again" in err


def test_bad_rows_stop_a_training_or_are_left_out_and_listed(call, recipe, tmp_path):
    random = np.random.default_rng(0)
    for name in CLASS_NAMES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for row in range(6):
            pixels = random.integers(0, 255, (32, 32)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{row}.png")
    (tmp_path / "data" / CLASS_NAMES[0] / "bad.png").write_bytes(b"no picture")
    words = (
        "train",
        recipe,
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "run",
        "--set",
        "split.protocol=by_slice",
    )
    code, _, err = call(*words)
    assert code == 2
    assert "1 of 25 rows are unusable" in err
    assert "Mild_Demented/bad.png" in err
    assert not (tmp_path / "run").exists()
    code, _, err = call(*words, "--skip-bad")
    assert code == 0, err
    assert (tmp_path / "run" / "bad_rows.csv").read_text().count("\n") == 2
    assert call("explain", tmp_path / "run", "--out", tmp_path / "explain")[0] == 0


def test_version_and_help(call):
    assert call("--version")[1].strip().count(".") == 2
    for command in (
        ["data", "info"],
        ["data", "fetch"],
        ["audit"],
        ["train"],
        ["evaluate"],
        ["explain"],
        ["explain-compare"],
        ["predict"],
        ["models"],
    ):
        code, out, _ = call(*command, "--help")
        assert code == 0
        assert "Example: mriscope" in out


def in_new_process(*words: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from mriscope.cli import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from mriscope.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in imported
    assert not imported & {"torch", "timm", "mlflow", "numpy", "pydantic", "matplotlib", "pyarrow", "sklearn", "rich"}


STOPPED = """
import os, signal
from mriscope.cli import main
from mriscope.training import loop

take, steps = loop._step, []
def stopped(*given):
    steps.append(given)
    if len(steps) == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    return take(*given)
loop._step = stopped
main()
"""


def test_a_training_stopped_by_the_system_is_finished_by_the_same_command(call, recipe, tmp_path):
    """SIGTERM to a real process in its second epoch; the same command then ends with the weights of an unbroken run."""
    words = ["train", recipe, "--set", "training.epochs=3", "--out"]
    command = [sys.executable, "-c", STOPPED, *map(str, words), str(tmp_path / "run")]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert stopped.stderr.splitlines()[-1].startswith("mriscope: stopped by SIGTERM in epoch 2 after step 2 ")
    assert "give the same command again to go on" in stopped.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert call(*words, tmp_path / "run")[0] == 0
    assert call(*words, tmp_path / "whole")[0] == 0
    one, other = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "whole"))
    assert one == other


def test_two_processes_cannot_train_in_one_folder(call, recipe, tmp_path):
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        code, _, err = call("train", recipe, "--out", tmp_path / "run")
    assert code == 2
    assert "another process is at work in" in err


def test_torchrun_trains_one_run_with_two_processes(recipe, tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "mriscope",
    ]
    done = subprocess.run(
        [*torchrun, "train", str(recipe), "--out", str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written to") == 1
    assert RunDirectory(tmp_path / "run").finished


def test_the_demo_does_the_whole_job(call, tmp_path, monkeypatch):
    from mriscope.workflows import demo

    small = tmp_path / "demo.yaml"
    small.write_text(RECIPE)
    monkeypatch.setattr(demo, "RECIPE", small)
    code, out, err = call("demo", "--out", tmp_path / "out")
    assert code == 0, err
    report = tmp_path / "out" / "report.html"
    story, rest = out.split(f"\nthe report: {report}\n\nnext, with your own data:\n")
    assert [line.split()[0] for line in rest.splitlines()] == ["mriscope"] * 3
    first, verdict, by_subject, maps = story.strip().splitlines()
    leaky, honest = (RunDirectory(tmp_path / "out" / name).metrics() for name in ("run-by-slice", "run"))
    figures = [f"{100 * one.metrics['accuracy'].value:.1f} %" for one in (leaky, honest)]
    assert (leaky.leaky, honest.leaky) == (True, False)
    assert re.findall(r"[0-9.]+ %", first) == figures
    assert verdict.startswith("The audit of the split by slice: LEAKY")
    assert re.search(r"its AUROC is [01]\.[0-9]{2}; the best baseline without a network has [01]\.[0-9]{2}", by_subject)
    assert maps.startswith(("Layer-CAM is highest where", "Maps could not be held against"))
    page = report.read_text()
    assert page.index(first) < page.index("<h2>Metrics</h2>")
    assert "brain fraction alone" in page
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")  # one file that fetches nothing
    accuracy = RunDirectory(tmp_path / "out" / "run").metrics().metrics["accuracy"]
    assert f'{100 * accuracy.value:.1f} %<br><span class="small">interval not reliable here' in page.replace("\n", "")


CHOICES = [
    (("train", "--device"), ["auto", "cpu", "cuda"]),
    (("evaluate", "--part"), ["test", "validation"]),
    (("evaluate", "--level"), ["slice", "subject"]),
    (("evaluate", "--task"), ["four_classes", "three_classes", "non_vs_demented"]),
    (("evaluate", "--pooling"), ["mean_probability", "mean_logit", "majority", "chosen"]),
    (("crossval", "--protocol"), ["by_subject", "by_slice"]),
    (("split", "--protocol"), ["published", "by_slice", "by_subject"]),
    (("import-weights", "--scale"), ["raw", "unit", "imagenet"]),
]


@pytest.mark.parametrize(("option", "values"), CHOICES, ids=lambda one: "-".join(one))
def test_choices_stand_in_help_complete_in_the_shell_and_refuse_others(call, monkeypatch, capsys, option, values):
    command, name = option
    _, out, _ = call(command, "--help")
    assert f"{name} <{'|'.join(values)}>" in out
    assert complete(monkeypatch, capsys, command, name, values[0][:2])[0] == values[0]
    assert complete(monkeypatch, capsys, command, name, "") == values
    code, _, err = call(command, name, "neither")
    assert code == 2
    assert re.fullmatch(rf"mriscope: Invalid value for '{name}': 'neither' is not one of [^\n]+\n", err)


def test_methods_complete_after_each_comma(monkeypatch, capsys):
    found = complete(monkeypatch, capsys, "explain", "--methods", "gradcam,layer")
    assert found == ["gradcam,layercam"]
    assert complete(monkeypatch, capsys, "explain", "--methods", "al") == ["all"]


def complete(monkeypatch, capsys, command: str, name: str, typed: str) -> list[str]:
    monkeypatch.setenv("_MRISCOPE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"mriscope {command} {name} {typed}")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        cli.app([], prog_name="mriscope")
    monkeypatch.delenv("_MRISCOPE_COMPLETE")
    return capsys.readouterr().out.split()


def test_the_methods_that_help_names_are_those_that_there_are():
    assert get_args(choices.Method) == tuple(METHODS)
    assert get_args(choices.Task) == tuple(TASKS)
    assert get_args(choices.PoolingMethod) == tuple(POOLINGS)


@pytest.mark.parametrize("words", [["data", "info"], ["audit"], ["train"], ["evaluate"], ["crossval"], ["split"]])
def test_commands_that_read_a_source_take_the_same_options_of_reading(call, words):
    _, out, _ = call(*words, "--help")
    for one in fields(Reading):
        assert f"--{one.name.replace('_', '-')}" in out


def test_options_of_reading_without_a_source_are_refused(call, run_folder):
    code, _, err = call("evaluate", run_folder, "--plane", "coronal")
    assert code == 2
    assert "--plane says how another source is read; name that with --data" in err


def ended(body: str) -> tuple[int, str, str]:
    """Run a program whose command line is a function of its own; return its code and what it printed."""
    program = f"import atexit, sys\nimport mriscope.__main__ as at\ndef main():\n    {body}\nat.main = main\nat.run()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_process_ends_with_its_code_after_all_that_is_to_be_done_at_exit():
    assert ended("atexit.register(print, 'last'); print('first'); sys.exit(3)") == (3, "first\nlast\n", "")
    assert ended("print('first', end='', file=sys.stderr); sys.exit(0)") == (0, "", "first")


def test_threads_are_waited_for_at_exit():
    late = (
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('late'))).start(); sys.exit(4)"
    )
    assert ended(late) == (4, "late\n", "")


def test_an_unforeseen_error_ends_as_python_ends_it():
    code, _, told = ended("raise ValueError('unforeseen')")
    assert code == 1
    assert told.endswith("ValueError: unforeseen\n")
