"""Published predictions: figures worked out by hand, and whether subjects were trained on."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

import mriscope
from mriscope.cli import _run_app
from mriscope.data.phantom import make_phantom
from mriscope.errors import ArgumentError, DataError
from mriscope.results import PublishedEvaluation
from mriscope.workflows._load import load
from mriscope.workflows.evaluate_table import evaluate_table, exit_code

# Of three slices of p1 one is wrong, of p2 two are, of p3 none: 4 of 7 slices and 2 of 3 subjects are right.
ROWS = [
    ("p1", "CN", 0.9),
    ("p1", "CN", 0.8),
    ("p1", "CN", 0.4),
    ("p2", "AD", 0.7),
    ("p2", "AD", 0.6),
    ("p3", "AD", 0.2),
    ("p3", "AD", 0.1),
]


def write_table(file: Path, header: list[str], rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


@pytest.fixture
def table(tmp_path):
    rows = [[who, true, p, round(1 - p, 6)] for who, true, p in ROWS]
    return write_table(tmp_path / "p.csv", ["subject", "label", "p_CN", "p_AD"], rows)


def test_slices_and_subjects_are_scored_side_by_side(table):
    found = evaluate_table(table)
    assert found.slices is not None
    assert found.subjects is not None
    assert found.slices.metrics["accuracy"].value == pytest.approx(4 / 7)
    assert found.slices.metrics["balanced_accuracy"].value == pytest.approx((2 / 3 + 2 / 4) / 2)
    # 12 pairs of a CN and an AD slice; 0.4 of CN lies below 0.7 and 0.6 of AD, the rest is in order
    assert found.slices.metrics["auroc"].value == pytest.approx(10 / 12)
    # mean probabilities of CN: 0.7, 0.65, 0.15
    assert found.subjects.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert found.subjects.metrics["auroc"].value == 1
    assert (found.n_slices, found.subjects.n_subjects, found.subjects_from, found.part) == (7, 3, "column", "whole")
    assert found.slices.baselines["majority_class"].metrics["accuracy"].value == pytest.approx(4 / 7)
    assert found.subjects.baselines["majority_class"].metrics["accuracy"].value == pytest.approx(2 / 3)
    assert found.leaky is None
    assert exit_code(found) == 4
    assert found.verdict.startswith("CANNOT TELL whether the model was trained")


def test_a_metric_that_no_resample_has_has_no_interval(tmp_path):
    """Both subjects have slices of A and of B, so that their label is A, and kappa of one class does not exist."""
    rows = [[who, true, true] for who in ("p1", "p2") for true in ("A", "B")]
    found = evaluate_table(write_table(tmp_path / "p.csv", ["subject", "label", "predicted"], rows))
    assert found.subjects is not None
    kappa = found.subjects.metrics["quadratic_kappa"]
    assert np.isnan([kappa.value, kappa.low, kappa.high]).all()


@pytest.mark.parametrize("style", ["prob_{}", "{} probability", "{}_logit", "p_{}"])
def test_figures_agree_with_scikit_learn_whatever_the_columns_are_called(tmp_path, style):
    """Columns in another order than labels, other spellings of classes, decimal commas and per cent change nothing."""
    random, names = np.random.default_rng(len(style)), ["CN", "MCI", "AD"]
    label_of = np.array([0, 1, 2, 0, 1, 2, 2, 0])
    who = np.concatenate([np.arange(8), random.integers(0, 8, 52)])
    true = label_of[who]
    logits = random.normal(size=(60, 3)) + np.eye(3)[true]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    written = logits if "logit" in style else 100 * shares if "probability" in style else shares
    comma = style == "p_{}"
    order = [2, 0, 1]
    rows = [
        [f"P{who[row]:03}", names[true[row]].lower() if row % 3 else names[true[row]]]
        + [f"{written[row, one]:.12f}".replace(".", "," if comma else ".") for one in order]
        for row in range(60)
    ]
    header = ["Patient ID", "Diagnosis", *(style.format(names[one]) for one in order)]
    found = evaluate_table(write_table(tmp_path / "p.csv", header, rows), pooling="mean_probability")
    pooled = np.stack([shares[who == one].mean(axis=0) for one in range(8)])
    for scores, labels, probabilities in ((found.slices, true, shares), (found.subjects, label_of, pooled)):
        assert scores is not None
        predicted = probabilities.argmax(axis=1)
        expected = {
            "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
            "auroc": sklearn.metrics.roc_auc_score(labels, probabilities, multi_class="ovr"),
            "quadratic_kappa": sklearn.metrics.cohen_kappa_score(labels, predicted, weights="quadratic"),
        }
        assert {name: scores.metrics[name].value for name in expected} == pytest.approx(expected, abs=1e-6)


def test_predicted_classes_alone_have_no_auroc_and_vote(tmp_path):
    rows = [[who, true, "CN" if p > 0.5 else "AD"] for who, true, p in ROWS]
    found = evaluate_table(write_table(tmp_path / "p.csv", ["subject", "label", "predicted"], rows))
    assert found.slices is not None
    assert found.subjects is not None
    assert "auroc" not in found.slices.metrics
    assert found.slices.calibration is None
    assert "AUROC and calibration need probabilities" in (found.slices.omitted or "")
    assert found.slices.metrics["accuracy"].value == pytest.approx(4 / 7)
    assert found.subjects.pooling is not None
    assert found.subjects.pooling.how == "majority"
    assert found.subjects.metrics["accuracy"].value == pytest.approx(2 / 3)
    with pytest.raises(ArgumentError, match="--pooling mean_logit needs probabilities"):
        evaluate_table(tmp_path / "p.csv", pooling="mean_logit")


@pytest.mark.parametrize(("trained", "leaky", "code"), [("p3", True, 3), ("p9", False, 0), ("", None, 4)])
def test_the_training_rows_of_a_table_tell_whether_subjects_are_shared(tmp_path, trained, leaky, code):
    rows = [[f"{row}.png", who, true, p, 1 - p, "test"] for row, (who, true, p) in enumerate(ROWS)]
    rows += [["t.png", trained, "AD", 0, 1, "train"], ["u.png", "p8", "CN", 1, 0, "training"]]
    header = ["path", "subject", "label", "p_CN", "p_AD", "split"]
    found = evaluate_table(write_table(tmp_path / "p.csv", header, rows))
    assert (found.leaky, exit_code(found), found.n_slices, found.part) == (leaky, code, 7, "test")
    assert found.baselines_from == "training rows of the table"
    if leaky:
        assert found.verdict.startswith("LEAKY: 1 of the 3 subjects evaluated, with 2 of the 7 slices")


@pytest.mark.parametrize(
    ("trained", "tested", "doubt"),
    [
        (
            ["1", "2"],
            ["001", "3"],
            "1 of the 2 evaluated may be spelled otherwise in the training part, such as 001 and 1",
        ),
        (["sub-001", "sub-002"], ["1", "3"], "such as 1 and sub-001"),
        (["1", "2"], ["2.0", "3"], "such as 2.0 and 2"),
        (["p1_v2", "p2_v2"], ["p1_v1", "p3_v1"], "such as p1_v1 and p1_v2"),
        (["p1", "-1"], ["p2", "p3"], "those of 2 rows are unknown"),
        (["p1", "p2"], ["p3", "p4"], ""),
        (["S1_01", "S1_02"], ["S10_1", "S11_02"], ""),
    ],
)
def test_names_that_may_be_of_one_subject_leave_doubt(tmp_path, trained, tested, doubt):
    rows = [
        [who, true, true, part]
        for part, names in (("train", trained), ("test", tested))
        for who, true in zip(names, "AB", strict=True)
        for _ in range(2)
    ]
    found = evaluate_table(write_table(tmp_path / "p.csv", ["subject", "label", "pred", "part"], rows))
    assert doubt in found.verdict
    assert (found.leaky, exit_code(found)) == ((None, 4) if doubt else (False, 0))


def test_numbers_that_paths_count_anew_in_each_class_leave_doubt(tmp_path):
    """patient1 of AD and patient1 of CN may be one who changed class, or two."""
    rows = [
        [f"{true}/patient{who}/{place}.png", true, true, part]
        for who, true, part in (("1", "AD", "test"), ("2", "CN", "test"), ("1", "CN", "train"), ("3", "AD", "train"))
        for place in range(2)
    ]
    found = evaluate_table(write_table(tmp_path / "p.csv", ["path", "label", "pred", "part"], rows))
    assert (found.leaky, found.subjects_from) == (None, "paths")
    assert "such as AD/patient1 and CN/patient1" in found.verdict
    assert any("numbers are taken to count subjects anew in each class" in one for one in found.notes)


def test_a_pattern_that_finds_the_number_of_each_slice_names_no_subjects(tmp_path):
    rows = [[f"s_{row}.png", "AB"[row % 2], "A", "train" if row < 4 else "test"] for row in range(6)]
    file = write_table(tmp_path / "p.csv", ["path", "label", "pred", "part"], rows)
    found = evaluate_table(file, subject_pattern=r"(?P<subject>\d+)")
    assert found.leaky is None
    assert "each of the 6 rows has a subject of its own" in found.verdict


def test_training_rows_that_cannot_be_all_leave_doubt(tmp_path):
    rows = [["p1", "A", "A", "test"], ["p1", "A", "A", "test"], ["p2", "B", "B", "test"], ["p3", "A", "A", "train"]]
    file = write_table(tmp_path / "p.csv", ["subject", "label", "pred", "part"], rows)
    found = evaluate_table(file)
    assert found.leaky is None
    assert "the 1 slices taken for the training part hold none of the class B" in found.verdict


def test_a_column_that_numbers_rows_names_no_subjects(tmp_path):
    rows = [[f"{row}", "AB"[row % 2], "A", "train" if row < 4 else "test"] for row in range(6)]
    found = evaluate_table(write_table(tmp_path / "p.csv", ["subject", "label", "pred", "part"], rows))
    assert found.leaky is None
    assert "each of the 6 rows has a subject of its own, as where slices were numbered" in found.verdict


def test_a_class_that_is_a_minority_of_its_subjects_slices_stands_by_slice_alone(tmp_path, capsys):
    rows = [["AD", "CN", 1], ["CN", "CN", 1], ["CN", "CN", 1], ["CN", "CN", 2]]
    file = write_table(tmp_path / "p.csv", ["label", "predicted", "subject"], rows)
    assert _run_app(["evaluate", str(file)]) == 4
    text = capsys.readouterr().out
    recall = next(line for line in text.splitlines() if line.startswith("recall AD"))
    assert recall.count("%") == 2  # of slices and by chance
    assert "1 subjects have slices of several classes; that of most counts" in text


def test_unknown_subjects_leave_subject_level_out_and_a_manifest_names_them(tmp_path):
    rows = [[f"{row}.png", true, p, 1 - p] for row, (_, true, p) in enumerate(ROWS)]
    file = write_table(tmp_path / "p.csv", ["file", "label", "p_CN", "p_AD"], rows)
    found = evaluate_table(file)
    assert (found.subjects, found.subjects_from, found.n_unnamed) == (None, None, 7)
    names = [[f"{row}.png", who] for row, (who, _, _) in enumerate(ROWS)]
    manifest = write_table(tmp_path / "m.csv", ["path", "subject"], names)
    named = evaluate_table(file, manifest=str(manifest))
    assert named.subjects is not None
    assert (named.subjects.n_subjects, named.subjects_from) == (3, "manifest")
    with pytest.raises(DataError, match="the subject of 7 of 7 slices is unknown"):
        evaluate_table(file, level="subject")


def test_subjects_are_read_from_paths(tmp_path):
    rows = [[f"sub-{who}_slice-{row}.png", true, p, 1 - p] for row, (who, true, p) in enumerate(ROWS)]
    file = write_table(tmp_path / "p.csv", ["file", "label", "p_CN", "p_AD"], rows)
    found = evaluate_table(file)
    assert found.subjects is not None
    assert (found.subjects.n_subjects, found.subjects_from) == (3, "paths")
    found = evaluate_table(file, subject_pattern=r"slice-(?P<subject>\d)")
    assert found.subjects is not None
    assert found.subjects.n_subjects == 7


@pytest.fixture(scope="module")
def brains(tmp_path_factory) -> Path:
    """24 synthetic brains of six slices as files, whose names tell subjects."""
    folder = tmp_path_factory.mktemp("brains")
    slices = make_phantom(24, slices=6, size=64).slices
    for row in range(len(slices)):
        place = folder / slices.class_names[slices.labels[row]]
        place.mkdir(exist_ok=True)
        name = f"sub-{slices.subjects[row]:02}_slice-{int(slices.positions[row])}.png"
        Image.fromarray(slices.images[row]).save(place / name)
    return folder


def predictions_of(brains: Path, file: Path, chosen, classes: bool = True) -> Path:
    """Write a table that is right about every slice, without true classes where those are for the source to tell."""
    rows = []
    for path in sorted(brains.rglob("*.png")):
        if chosen(path.name):
            true = path.parent.name
            rows.append([f"/elsewhere/{true}/{path.name}", *([true] if classes else []), true])
    return write_table(file, ["image", *(["label"] if classes else []), "predicted"], rows)


def test_slices_of_trained_subjects_are_found_by_pixels(brains, tmp_path):
    by_slice = predictions_of(brains, tmp_path / "p.csv", lambda name: name.endswith(("2.png", "4.png")), classes=False)
    found = evaluate_table(by_slice, source=str(brains), split="rest")
    assert (found.leaky, exit_code(found), found.train_known_from, found.subjects_from) == (True, 3, "rest", "source")
    assert found.verdict.startswith("LEAKY: ")
    assert found.slices is not None
    assert found.slices.metrics["accuracy"].value == 1
    assert set(found.slices.baselines) == {"brain_fraction", "csf_fraction", "majority_class", "nearest_neighbour"}
    assert found.slices.baselines["brain_fraction"].auroc_over is None
    unknown = evaluate_table(by_slice, source=str(brains))
    assert (unknown.leaky, unknown.baselines_from) == (
        None,
        "other subjects that are evaluated, in 5 folds by subject",
    )


def table_of(brains: Path, file: Path, row_of) -> Path:
    """Write a table that is right about every slice; `row_of` gives subject and part of a name, None leaves it out."""
    rows = []
    for number, path in enumerate(sorted(brains.rglob("*.png"))):
        if (told := row_of(number, path.name)) is not None:
            rows.append([path.name, path.parent.name, path.parent.name, *told])
    return write_table(file, ["path", "label", "predicted", "subject", "part"], rows)


@pytest.mark.parametrize("split", [None, "rest"])
def test_training_rows_of_the_table_trained_whatever_the_split_is(brains, tmp_path, split):
    """Slices 0 and 1 of each brain are in the table, one to train and one to test; the others are the rest."""

    def row_of(_, name):
        brain, place = int(name[4:6]), int(name[-5])
        return (f"p{brain}", "test" if place else "train") if brain < 12 and place < 2 else None

    found = evaluate_table(table_of(brains, tmp_path / "p.csv", row_of), source=str(brains), split=split)
    assert found.leaky is True


def test_names_of_a_table_settle_nothing_that_pixels_leave_open(tmp_path):
    """Four slices of a brain are too few for pixels, and the table names each brain anew in its test part."""
    slices = make_phantom(8, slices=4, size=64).slices
    rows = []
    for number, row in enumerate(np.random.default_rng(0).permutation(len(slices)).tolist()):
        true, part = slices.class_names[slices.labels[row]], ("train", "test")[int(slices.positions[row]) % 2]
        (tmp_path / "set" / true).mkdir(parents=True, exist_ok=True)
        Image.fromarray(slices.images[row]).save(tmp_path / "set" / true / f"{number:03}.png")
        rows.append([f"{true}/{number:03}.png", true, f"{part}{slices.subjects[row]}", part])
    file = write_table(tmp_path / "p.csv", ["path", "predicted", "subject", "part"], rows)
    found = evaluate_table(file, source=str(tmp_path / "set"))
    assert (found.leaky, exit_code(found)) == (None, 4)
    assert found.verdict.startswith("CANNOT TELL whether the evaluated split shares brains")
    assert found.verdict.endswith("By the subjects that the table names, none is shared.")


def test_names_that_contradict_the_source_are_told_and_prove_nothing(brains, tmp_path):
    """The column gives the slices of a brain two names: one to train, one to test."""

    def row_of(_, name):
        part = "test" if int(name[-5]) % 2 else "train"
        return f"{part}-{name[4:6]}", part

    found = evaluate_table(table_of(brains, tmp_path / "p.csv", row_of), source=str(brains))
    assert found.leaky is True  # by the source
    (note,) = [one for one in found.notes if "several names" in one]
    assert note.startswith("the table gives 24 of the 24 subjects named by the source several names, such as ")

    def apart(_, name):
        brain = int(name[4:6])
        return f"p{name[4:6]}{'a' if int(name[-5]) % 2 else 'b'}", "test" if brain < 8 else "train"

    found = evaluate_table(table_of(brains, tmp_path / "p.csv", apart), source=str(brains))
    assert found.leaky is False  # by the source, whatever the table calls its subjects
    assert any("so intervals over subjects are too narrow" in one for one in found.notes)


def test_subjects_are_counted_by_pixels_where_the_table_names_slices(brains, tmp_path, monkeypatch):
    """A column that numbers slices would make a subject of each."""
    monkeypatch.setattr("mriscope.workflows.evaluate_table.load", lambda *args, **_: load_as_by_pixels(*args))
    file = table_of(brains, tmp_path / "p.csv", lambda row, name: (f"{row}", "test" if int(name[4:6]) < 8 else "train"))
    found = evaluate_table(file, source=str(brains))
    assert found.subjects is not None
    assert (found.subjects.n_subjects, found.subjects_from) == (8, "pixels")
    assert any(one.endswith("subjects are counted as pixels tell") for one in found.notes)


def load_as_by_pixels(source: str):
    """Load a source as one whose subjects pixels tell beyond doubt, which takes a larger set."""
    return replace(load(source), subjects_from="pixels")


def test_slices_of_another_part_of_one_name_are_refused(brains, tmp_path):
    shutil.copytree(brains, tmp_path / "train")
    name = next(brains.rglob("sub-00_slice-0.png"))
    rows = [[f"test/{name.parent.name}/{name.name}", name.parent.name]]
    file = write_table(tmp_path / "p.csv", ["path", "predicted"], rows)
    with pytest.raises(DataError, match=r"of the part test, and the source has this name in its part train"):
        evaluate_table(file, source=str(tmp_path / "train"))


def test_slices_of_evaluated_subjects_that_the_table_leaves_out_leave_doubt(brains, tmp_path):
    def row_of(_, name):
        brain, place = int(name[4:6]), int(name[-5])
        return (f"p{brain}", "test" if brain < 8 else "train") if place < 4 else None

    file = table_of(brains, tmp_path / "p.csv", row_of)
    found = evaluate_table(file, source=str(brains))
    assert found.leaky is None
    assert "16 slices of the subjects evaluated are in no row of the table" in found.verdict
    assert evaluate_table(file, source=str(brains), split="rest").leaky is True


def test_validation_rows_can_be_evaluated(brains, tmp_path):
    def row_of(_, name):
        return name[4:6], "validation" if int(name[4:6]) < 8 else "train"

    found = evaluate_table(table_of(brains, tmp_path / "p.csv", row_of), source=str(brains), part="validation")
    assert (found.leaky, found.part) == (False, "validation")


def test_unseen_subjects_are_proven_and_all_is_written(brains, tmp_path, capsys):
    file = predictions_of(brains, tmp_path / "p.csv", lambda name: int(name[4:6]) < 8)
    out = tmp_path / "reviewed"
    code = _run_app(["evaluate", str(file), "--data", str(brains), "--split", "rest", "--out", str(out), "--json"])
    assert code == 0
    found = PublishedEvaluation.read(out / "evaluation.json")
    assert found == PublishedEvaluation.from_json(capsys.readouterr().out)
    assert found.leaky is False
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["confusion.png"]
    assert json.loads((out / "evaluation.json").read_text())["file"] == "p.csv"


def test_a_split_whose_training_part_holds_what_is_evaluated_is_leaky(brains, tmp_path):
    assert _run_app(["split", str(brains), "--protocol", "by_subject", "--out", str(tmp_path / "s")]) == 0
    split = tmp_path / "s" / "by_subject-seed0.json"
    record = json.loads(split.read_text())
    trained = {Path(path).name for path in record["parts"]["train"][:3]}
    found = evaluate_table(
        predictions_of(brains, tmp_path / "p.csv", lambda name: name in trained or name.startswith("sub-00")),
        source=str(brains),
        split=str(split),
    )
    assert found.leaky is True
    assert "are themselves in the training or validation part" in found.verdict
    assert found.train_known_from == "split file"


def test_brains_that_go_by_several_subjects_are_told(tmp_path):
    """Every brain of the table is called by two names, one for its lower half and one for its upper."""
    source = "phantom:subjects=24,slices=32,size=64"
    slices = mriscope.read(source)
    chosen = np.flatnonzero(slices.subjects < 6)
    rows = [
        [slices.paths[row], f"{slices.subjects[row]}{'a' if slices.positions[row] < 16 else 'b'}", "Non_Demented"]
        for row in chosen
    ]
    file = write_table(tmp_path / "p.csv", ["path", "subject", "predicted"], rows)
    found = evaluate_table(file, source=source, split="rest")
    assert found.notes == [
        "the table gives 6 of the 6 subjects named by the source several names, such as 0a for "
        "phantom/s000_p00.png and 0b for phantom/s000_p16.png, so intervals over subjects are too narrow",
        "the 576 slices of the source that the table lacks are taken to have trained the model",
    ]
    assert found.leaky is False


def test_true_classes_that_are_not_the_sources_are_refused(brains, tmp_path):
    rows = [["sub-00_slice-0.png", "Moderate_Demented", "Non_Demented"]]
    name = next(brains.rglob("sub-00_slice-0.png"))
    rows[0][1] = "Non_Demented" if name.parent.name != "Non_Demented" else "Mild_Demented"
    file = write_table(tmp_path / "p.csv", ["path", "label", "predicted"], rows)
    with pytest.raises(DataError, match=r"1 of the 1 rows of .* have another label than the source"):
        evaluate_table(file, source=str(brains))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "rest"], "--split says which slices of a source trained the model; name that with --data"),
        (["--covariates", "x.csv"], "--covariates goes with a run"),
        (["--device", "cpu"], "--device goes with a run"),
        (["--part", "validation"], "has no column part"),
        (["--level", "slice", "--pooling", "majority"], "--pooling majority says how a subject's slices are pooled"),
        (["--plane", "axial"], "--plane says how another source is read"),
    ],
)
def test_options_that_do_not_go_with_a_table_are_refused(table, capsys, words, message):
    assert _run_app(["evaluate", str(table), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_table_needs_no_suffix_and_what_is_none_is_named(table, tmp_path, capsys):
    assert _run_app(["evaluate", str(table.rename(tmp_path / "p.txt"))]) == 4
    assert "7 slices, 3 subjects" in capsys.readouterr().out
    (tmp_path / "p.parquet").write_bytes(b"PAR1\xff\xfe")
    assert _run_app(["evaluate", str(tmp_path / "p.parquet")]) == 2
    assert "p.parquet is no CSV file in UTF-8 or UTF-16" in capsys.readouterr().err


def test_options_of_a_table_do_not_go_with_a_run(tmp_path, capsys):
    assert _run_app(["evaluate", str(tmp_path), "--classes", "A,B"]) == 2
    assert "--classes says how a CSV file of predictions is evaluated" in capsys.readouterr().err


def test_print_has_the_verdict_first_and_classes_by_severity(tmp_path, capsys):
    rows = [["MCI", 0.1, 0.2, 0.7], ["AD", 0.8, 0.1, 0.1], ["CN", 0.2, 0.7, 0.1]] * 3
    file = write_table(tmp_path / "p.csv", ["label", "p_AD", "p_CN", "p_MCI"], rows)
    assert _run_app(["evaluate", str(file)]) == 4
    text = capsys.readouterr().out
    assert text.startswith("CANNOT TELL")
    assert text.index("recall CN") < text.index("recall MCI") < text.index("recall AD")
    assert "100.0 %" in text
    assert np.all([word in text for word in ("by chance", "baselines by slice", "majority class")])
