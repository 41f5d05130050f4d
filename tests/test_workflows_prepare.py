"""`mriscope prepare` from files to files: what it writes, what it skips, and what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_files import write_files
from volume_files import axial_series, write_dicoms, write_nifti

import mriscope
from mriscope import cli
from mriscope.data.volumes import Volume
from mriscope.errors import DataError, WriteError
from mriscope.preparation.grids import Grid
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.template import load_template
from mriscope.preparation.volume import prepare_volume
from mriscope.results import Preparation
from mriscope.workflows import prepare
from mriscope.workflows.prepare import prepare_source

pytest.importorskip("SimpleITK")

PLAIN = PrepareOptions(strip="none", bias="none", registration="none", slices="0:30", spacing=10, size=32)
STEPS = {"--strip": "none", "--bias": "none", "--registration": "none", "--slices": "0:30"}
WORDS = [word for pair in {**STEPS, "--spacing": "10", "--size": "32"}.items() for word in pair]


def brain(seed: int) -> Grid:
    """The template on 5 mm with ventricles of a size of its own, and noise of its own."""
    template = load_template()
    grid = template.resampled(template.affine[:3, 3], -template.affine[:3, 3] * [1, 0.7, 1.2], 5.0)
    x, y, z = grid.points()
    wide = np.exp(-((x / (6 + 2 * seed)) ** 2 + ((y + 15) / 25) ** 2 + ((z - 15) / 12) ** 2))
    noise = np.random.default_rng(seed).normal(0, 0.02, grid.data.shape)
    return grid.with_data(np.where(grid.data > 0.1, (grid.data * (1 - 0.8 * wide) + noise).clip(0.05), 0) * 1000)


def bids(root: Path, subjects: int = 3) -> Path:
    table = "participant_id\tdiagnosis\tage\tposition\n" + "".join(
        f"sub-{n:02d}\t{('AD', 'CN')[n % 2]}\t{70 + n}\tward\n" for n in range(subjects)
    )
    write_files(root, {"participants.tsv": table.encode()})
    for n in range(subjects):
        made = brain(n)
        write_nifti(root / f"sub-{n:02d}/ses-1/anat/sub-{n:02d}_ses-1_T1w.nii.gz", made.data, made.affine)
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 6 subjects and a damaged seventh, prepared."""
    root = tmp_path_factory.mktemp("prepared")
    source = bids(root / "bids", 7)
    damaged = source / "sub-06/ses-1/anat/sub-06_ses-1_T1w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    prepare_source(source, root / "out", options=PLAIN)
    return root / "out"


def test_slices_come_back_with_all_that_is_known(prepared: Path) -> None:
    slices = mriscope.read(prepared, size=32)
    assert slices.images.shape == (24, 32, 32)
    assert slices.subject_names.tolist() == [f"sub-{n:02d}" for n in range(6) for _ in range(4)]
    assert set(slices.sessions) == {"ses-1"}
    assert slices.positions.tolist() == [0, 10, 20, 30] * 6
    assert [slices.class_names[label] for label in slices.labels[::4]] == ["AD", "CN"] * 3
    assert slices.covariates["age"][::4].tolist() == [70 + n for n in range(6)]
    assert set(slices.covariates["source_position"]) == {"ward"}
    assert slices.paths[1] == "sub-00/ses-1/anat/sub-00_ses-1_T1w.nii.gz#+10.0mm"


def test_file_has_the_features_of_the_hub_and_its_provenance(prepared: Path) -> None:
    schema = pq.read_schema(next((prepared / "data").glob("*.parquet")))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["label"] == {"names": ["AD", "CN"], "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"}
    assert features["age"] == {"dtype": "float64", "_type": "Value"}
    told = json.loads(schema.metadata[b"mriscope"])
    assert told["settings"]["spacing"] == 10
    assert told["packages"]["simpleitk"]
    assert told["source"] == "bids"


def test_failed_volume_costs_itself_alone(prepared: Path) -> None:
    result = Preparation.read(prepared / "prepare.json")
    assert [(one.path[:6], one.problem[:25]) for one in result.failed] == [("sub-06", "is a damaged gzip file (C")]
    page = (prepared / "prepare.html").read_text()
    assert page.index("<h3>sub-06/") < page.index("<h3>sub-00/")
    assert (
        len(re.findall('<img src="data:image/jpeg;base64,[^"]+" alt="sub-0[0-7]/[^"]+, [^"]+, [^"]+"', page)) == 6 * 8
    )


def test_finished_volumes_are_not_done_again(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (prepared / ".volumes").iterdir()}
    sets = [path.read_bytes() for path in (prepared / "data").iterdir()]
    monkeypatch.setattr(prepare, "SECONDS", 0.0)  # so that a volume that is done again fails
    monkeypatch.setattr(
        sys, "argv", ["mriscope", "prepare", str(prepared.parent / "bids"), "--out", str(prepared), *WORDS]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "24 slices of 6 volumes\nwithout slices: 1 of 7 volumes\n  sub-06" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (prepared / ".volumes").iterdir()} == before
    assert [path.read_bytes() for path in (prepared / "data").iterdir()] == sets


