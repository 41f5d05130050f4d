"""Class folders: layouts and names as people have them, and nothing in them disappears."""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from data_files import encoded, pixels, png, write_files, write_parquet

from mriscope.data.naming import canonical_class, natural, printable, subject_of
from mriscope.data.readers import read
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import BadRowsError, DataError

LAYOUT = {"Mild_Demented": 0, "Moderate_Demented": 1, "Non_Demented": 2, "Very_Mild_Demented": 3}


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as error:
        read(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_class_folders_in_natural_order(tmp_path: Path):
    names = ["Mild_Demented/9.png", "Mild_Demented/10.png", "Mild_Demented/10 (2).PNG", "Non_Demented/1.png"]
    write_files(tmp_path, {name: png(seed) for seed, name in reversed(list(enumerate(names)))})
    found = read(tmp_path)
    assert found.paths.tolist() == [names[0], names[2], names[1], names[3]]
    assert np.array_equal(found.images, [pixels(seed) for seed in (0, 2, 1, 3)])
    assert found.labels.tolist() == [0, 0, 0, 2]
    assert found.class_names == CLASS_NAMES
    assert found.parts.tolist() == [""] * 4


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "TESTING")])
def test_train_and_test_above_the_classes(tmp_path: Path, train: str, test: str):
    layout = {f"{test}/NonDemented/1.jpg": 1, f"{train}/NonDemented/1.jpg": 2, f"{train}/MildDemented/a/1.jpeg": 3}
    write_files(tmp_path, {name: encoded(pixels(seed), "JPEG") for name, seed in layout.items()})
    found = read(tmp_path)
    assert found.paths.tolist() == [
        f"{train}/MildDemented/a/1.jpeg",
        f"{train}/NonDemented/1.jpg",
        f"{test}/NonDemented/1.jpg",
    ]
    assert found.parts.tolist() == ["train", "train", "test"]
    assert found.labels.tolist() == [0, 2, 2]


def test_parquet_and_folders_of_the_same_pixels_are_one_set(tmp_path: Path):
    files = {f"{part}/{name}/{seed}.png": png(seed) for seed, name in enumerate(LAYOUT) for part in ("train", "test")}
    for part in ("train", "test"):
        rows = [(png(seed), f"{name}/{seed}.png", label) for seed, (name, label) in enumerate(LAYOUT.items())]
        write_parquet(tmp_path / "parquet" / f"{part}.parquet", rows, CLASS_NAMES)
    folders, parquet = read(write_files(tmp_path / "folders", files)), read(tmp_path / "parquet")
    assert folders.fingerprint == parquet.fingerprint
    assert folders.parts.tolist() == parquet.parts.tolist()
    assert folders.paths.tolist() == parquet.paths.tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MildDemented", 0),
        ("Mild_Demented", 0),
        ("mild demented", 0),
        ("Mild Impairment", 0),
        ("Mild Dementia", 0),
        ("MODERATE-DEMENTED", 1),
        ("Moderate Impairment", 1),
        ("Non Demented", 2),
        ("No Impairment", 2),
        ("Very Mild Impairment", 3),
        ("VeryMildDemented", 3),
        ("Very_Mild_Demented", 3),
        ("Demented", None),
        ("Mildly Demented", None),
        ("CN", None),
    ],
)
def test_class_names_as_people_write_them(name: str, expected: int | None):
    assert canonical_class(name) == (None if expected is None else CLASS_NAMES[expected])


def test_other_names_are_classes_of_their_own(tmp_path: Path):
    found = read(write_files(tmp_path, {"MCI/a.png": png(0), "AD/a.png": png(1), "CN/a.png": png(2)}))
    assert found.class_names == ("AD", "CN", "MCI")
    assert found.labels.tolist() == [0, 1, 2]


def test_an_odd_folder_is_named_with_the_class_near_it(tmp_path: Path):
    write_files(tmp_path, {"Mild_Demented/a.png": png(0), "Non_Demnted/a.png": png(1)})
    assert refusal(tmp_path) == (
        f"{tmp_path}: the folder Non_Demnted is none of the four classes, as others are; did you mean Non_Demented?"
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {},
            "holds no image files (.jpg, .jpeg, .png, .tif, .tiff, .bmp); expected one folder of them for each class",
        ),
        ({"a/notes.txt": b"x", "b/.hidden.png": b"x"}, "holds no image files"),
        ({"1.png": png(0), "2.png": png(1)}, "has its images in no class folder; expected one folder of images"),
        ({"Kaggle/foo/1.png": png(0)}, "holds one folder of images, Kaggle; expected one for each class"),
        ({"train/1.png": png(0), "test/1.png": png(1)}, "has its images in no class folder"),
        (
            {"sub-01/1.png": png(0), "sub-02/1.png": png(1)},
            "has folders of subjects, such as sub-01, and no class folders; expected one folder of images for each",
        ),
        (
            {"train/AD/1.png": png(0), "other/AD/1.png": png(1)},
            "the folder other is no train, validation or test folder",
        ),
    ],
)
def test_folders_that_are_no_source(tmp_path: Path, files: dict[str, bytes], expected: str):
    assert expected in refusal(write_files(tmp_path, files))


