import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mriscope.errors import DataError, RunError, UnknownNameError
from mriscope.evaluation.predictions import Predictions, join, read_predictions, write_predictions

CLASSES = ("AD", "probability_of \u00e9/x", "MCI")
COLUMNS = ("paths", "labels", "subjects", "parts", "probabilities")


@pytest.fixture
def predictions() -> Predictions:
    return Predictions.of(
        [0, 2, 1, 1],
        [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]],
        subjects=[3, 3, 7, -1],
        parts=["train", "validation", "test", "test"],
        paths=["a.png", "b.png", "\u00fc/c.png", "d.png"],
        class_names=CLASSES,
    )


def test_the_predicted_class_is_the_most_probable_and_the_first_of_a_tie(predictions: Predictions) -> None:
    assert predictions.predicted.tolist() == [0, 1, 1, 0]
    assert predictions.predicted.dtype == np.int64
    assert len(predictions) == 4


def test_ranks_are_by_class_and_equal_for_equal_probabilities(predictions: Predictions) -> None:
    assert predictions.ranks.tolist() == [[2, 0, 1, 3], [1, 2, 3, 0], [2, 3, 1, 0]]


def test_a_part_holds_its_rows_in_order(predictions: Predictions) -> None:
    test = predictions.of_part("test")
    assert test.paths.tolist() == ["\u00fc/c.png", "d.png"]
    assert test.class_names == CLASSES
    assert test.predicted.tolist() == [1, 0]
    assert len(test.of_part("train")) == 0
    with pytest.raises(UnknownNameError, match="no part 'validate'; did you mean validation"):
        predictions.of_part("validate")


def test_an_unknown_subject_is_no_subject(predictions: Predictions) -> None:
    assert predictions.n_subjects == 2
    assert not predictions.knows_subjects
    assert predictions.of_part("train").knows_subjects
    assert not predictions.of_part("train").of_part("test").knows_subjects


def test_rows_cannot_be_changed(predictions: Predictions) -> None:
    with pytest.raises(ValueError, match="read-only"):
        predictions.probabilities[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(4, np.int32)}, r"labels is int32 \(4,\); Predictions need int64 \(4,\)"),
        ({"subjects": np.zeros(3, np.int64)}, r"subjects is int64 \(3,\); Predictions need int64 \(4,\)"),
        ({"paths": np.arange(4)}, r"paths is int64 \(4,\); Predictions need str \(4,\)"),
        ({"probabilities": np.ones((4, 3))}, r"probabilities is float64 \(4, 3\); .* need float32 \(4, 3\)"),
        ({"probabilities": np.ones((4, 2), np.float32)}, r"\(4, 2\); Predictions need float32 \(4, 3\)"),
        ({"labels": np.array([0, 1, 2, 3])}, "the label of row 3 is 3"),
        ({"subjects": np.array([0, -2, 0, 0])}, "the subject of row 1 is -2"),
        ({"parts": np.array(["test", "test", "dev", "test"])}, "part of row 2 is dev; it should be one of train, "),
        ({"probabilities": np.full((4, 3), np.nan, np.float32)}, "is nan; it should be finite"),
        ({"probabilities": np.full((4, 3), 0.3, np.float32)}, r"sum of probabilities of row 0 is 0\.9"),
        (
            {"probabilities": np.tile(np.array([1.5, -0.5, 0], np.float32), (4, 1))},
            r"least probability of row 0 is -0\.5",
        ),
        ({"class_names": ("a", "a", "b")}, "one name of its own"),
    ],
)
def test_it_checks_itself(predictions: Predictions, change: dict[str, object], message: str) -> None:
    columns = {name: getattr(predictions, name) for name in COLUMNS}
    with pytest.raises(DataError, match=message):
        Predictions(**{**columns, "class_names": CLASSES, **change})


def test_rounding_of_half_precision_is_within_tolerance() -> None:
    Predictions.of([0], [[0.3335, 0.3335, 0.3335, 0.0]])
    with pytest.raises(DataError, match="softmax"):
        Predictions.of([0], [[0.34, 0.34, 0.33, 0.0]])