def test_prepared_set_is_audited_trained_on_and_explained(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        assert cli._run_app(list(words)) in (0, 5), words
        return capsys.readouterr().out

    assert "6 subjects in 6 sessions named by the source" in run("data", "info", str(prepared))
    assert run("audit", str(prepared), "--out", "audit")
    write_files(tmp_path, {"recipe.yaml": RECIPE.format(source=prepared).encode()})
    run("train", "recipe.yaml", "--out", "run", "--track", "none")
    assert json.loads(Path("run/metrics.json").read_text())["leaky"] is False
    run("explain", "run", "--out", "maps")
    assert Path("maps/grid.png").is_file()


RECIPE = """\
model: compact_cnn
data: {source}
input: {{size: 32}}
training: {{epochs: 1}}
split: {{protocol: by_subject, test: 0.33, validation: 0.33}}
"""


def test_killed_preparation_is_resumed_and_changed_volumes_are_prepared_anew(tmp_path: Path) -> None:
    source, out = bids(tmp_path / "bids", 2), tmp_path / "out"
    command = [sys.executable, "-m", "mriscope", "prepare", str(source), "--out", str(out), *WORDS]
    package = str(Path(mriscope.__file__).resolve().parents[1])
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": package}, stderr=subprocess.DEVNULL)
    last = time.monotonic() + 300
    while not list(out.glob(".volumes/*.npz")) and time.monotonic() < last:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob(".volumes/*.npz")}
    assert kept
    made = brain(7)
    write_nifti(source / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", made.data, made.affine)
    result = prepare_source(source, out, options=PLAIN)
    assert result.failed == []
    first, second = (out / ".volumes" / f"{one.key[:32]}.npz" for one in result.volumes)
    assert first.stat().st_mtime_ns == kept[first]
    assert second not in kept
    assert set(out.glob(".volumes/*.npz")) == {first, second}  # what no volume needs any more is gone
    assert mriscope.read(out, size=32).n_subjects == 2
    (out / "data/prepared-00000-of-00001.parquet").write_bytes(b"mine")
    with pytest.raises(mriscope.WriteError, match="changed after `mriscope prepare` wrote it"):
        prepare_source(source, out, options=PLAIN)


def test_dicom_series_in_parts(tmp_path: Path) -> None:
    """Labels and parts are those of the folders; the slices those of the same volume in memory."""
    made = brain(1)
    voxels = made.data.astype(np.int16)
    for part, group, who in (("train", "AD", "1"), ("test", "CN", "2")):
        about = {"PatientID": who, "StudyInstanceUID": f"1.{who}", "SeriesInstanceUID": f"1.{who}.1"}
        write_dicoms(tmp_path / "set" / part / group / f"scan{who}", axial_series(voxels, made.affine, **about))
    result = prepare_source(tmp_path / "set", tmp_path / "out", options=PLAIN)
    found = [(one.part, one.subject, one.class_name) for one in result.volumes]
    assert found == [("train", "patient-001", "AD"), ("test", "patient-002", "CN")]
    assert sorted(path.name[:5] for path in (tmp_path / "out/data").iterdir()) == ["test-", "train"]
    read = mriscope.read(tmp_path / "out", size=32)
    assert read.parts.tolist() == ["train"] * 4 + ["test"] * 4
    expected = prepare_volume(Volume(voxels, made.affine), PLAIN)
    np.testing.assert_array_equal(read.images[:4], expected.images)


def test_child_beyond_its_memory_costs_its_volume_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MEMORY", 2**29)
    result = prepare_source(bids(tmp_path / "bids", 2), tmp_path / "out", options=PLAIN)
    assert len(result.failed) == 2
    # a library without memory says so, ends the process, or tries again until its time is over
    ways = "memory|ended the process|cannot be prepared|takes longer"
    assert [one.problem for one in result.failed if not re.search(ways, one.problem)] == []
    assert "without slices: 2 of 2 volumes" in (tmp_path / "out/prepare.html").read_text()


def test_slices_of_others_in_the_way_are_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_prepare", None)
    write_files(tmp_path / "out", {"data/prepared-00000-of-00001.parquet": b"mine"})
    with pytest.raises(WriteError, match="that mriscope did not write"):
        prepare_source(bids(tmp_path / "bids", 2), tmp_path / "out", options=PLAIN)


def test_finished_volume_that_is_damaged_counts_as_unfinished(prepared: Path, tmp_path: Path) -> None:
    whole = sorted((prepared / ".volumes").iterdir())[0].read_bytes()
    file, random, damaged = tmp_path / "one.npz", np.random.default_rng(0), 0
    for number in range(100):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(len(content), size=number)] ^= 255
        file.write_bytes(content.tobytes())
        damaged += prepare._load(file) is None
    assert 50 < damaged < 100  # the first is whole
    for content in (b"", b"PK", whole[:-30]):
        file.write_bytes(content)
        assert prepare._load(file) is None
    with file.open("wb") as array:
        np.save(array, np.zeros(3))
    assert prepare._load(file) is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("phantom", "the phantom is made as slices, and prepare takes volumes"),
        ("missing", "missing does not exist"),
        ("set", "set holds slices, and prepare takes volumes in files"),
        ("bids?slices=3", "bids is prepared, which has options of its own"),
    ],
)
def test_sources_without_volumes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for name in ("set/AD/1.png", "set/CN/2.png"):
        Path(name).parent.mkdir(parents=True)
        Image.new("L", (16, 16)).save(name)
    Path("bids").mkdir()
    with pytest.raises(DataError, match=re.escape(words)):
        prepare_source(source, "out", options=PLAIN)
    assert not Path("out").exists()