def test_every_other_file_is_a_bad_row(tmp_path: Path):
    files = {
        "AD/1.png": png(0),
        "CN/1.png": png(1),
        "CN/2.png": png(2),
        "AD/.DS_Store": b"x",
        "AD/Thumbs.db": b"x",
        "CN/desktop.ini": b"x",
        "__MACOSX/AD/._1.png": b"x",
        ".git/config": b"x",
        "AD/notes.txt": b"x",
        "CN/empty.png": b"",
        "CN/scan.dcm": b"x",
        "above.png": png(3),
    }
    write_files(tmp_path, files)
    (tmp_path / "AD" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "AD" / "pipe.png")
    with pytest.raises(BadRowsError) as error:
        read(tmp_path)
    assert [(bad.row, bad.path, bad.reason) for bad in error.value.rows] == [
        (1, "AD/lost.png", "is a link that leads to no file"),
        (2, "AD/notes.txt", "is no image file"),
        (3, "AD/pipe.png", "is no ordinary file"),
        (6, "CN/empty.png", "is empty (0 bytes)"),
        (7, "CN/scan.dcm", "is no image file"),
        (8, "above.png", "lies in no class folder"),
    ]


def test_a_file_too_large_for_a_slice_is_not_read(tmp_path: Path):
    write_files(tmp_path, {"AD/1.png": png(0), "CN/1.png": png(1)})
    with (tmp_path / "CN" / "2.png").open("wb") as file:
        file.truncate(2**28 + 1)  # sparse: it takes no room
    with pytest.raises(BadRowsError, match=r"CN/2.png\): has 256 MiB, where a slice has less than 256"):
        read(tmp_path)


def test_a_file_that_cannot_be_read_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_files(tmp_path, {"AD/1.png": png(0), "CN/1.png": png(1)})
    real = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.parent.name == "CN":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadRowsError, match=r"CN/1.png\): cannot be read \(Permission denied\)"):
        read(tmp_path)
    monkeypatch.undo()
    assert len(read(tmp_path)) == 2  # the refusal is not kept for files of this content


def test_names_that_are_no_utf_8_can_be_shown(tmp_path: Path):
    write_files(tmp_path, {"AD/1.png": png(0), "CN/1.png": png(1)})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/CN/caf\xe9\n.png")).write_bytes(png(2))
    mark = "\N{REPLACEMENT CHARACTER}"
    assert read(tmp_path).paths.tolist() == ["AD/1.png", "CN/1.png", f"CN/caf{mark}{mark}.png"]
    assert printable("plain") == "plain"


def test_natural_order():
    names = ["b", "a10", "a9", "a09", "10", "9", "a"]
    assert sorted(names, key=natural) == ["9", "10", "a", "a09", "a9", "a10", "b"]


def tree(root: Path, *folders: str) -> Path:
    """A folder with one slice in each of these."""
    return write_files(root, {f"{folder}/{seed}.png": png(seed) for seed, folder in enumerate(folders)})


def product(*levels: tuple[str, ...]) -> list[str]:
    return ["/".join(names) for names in itertools.product(*levels)]


