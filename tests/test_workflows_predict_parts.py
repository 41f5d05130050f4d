"""Many slices part by part: the answers of `predict`, by any executor, from any place, and only what is left."""

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mriscope
from mriscope import sweep
from mriscope.data.parts import IMAGES_IN_A_PART, digest_part, list_parts, read_part
from mriscope.errors import DataError
from mriscope.recipe import make_recipe
from mriscope.results import ModelDescription
from mriscope.workflows import predict_parts as parts
from mriscope.workflows.predict_parts import predict_parts

SIZE = 32
DATA = "phantom:subjects=16,slices=3"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"model": "compact_cnn", "data": DATA, "input": {"size": SIZE}, "training": {"epochs": 1}}
    folder = tmp_path_factory.mktemp("runs") / "run"
    return mriscope.train(make_recipe(settings), folder, device="cpu", silent=True)


@pytest.fixture(scope="module")
def images():
    return mriscope.read(DATA, size=SIZE).images[:10]


def as_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(path: Path, contents: Sequence[bytes | None], **settings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [None if one is None else {"bytes": one, "path": f"{at}.png"} for at, one in enumerate(contents)]
    pq.write_table(pa.table({"image": rows, "label": [0] * len(rows)}), path, **settings)


@pytest.fixture
def source(tmp_path, images):
    """Two parquet files, of which the first has a row group of each row and an unusable row."""
    pngs = [as_png(image) for image in images]
    write_parquet(tmp_path / "set" / "a.parquet", [*pngs[:4], b"no image"], row_group_size=1)
    write_parquet(tmp_path / "set" / "more" / "b.parquet", pngs[4:])
    return tmp_path / "set"


def tables(out: Path) -> dict[str, dict]:
    return {file.name: pq.read_table(file).to_pydict() for file in sorted(out.glob("*.parquet"))}


def test_answers_are_those_of_predict(run, images, source, tmp_path):
    done = predict_parts(run.path, [str(source)], tmp_path / "out", device="cpu")
    assert (done.parts, done.kept, done.slices, done.unusable, done.failures) == (2, 0, 11, 1, {})
    (first, a), (second, b) = tables(tmp_path / "out").items()
    assert (first[:2], second[:2]) == ("a-", "b-")
    answers = mriscope.load_model(run.path, "cpu").predict(images).slices
    assert a["path"] == [f"{at}.png" for at in range(5)]
    assert a["problem"] == [None] * 4 + ["is no JPEG, PNG, TIFF or BMP"]
    rows = [
        {name: values[at] for name, values in table.items()} for table in (a, b) for at in range(len(table["path"]))
    ]
    unusable = rows.pop(4)
    assert {name for name, value in unusable.items() if value is not None} == {"path", "problem"}
    for row, answer in zip(rows, answers, strict=True):
        assert row["class"] == answer.class_name
        assert row["prediction_set"] == answer.prediction_set
        assert row["out_of_distribution"] == answer.out_of_distribution
        for name, value in answer.probabilities.items():
            assert row[f"probability_{name}"] == pytest.approx(value, abs=1e-6)
    assert ModelDescription.read(tmp_path / "out" / "model.json").origin.run == "run"


def test_a_part_is_done_again_only_where_content_or_model_changed(run, images, source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict_parts(run.path, [str(source)], out, device="cpu")
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.glob("*.parquet")}
    again = predict_parts(run.path, [str(source)], out, device="cpu")
    assert (again.kept, again.slices, again.unusable) == (2, 11, 1)
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before} == before
    write_parquet(source / "a.parquet", [as_png(images[0])])
    assert predict_parts(run.path, [str(source)], out, device="cpu").kept == 1
    (changed,) = (file for file in before if file.read_bytes() != before[file][1])
    assert changed.name.startswith("a-")
    changed.write_bytes(changed.read_bytes()[:-3])
    assert predict_parts(run.path, [str(source)], out, device="cpu").kept == 1
    monkeypatch.setattr(parts, "VERSION", parts.VERSION + 1)
    assert predict_parts(run.path, [str(source)], out, device="cpu").kept == 0


