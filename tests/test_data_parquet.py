"""Parquet sources: every row of the hub's schema arrives, and every file that has another is refused in a sentence."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import pixels, png, write_parquet

from mriscope.data import parquet
from mriscope.data.parquet import open_parquet
from mriscope.data.readers import read
from mriscope.data.rows import gather
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import BadRowsError, DataError

FOUR = [(png(seed), f"slice_{seed}.png", seed) for seed in range(4)]


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as error:
        read(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_file(tmp_path: Path):
    found = read(write_parquet(tmp_path / "some.parquet", FOUR, CLASS_NAMES))
    assert np.array_equal(found.images, [pixels(seed) for seed in range(4)])
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.paths.tolist() == ["slice_0.png", "slice_1.png", "slice_2.png", "slice_3.png"]
    assert found.parts.tolist() == [""] * 4
    assert found.class_names == CLASS_NAMES
    assert not found.knows_subjects


@pytest.mark.parametrize("below", ["", "data"])
def test_shards_of_a_published_split_in_order(tmp_path: Path, below: str):
    names = ["train-00000-of-00011", "train-00002-of-00011", "train-00010-of-00011", "test-00000-of-00001"]
    for seed, name in reversed(list(enumerate(names))):
        write_parquet(tmp_path / below / f"{name}.parquet", [(png(seed), f"{seed}.png", seed)])
    (tmp_path / "README.md").write_text("a card")
    found = read(tmp_path)
    assert found.parts.tolist() == ["train", "train", "train", "test"]
    assert found.labels.tolist() == [0, 1, 2, 3]


def test_a_large_file_comes_in_batches(tmp_path: Path):
    rows = [(png(row, 16, 16), f"{row}.png", row % 4) for row in range(300)]
    found = read(write_parquet(tmp_path / "many.parquet", rows), size=16)
    assert found.paths.tolist() == [f"{row}.png" for row in range(300)]
    assert all(np.array_equal(found.images[row], pixels(row, 16, 16)) for row in (0, 63, 64, 299))


def test_the_path_is_never_opened(tmp_path: Path):
    (tmp_path / "other.png").write_bytes(png(9))
    rows = [(png(0), str(tmp_path / "other.png"), 0), (None, str(tmp_path / "other.png"), 1)]
    found = read(write_parquet(tmp_path / "x.parquet", rows), skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
    assert np.array_equal(found.images, [pixels(0)])


def test_a_row_without_a_usable_path_is_named_by_file_and_row(tmp_path: Path):
    rows = [(png(0), None, 0), (png(1), "", 1), (png(2), "two\nlines", 2), (png(3), "long" * 300, 3)]
    found = read(write_parquet(tmp_path / "x.parquet", rows))
    assert found.paths.tolist() == ["x#0", "x#1", "x#2", "x#3"]


def test_a_path_that_is_no_utf_8(tmp_path: Path):
    path = pa.array([b"caf\xe9.png"], pa.binary()).view(pa.string())
    path = pa.concat_arrays([path, pa.array(["b.png"])])
    image = pa.StructArray.from_arrays([pa.array([png(0), png(1)]), path], ["bytes", "path"])
    pq.write_table(pa.table({"image": image, "label": [0, 1]}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").paths.tolist() == ["caf\N{REPLACEMENT CHARACTER}.png", "b.png"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train": ["a", "b"], "test": ["a"]}, ["train/a", "train/b", "test/a"]),
        (
            {"train-0": ["a"], "train-1": ["a"], "test": ["b"]},
            ["train-0.parquet/a", "train-1.parquet/a", "test.parquet/b"],
        ),
        ({"x": ["a", "a", "b"]}, ["x.parquet/a#0", "x.parquet/a#1", "x.parquet/b#2"]),
    ],
)
def test_paths_become_unique(tmp_path: Path, files: dict[str, list[str]], expected: list[str]):
    for seed, (file, names) in enumerate(files.items()):
        rows = [(png(10 * seed + row), name, 0) for row, name in enumerate(names)]
        write_parquet(tmp_path / f"{file}.parquet", rows)
    assert read(tmp_path).paths.tolist() == expected


def test_class_names_come_from_the_schema(tmp_path: Path):
    own = write_parquet(tmp_path / "own.parquet", [(png(0), "a", 2), (png(1), "b", 0)], ["AD", "MCI", "CN"])
    assert read(own).class_names == ("AD", "MCI", "CN")
    spelled = ["Non Demented", "verymild-demented", "Mild Impairment", "MODERATE_DEMENTED"]
    other = write_parquet(tmp_path / "other.parquet", [(png(0), "a", 0), (png(1), "b", 3)], spelled)
    assert read(other).class_names == ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")


@pytest.mark.parametrize("metadata", ["{", "[]", '{"info": 3}', '{"info": {"features": {"label": {"names": [1, 2]}}}}'])
def test_metadata_without_names_means_the_four_classes(tmp_path: Path, metadata: str):
    path = write_parquet(tmp_path / "x.parquet", FOUR)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": metadata}), path)
    assert read(path).class_names == CLASS_NAMES


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3, 4, 2], ("1", "2", "3", "4")),
        ([0, 1, 0, 1, 1], ("0", "1")),
        ([0, 10, 9, 0, 9], ("0", "9", "10")),
        ([3, 2, 1, 0, 2], CLASS_NAMES),
    ],
)
def test_numbers_without_names_are_the_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, labels: list[int], names: tuple[str, ...]
):
    rows = [(png(row), f"{row}", label) for row, label in enumerate(labels)]
    found = read(write_parquet(tmp_path / "x.parquet", rows, None))
    assert found.class_names == names
    expected = [CLASS_NAMES[label] if names == CLASS_NAMES else str(label) for label in labels]
    assert [names[label] for label in found.labels] == expected
    assert "without names" in caplog.text


def test_a_label_below_zero_without_names_is_a_bad_row(tmp_path: Path):
    rows = [(png(row), f"{row}", label) for row, label in enumerate((0, 1, -1))]
    with pytest.raises(BadRowsError, match=r"row 2 .*has the label -1, which counts no class"):
        read(write_parquet(tmp_path / "x.parquet", rows, None))


def test_a_label_outside_the_classes_or_none_is_a_bad_row(tmp_path: Path):
    rows = [(png(0), "a", 0), (png(1), "b", 2), (png(2), "c", -1), (png(3), "d", None)]
    with pytest.raises(BadRowsError) as error:
        read(write_parquet(tmp_path / "x.parquet", rows, ["AD", "CN"]))
    assert [(bad.row, bad.path, bad.reason) for bad in error.value.rows] == [
        (1, "b", "has the label 2, outside the 2 classes AD, CN"),
        (2, "c", "has the label -1, outside the 2 classes AD, CN"),
        (3, "d", "has no label"),
    ]


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view()])
def test_other_binary_types_and_no_path_at_all(tmp_path: Path, kind: pa.DataType):
    image = pa.array([{"bytes": png(0)}, {"bytes": png(1)}], pa.struct([("bytes", kind)]))
    pq.write_table(pa.table({"image": image, "label": pa.array([3, 1], pa.int8())}), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert [found.class_names[label] for label in found.labels] == ["3", "1"]
    assert found.paths.tolist() == ["x#0", "x#1"]


def test_other_columns_are_refused(tmp_path: Path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"picture": [1], "label": [0]}), path)
    assert refusal(path) == (
        f"{path} has the columns picture (int64), label (int64), and none for the image; expected an image, as bytes "
        "or a struct of bytes and path, and a label, as a number or a text, so name it with --image-column"
    )
    pq.write_table(pa.table({"image": [b"abc"], "label": [[1]]}), path)
    assert "image (binary), label (list<element: int64>), and none for the label; expected" in refusal(path)
    pq.write_table(pa.table({"image": [{"bytes": [1, 2]}], "label": [0]}), path)
    assert "image (struct<bytes: list<element: int64>>), label (int64), and none for the image" in refusal(path)


def test_damaged_files_are_refused(tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", FOUR)
    whole = path.read_bytes()
    for content, expected in (
        (b"", "(it is empty, 0 bytes)"),
        (b"not parquet at all, but long enough to look", "(Parquet magic bytes not found in footer)"),
        (whole[:-10], "(Parquet magic bytes not found in footer)"),
        (whole[:20_000] + whole[50_000:], "cannot be read as parquet ("),
        (whole[:4] + bytes(40_000) + whole[40_004:], "cannot be read as parquet ("),
    ):
        path.write_bytes(content)
        assert refusal(path).startswith(f"{path} cannot be read as parquet (")
        assert expected in refusal(path)
        assert refusal(path).endswith("; copy or download it again")


def test_mutated_files_give_slices_bad_rows_or_a_sentence(tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", [(png(row, 16, 16), f"{row}.png", row % 4) for row in range(9)])
    whole, lot, met = path.read_bytes(), random.Random(1), set()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(lot.randint(1, 4)):
            content[lot.randrange(len(content)) if lot.random() < 0.5 else -lot.randrange(1, 900)] = lot.randrange(256)
        path.write_bytes(content[: lot.randrange(len(content))] if lot.random() < 0.1 else content)
        try:
            source = open_parquet("x", tmp_path, [path])
            found = gather(source.rows(), source.class_names, 16)
            met.add("slices" if len(found.slices) + len(found.bad) == 9 else "lost")
        except DataError as error:
            met.add("sentence" if str(error).startswith(str(path)) else "other")
    assert met == {"slices", "sentence"}


def test_a_file_without_rows_is_refused(tmp_path: Path):
    assert "has no rows; expected one row a slice" in refusal(write_parquet(tmp_path / "x.parquet", []))


def test_files_that_do_not_go_together_are_refused(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", FOUR)
    write_parquet(tmp_path / "more.parquet", FOUR)
    assert "more.parquet is neither train*, val* nor test*, as the other files are" in refusal(tmp_path)
    (tmp_path / "more.parquet").unlink()
    write_parquet(tmp_path / "train.parquet", FOUR, ["a", "b", "c", "d"])
    write_parquet(tmp_path / "test.parquet", FOUR, ["b", "a", "c", "d"])
    assert "train.parquet has a, b, c, d and test.parquet has b, a, c, d; read them one by one" in refusal(tmp_path)


def test_the_real_slices(real_slices_folder: Path):
    found = read(real_slices_folder)
    assert found.images.shape == (6400, 128, 128)
    assert found.class_names == CLASS_NAMES
    counts = {part: np.bincount(found.labels[found.parts == part]).tolist() for part in ("train", "test")}
    assert counts == {"train": [724, 49, 2566, 1781], "test": [172, 15, 634, 459]}
    assert len(set(found.paths.tolist())) == 6400
    assert read(real_slices_folder / "test-00000-of-00001.parquet").fingerprint == found[5120:].fingerprint


@pytest.mark.parametrize(("columns", "names"), [(20_000, 4), (2, 300_000), (2, 1_001)])
def test_metadata_without_measure_is_refused_before_it_is_read(tmp_path, columns, names):
    features = {"label": {"names": [f"class {number}" for number in range(names)]}}
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    fields += [(f"column {number}", pa.int8()) for number in range(columns - 2)]
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.Table.from_pylist([{}], schema=pa.schema(fields, metadata=metadata))
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"its metadata has [\d,]+ bytes, at most|names 1,001 classes, at most 1,000"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev"])
def test_a_validation_part_by_any_name(tmp_path: Path, word: str):
    for seed, part in enumerate(("train", word, "test")):
        write_parquet(
            tmp_path / f"{part}-00000-of-00001.parquet", [(png(10 * seed + n), f"{part}{n}.png", n) for n in range(4)]
        )
    assert read(tmp_path).parts.tolist() == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("default/train/0000", "default/test/0000"),
        ("mri/train-00000-of-00001", "mri/test-00000-of-00001"),
        ("train/0000", "test/0000"),
        ("data/train/0", "data/test/0"),
    ],
)
def test_files_in_the_folders_of_the_hub(tmp_path: Path, train: str, test: str):
    for seed, file in enumerate((train, test)):
        write_parquet(tmp_path / f"{file}.parquet", [(png(10 * seed + n), f"{n}.png", n % 4) for n in range(8)])
    assert read(tmp_path).parts.tolist() == ["train"] * 8 + ["test"] * 8


def test_several_configurations_are_refused_with_a_way_out(tmp_path: Path):
    for name in ("axial", "coronal"):
        write_parquet(tmp_path / name / "train.parquet", FOUR)
    assert (
        f"several sets of parquet files, axial, coronal; name one of them as the source, such as {tmp_path}/axial"
        in refusal(tmp_path)
    )
    assert len(read(tmp_path / "axial")) == 4


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array(["AD", "CN", "AD", None]), ("AD", "CN")),
        (pa.array(["Mild Dementia", "Non Demented", "Mild Dementia", None]), CLASS_NAMES),
        (pa.array([True, False, True, None]), ("False", "True")),
        (pa.array(["b", "a", "b", None]).dictionary_encode(), ("a", "b")),
        (pa.array([0.0, 2.0, 0.0, float("nan")]), ("0", "2")),
        (pa.array(["10", "9", "10", "n/a"]), ("9", "10")),
    ],
)
def test_labels_of_every_type(tmp_path: Path, labels: pa.Array, names: tuple[str, ...]):
    pq.write_table(pa.table({"image": [png(seed) for seed in range(4)], "label": labels}), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet", skip_bad=True, bad_rows_to=tmp_path / "bad.csv")
    assert found.class_names == names
    assert found.labels[0] == found.labels[2] != found.labels[1]
    assert (tmp_path / "bad.csv").read_text() == "row,path,reason\n3,x#3,has no label\n"


def test_a_label_between_two_numbers_is_a_bad_row(tmp_path: Path):
    labels = [0.0, 0.5, 1.0]
    pq.write_table(pa.table({"image": [png(row) for row in range(3)], "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(BadRowsError, match=r"has the label 0\.5, which counts no class"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["subject", "subject_id", "patient_id", "participant_id", "PatientID"])
@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        (["007", "sub-1", None], ["007", "sub-1", ""]),
        ([12.0, 3.0, None], ["12", "3", ""]),
        ([5, 6, 5], ["5", "6", "5"]),
    ],
)
def test_a_column_of_subjects_is_taken_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, subjects: list, expected: list[str]
):
    columns = {"image": [png(seed) for seed in range(3)], "label": [0, 1, 2], name: subjects, "age": [70, None, 71]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert found.subject_names.tolist() == expected
    assert sorted(found.covariates) == ["age"]
    assert (f"the column {name} is taken as the subject" in caplog.text) == (name != "subject")


def test_one_value_of_many_rows_is_unpacked_a_few_times_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = np.random.default_rng(0).bytes(2**16)
    image = pa.array([{"bytes": content, "path": "a"}] * 64, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(
        pa.table({"image": image, "label": [0] * 64}), tmp_path / "x.parquet", dictionary_pagesize_limit=2**30
    )
    assert (tmp_path / "x.parquet").stat().st_size < 2**18
    monkeypatch.setattr(parquet, "BUDGET", 2**18)
    one = parquet._open(tmp_path / "x.parquet", "", parquet.AS_IT_IS)
    sizes = [batch.num_rows for batch in parquet._batches(one, ["image", "label"])]
    assert sum(sizes) == 64
    assert max(sizes) * 2**16 <= 2**18


def test_a_file_that_unpacks_to_far_more_than_images_do_is_refused(tmp_path: Path):
    image = pa.array([bytes(2**22)] * 20)
    pq.write_table(
        pa.table({"image": image, "label": [0] * 20}), tmp_path / "x.parquet", compression="zstd", use_dictionary=False
    )
    assert "which no images do; write it again with images" in refusal(tmp_path / "x.parquet")


def test_missing_shards_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    names = ("train-00000-of-00003", "train-00002-of-00003", "test-00000-of-00001")
    for seed, name in enumerate(names):
        write_parquet(tmp_path / f"{name}.parquet", [(png(seed), f"{seed}.png", seed)])
    read(tmp_path)
    assert "shards are missing, and the set is read without them: train-00001-of-00003.parquet;" in caplog.text
    write_parquet(tmp_path / "train-00001-of-00003.parquet", [(png(9), "9.png", 3)])
    caplog.clear()
    read(tmp_path)
    assert "missing" not in caplog.text


@pytest.mark.parametrize("copy", ["x (1)", "x(2)", "x - Copy", "x copy 2", "x_copy"])
def test_a_copy_of_a_file_is_refused(tmp_path: Path, copy: str):
    write_parquet(tmp_path / "x.parquet", FOUR)
    write_parquet(tmp_path / f"{copy}.parquet", [(png(8), "8.png", 0)])
    assert len(read(tmp_path)) == 5
    write_parquet(tmp_path / f"{copy}.parquet", FOUR)
    assert f"{copy}.parquet is a copy of x.parquet; move it away" in refusal(tmp_path)


def test_columns_whose_metadata_is_damaged_are_an_error_and_end_no_process(tmp_path: Path):
    """A byte of the footer tells of a longer histogram of levels than there are levels."""
    content = (Path(__file__).parent / "golden" / "damaged_levels.parquet").read_bytes()
    (tmp_path / "set.parquet").write_bytes(content)
    program = """
import sys
from mriscope import read
from mriscope.data.parts import Part, read_part
from mriscope.errors import DataError
for ask in (lambda: read(sys.argv[1]), lambda: list(read_part(Part("a", (sys.argv[1],), True), 32))):
    try:
        ask()
    except DataError as error:
        print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "set.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("histogram size mismatch") == 2