FOUR = ("NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (product(("OriginalDataset", "AugmentedAlzheimerDataset"), FOUR), CLASS_NAMES),
        (product(("Data",), FOUR), CLASS_NAMES),
        (product(("Dataset",), ("MildDemented",)), CLASS_NAMES),
        (product(("setX", "setY"), FOUR), CLASS_NAMES),
        (product(("axial", "coronal", "sagittal"), FOUR), CLASS_NAMES),
        (product(("fold_0", "fold_1"), ("foo", "bar")), ("bar", "foo")),
        (product(("Original", "Augmented"), ("foo", "bar")), ("bar", "foo")),
        (product(("Original Data", "AUGMENTED"), ("foo", "bar", "baz"))[:-1], ("bar", "baz", "foo")),
        (product(("Axial", "Coronal"), ("AD", "CN", "MCI")), ("AD", "CN", "MCI")),
        (product(("AD", "CN"), ("axial", "coronal")), ("AD", "CN")),
        (product(("foo", "bar"), ("axial", "coronal")), ("bar", "foo")),
        (product(("foo", "bar"), ("1", "2", "3")), ("bar", "foo")),
        (product(("1", "2", "3"), ("foo", "bar")), ("bar", "foo")),
        (["001/foo", "002/bar", "003/foo", "004/bar"], ("bar", "foo")),
        (["foo/anna", "foo/berta", "bar/carla", "bar/dora"], ("bar", "foo")),
        (["foo/anna", "foo/berta", "foo/carla", "bar/carla", "bar/dora"], ("bar", "foo")),
        (["foo", "foo/more", "bar", "bar/more"], ("bar", "foo")),
        (["Demented/MildDemented", "Demented/VeryMildDemented", "NonDemented"], None),
        (["a/MildDemented", "b/more/VeryMildDemented", "NonDemented"], CLASS_NAMES),
        (["axial", "coronal"], ("axial", "coronal")),
        (["1", "2", "3"], ("1", "2", "3")),
        (product(("setX", "setY"), ("foo", "bar")), ("bar", "foo")),
        (product(("north", "south"), ("foo", "bar")), None),
        (["p/foo", "q/bar", "r/foo"], None),
        (["Alzheimer dataset/anna", "Normal dataset/berta"], None),
        (["AD/normal", "AD/mild", "CN/normal"], None),
    ],
)
def test_the_classes_are_found_above_and_below_other_folders(
    tmp_path: Path, folders: list[str], classes: tuple[str, ...] | None
):
    source = tree(tmp_path, *folders)
    if classes is None:
        assert f"{source} can be read in two ways: the classes are " in refusal(source)
        return
    found = read(source)
    assert found.class_names == classes
    named = [next(one for one in map(named_class, path.split("/")) if one in classes) for path in found.paths.tolist()]
    assert [classes[label] for label in found.labels] == named
    assert set(found.subjects.tolist()) == {-1}


def named_class(folder: str) -> str:
    return canonical_class(folder) or folder


def test_both_readings_and_the_ways_out_are_named(tmp_path: Path):
    source = tree(tmp_path, *product(("north", "south"), ("a1", "a2", "a3", "a4", "a5", "a6")))
    assert refusal(source) == (
        f"{source} can be read in two ways: the classes are north, south, or a1, a2, a3, a4 and 2 more within them; "
        "for the first put the images straight into the upper folders, for the second name one of these as the source, "
        f"such as {source}/north"
    )
    assert read(source / "north").class_names == ("a1", "a2", "a3", "a4", "a5", "a6")


@pytest.mark.parametrize(
    "folders",
    [
        product(("train", "test"), ("Original", "Augmented"), ("AD", "CN")),
        product(("Original", "Augmented"), ("train", "test"), ("AD", "CN")),
        product(("AD", "CN"), ("train", "test")),
        product(("Alzheimer_s Dataset",), ("Training", "Testing"), ("AD", "CN"), ("anna", "berta")),
    ],
)
def test_train_and_test_at_any_level(tmp_path: Path, folders: list[str]):
    found = read(tree(tmp_path, *folders))
    assert found.class_names == ("AD", "CN")
    for path, part, label in zip(found.paths.tolist(), found.parts.tolist(), found.labels, strict=True):
        assert part in path.lower()
        assert found.class_names[label] in path.split("/")
    assert found.parts.tolist() == sorted(found.parts.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (
            ["train/AD", "test/AD", "Original/CN"],
            "the folder Original is no train, validation or test folder, as others",
        ),
        (["AD/train", "AD/test", "CN"], "the folder CN is no train, validation or test folder, as others"),
        (["train/AD/test", "train/CN"], "the folder train/AD/test lies in two parts"),
        (["Set/AD", "Set/CN", "Misc"], "the folder Misc holds images and no class folder, as others do; move it away"),
    ],
)
def test_folders_that_do_not_go_with_the_others(tmp_path: Path, folders: list[str], expected: str):
    assert expected in refusal(tree(tmp_path, *folders))


