"""Published predictions: figures worked out by hand, and whether subjects were trained on."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mriscope
from mriscope.cli import _run_app
from mriscope.data.phantom import make_phantom
from mriscope.errors import ArgumentError, DataError
from mriscope.results import PublishedEvaluation
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
        "pixels prove that 6 brains go by several subjects, so intervals over subjects are too narrow"
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
        (["--part", "validation"], "has no column part"),
        (["--plane", "axial"], "--plane says how another source is read"),
    ],
)
def test_options_that_do_not_go_with_a_table_are_refused(table, capsys, words, message):
    assert _run_app(["evaluate", str(table), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


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