def test_a_file_gives_back_what_was_written(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(predictions, path)
    write_predictions(predictions, path)  # a second time takes the place of the first
    again = read_predictions(path)
    assert again.class_names == CLASSES
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.parquet"]


def test_the_columns_of_the_file_are_the_documented_ones(predictions: Predictions, tmp_path: Path) -> None:
    write_predictions(predictions, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        *("path", "label", "predicted", "subject", "part"),
        *(f"probability_{name}" for name in CLASSES),
    ]
    assert table["predicted"].to_pylist() == [0, 1, 1, 0]
    assert table["probability_MCI"].type == pa.float32()


def test_no_rows_is_a_file_too(predictions: Predictions, tmp_path: Path) -> None:
    write_predictions(predictions.of_part("train").of_part("test"), tmp_path / "p.parquet")
    assert len(read_predictions(tmp_path / "p.parquet")) == 0


def _foreign(path: Path, predictions: Predictions, kind: str) -> None:
    write_predictions(predictions, path)
    table = pq.read_table(path)
    if kind == "predicted":
        table = table.set_column(2, "predicted", pa.array([0, 0, 0, 0]))
    elif kind == "null":
        table = table.set_column(3, "subject", pa.array([1, None, 2, 3]))
    elif kind == "type":
        table = table.set_column(1, "label", pa.array([0.0, 2.0, 1.0, 1.0]))
    elif kind == "probability":
        table = table.set_column(5, table.column_names[5], pa.array([0.9, 0.9, 0.9, 0.9], pa.float32()))
    elif kind == "no classes":
        table = table.select(range(5))
    else:
        table = pa.table({"image": [b"x"], "label": [1]})
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("predicted", "its predicted column is not the most probable class"),
        ("null", "some of its values are missing"),
        ("type", "its columns are"),
        ("probability", "the sum of probabilities of row 0"),
        ("no classes", "its columns are path, label, predicted, subject, part, not path"),
        (
            "images",
            r"are image, label, not path, label, predicted, subject, part, probability_<class name>",
        ),
    ],
)
def test_a_foreign_file_is_refused(predictions: Predictions, tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "p.parquet"
    _foreign(path, predictions, kind)
    with pytest.raises(RunError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as predictions (")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused_or_read_but_never_breaks(predictions: Predictions, tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(predictions, path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            read_predictions(path)
        except RunError:
            refused += 1
    assert refused > 75
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError):
            read_predictions(path)


def test_a_flipped_bit_in_a_value_is_found(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write_predictions(Predictions.of([0], [[1.0, 0, 0, 0]], paths=["slice-0001"]), path)
    whole = path.read_bytes()
    assert whole.count(b"slice-0001") >= 1
    path.write_bytes(whole.replace(b"slice-0001", b"slice-0003", 1))
    with pytest.raises(RunError, match="cannot be read as predictions"):
        read_predictions(path)


def test_a_missing_file_or_folder_is_named(predictions: Predictions, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.parquet: cannot be read as predictions \(No such file"):
        read_predictions(tmp_path / "none.parquet")


def test_nothing_heavy_comes_in_with_the_numbers() -> None:
    code = (
        "import sys; import mriscope.evaluation.intervals; "
        "print({'torch', 'pyarrow', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("ids", [["sub-001", "", "sub-001"], ["12.0", "12", ""], ["007", "7", "002_S_0295"]])
def test_names_of_subjects_come_back_from_the_file_as_they_were(tmp_path: Path, ids: list[str]):
    written = Predictions.of([0, 1, 1], [[1, 0], [0, 1], [0, 1]], subjects=ids, class_names=("sick", "well"))
    write_predictions(written, tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet")["subject"].to_pylist() == ids
    found = read_predictions(tmp_path / "p.parquet")
    assert found.subject_names.tolist() == ids
    assert found.n_subjects == len({*ids} - {""})


def test_joined_predictions_keep_the_names_of_subjects():
    one, other = (
        Predictions.of([0, 1], [[1, 0], [0, 1]], subjects=ids, class_names=("sick", "well"))
        for ids in (["b", "a"], ["a", "7"])
    )
    assert join([one, other]).subject_names.tolist() == ["b", "a", "a", "7"]
    assert join([one, other]).n_subjects == 3