@pytest.mark.parametrize(
    ("folders", "subjects"),
    [
        (product(("sub-01", "sub-02"), FOUR), [0] * 4 + [1] * 4),
        (["AD/OAS1_0028_MR1", "AD/OAS1_0028_MR2", "CN/OAS1_0003_MR1"], [1, 1, 0]),
        (["train/AD/133_S_0912", "train/CN/002_S_0413", "test/AD/133_S_0912"], [1, 0, 1]),
        (["AD/patient 10", "AD/patient 9", "CN/other"], [0, 1, -1]),  # in natural order of the paths
    ],
)
def test_folders_of_subjects_name_the_subject(tmp_path: Path, folders: list[str], subjects: list[int]):
    found = read(tree(tmp_path, *folders))
    assert found.subjects.tolist() == subjects
    assert not {"sub", "oas1", "patient"} & set(found.class_names)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("sub-01", "sub-01"),
        ("SUB-Control7", "SUB-Control7"),
        ("OAS1_0028_MR2", "OAS1_0028"),
        ("133_S_0912", "133_S_0912"),
        ("IXI002-Guys", "IXI002"),
        ("Patient 12", "Patient 12"),
        ("case_3", "case_3"),
        ("sub-cortical", ""),
        ("case", ""),
        ("patients", ""),
        ("12", ""),
        ("Subject", ""),
        ("1234_S_0912", ""),
    ],
)
def test_subjects_as_people_name_their_folders(name: str, subject: str):
    assert subject_of(name) == subject


def test_images_above_the_class_folders_are_bad_rows(tmp_path: Path):
    source = tree(tmp_path, *product(("Original", "Augmented"), ("AD", "CN")), "Original")
    with pytest.raises(BadRowsError) as error:
        read(source)
    assert [(bad.path, bad.reason) for bad in error.value.rows] == [("Original/4.png", "lies in no class folder")]


def test_a_folder_without_images_is_no_class(tmp_path: Path):
    write_files(tree(tmp_path, "foo", "bar"), {"notes/readme.txt": b"x"})
    with pytest.raises(BadRowsError, match=r"readme.txt\): is no image file"):
        read(tmp_path)
    assert read(tmp_path, skip_bad=True, bad_rows_to=tmp_path.with_suffix(".csv")).class_names == ("bar", "foo")


@pytest.mark.parametrize(
    "folders",
    [
        ("train_1/AD", "train_1/CN", "test_1/AD", "test_1/CN"),
        ("train_AD", "train_CN", "test_AD", "test_CN"),
        ("trainAD", "trainCN", "testAD", "testCN"),
        ("AD_train", "CN_train", "AD_test", "CN_test"),
    ],
)
def test_folders_that_may_be_parts_are_refused_with_both_readings(tmp_path: Path, folders: tuple[str, ...]):
    write_files(tmp_path, {f"{folder}/{row}.png": png(row, 16, 16) for folder in folders for row in range(2)})
    with pytest.raises(
        DataError, match=f"can be read in two ways: the folders .*{folders[-1].split('/')[0]}.* are parts"
    ):
        read(tmp_path, size=16)


def test_words_that_only_begin_like_parts_are_classes(tmp_path: Path):
    names = ("tested", "trainable", "validity", "devoid")
    write_files(tmp_path, {f"{name}/{row}.png": png(row, 16, 16) for name in names for row in range(2)})
    assert read(tmp_path, size=16).class_names == tuple(sorted(names))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("path,CDR\nimg/0.png,0\n", "has the columns path, CDR, and none for the label; name it with --label-column"),
        (
            "path,label\nC:/x/0.png,AD\n",
            "names no file that is there, the first 'C:/x/0.png'; expected paths from its own",
        ),
        ("path,label,label\n", "cannot be read as a table of images (.*has two columns 'label'; rename one)"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_first(tmp_path: Path, table: str, said: str):
    write_files(tmp_path, {f"img/{row}.png": png(row, 16, 16) for row in range(2)} | {"labels.csv": table.encode()})
    with pytest.raises(DataError) as error:
        read(tmp_path, size=16)
    assert re.match(f"{tmp_path}/labels.csv is not used, as it {re.sub(r'([()])', r'.', said)}", str(error.value))


def test_a_table_of_windows_paths_is_found(tmp_path: Path):
    table = b"path,label\nimg\\0.png,AD\nimg\\1.png,CN\n"
    write_files(tmp_path, {f"img/{row}.png": png(row, 16, 16) for row in range(2)} | {"labels.csv": table})
    assert read(tmp_path, size=16).class_names == ("AD", "CN")


def test_segmentations_beside_images_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    names = [f"{folder}/{row}{mask}.png" for folder in ("AD", "CN") for row in range(2) for mask in ("", "_mask")]
    write_files(tmp_path, {name: png(row, 16, 16) for row, name in enumerate([*names, "CN/masked.png"])})
    found = read(tmp_path, size=16)
    assert found.paths.tolist() == ["AD/0.png", "AD/1.png", "CN/0.png", "CN/1.png", "CN/masked.png"]
    assert "4 segmentations such as AD/0_mask.png lie beside the images and were left out" in caplog.text