def test_a_damaged_part_is_named_and_the_others_go_on(run, source, tmp_path):
    (source / "c.parquet").write_bytes((source / "a.parquet").read_bytes()[:-9])
    done = predict_parts(run.path, [str(source)], tmp_path / "out", device="cpu")
    assert (done.parts, done.slices) == (3, 11)
    ((name, problem),) = done.failures.items()
    assert name.startswith("c-")
    assert "cannot be read as parquet" in problem
    assert len(tables(tmp_path / "out")) == 2


def test_a_pool_gives_the_same_bytes(run, source, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sweep, "count_cores", lambda: 2)
    for executor in ("serial", "processes:2"):
        done = predict_parts(run.path, [str(source)], tmp_path / executor, device="cpu", executor=executor)
        assert done.slices == 11
    one, other = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("serial", "processes:2"))
    assert {n: b for n, b in one.items() if n[0] != "."} == {n: b for n, b in other.items() if n[0] != "."}


def test_folders_patterns_and_images_are_parts(tmp_path, images):
    for name in ("a/1.png", "a/2.jpg", "b/3.png", "b/.hidden/4.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(as_png(images[0]))
    (everything,) = list_parts([str(tmp_path)])
    assert [Path(file).name for file in everything.files] == ["1.png", "2.jpg", "3.png"]
    (some,) = list_parts([str(tmp_path / "*" / "*.png")])
    assert [Path(file).name for file in some.files] == ["1.png", "3.png"]
    assert list_parts([str(tmp_path)]) == [everything]
    assert IMAGES_IN_A_PART == 4096
    with pytest.raises(DataError, match="there is no file"):
        list_parts([str(tmp_path / "*.parquet")])
    with pytest.raises(DataError, match="leads to no parquet file and no image"):
        list_parts([str(tmp_path / "b" / "notes.txt")])


def test_answers_among_the_slices_are_no_slices(run, source):
    for kept in (0, 2):  # the same command goes on
        done = predict_parts(run.path, [str(source)], source / "answers", device="cpu")
        assert (done.parts, done.kept, done.failures) == (2, kept, {})


def test_a_path_with_colons_is_no_chain_of_addresses(tmp_path, images):
    (tmp_path / "T1::axial.png").write_bytes(as_png(images[0]))
    for named in (tmp_path, tmp_path / "T1::axial.png"):
        (part,) = list_parts([str(named)])
        assert len(digest_part(part)) == 64
        ((names, _, problems),) = read_part(part, SIZE)
        assert (names, problems) == ([str(tmp_path / "T1::axial.png")], [""])


def test_pipes_and_stores_that_fail_are_refused_before_any_work(tmp_path, images, monkeypatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").write_bytes(as_png(images[0]))
    (tmp_path / "set" / "link").symlink_to(tmp_path, target_is_directory=True)
    for pipe in (tmp_path / "set" / "2.png", tmp_path / "alone.parquet"):
        os.mkfifo(pipe)
        named = pipe if pipe.suffix == ".parquet" else pipe.parent
        with pytest.raises(DataError, match=rf"{pipe.name} cannot be read \(it is a pipe or a device"):
            list_parts([str(named)])
        pipe.unlink()
    (part,) = list_parts([str(tmp_path / "set")])
    assert [Path(file).name for file in part.files] == ["1.png"]
    with pytest.raises(DataError, match=r"nowhere\.zip cannot be read \(No such file"):
        list_parts([f"zip://*.png::{tmp_path / 'nowhere.zip'}"])

    def fail(*_: object) -> bool:
        raise RuntimeError("no credentials")  # not an OSError, as those of botocore are none

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.isdir", fail)
    with pytest.raises(DataError, match=r"memory://set cannot be read \(no credentials\)"):
        list_parts(["memory://set"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_slices_come_from_an_object_store(run, source, tmp_path, monkeypatch):
    s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("bucket")
        for file in source.rglob("*.parquet"):
            store.pipe_file(f"bucket/set/{file.name}", file.read_bytes())
        done = predict_parts(run.path, ["s3://bucket/set/*.parquet"], tmp_path / "store", device="cpu")
        assert (done.parts, done.slices, done.failures) == (2, 11, {})
        assert predict_parts(run.path, ["s3://bucket/set"], tmp_path / "store", device="cpu").kept == 2
    finally:
        server.stop()
    predict_parts(run.path, [str(source)], tmp_path / "local", device="cpu")
    assert [*tables(tmp_path / "store").values()] == [*tables(tmp_path / "local").values()]
