"""Short forms of the bars of docs/reliability.md: damaged files of a run, and connections that leave the machine."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import encoded, pixels, png, write_parquet
from result_files import write_results

from mriscope import read
from mriscope.data.covariates import with_covariates
from mriscope.data.images import read_images
from mriscope.data.manifest import subjects_of
from mriscope.data.phantom import make_phantom
from mriscope.data.split_files import read_split_file
from mriscope.errors import MriscopeError
from mriscope.evaluation.predictions import Predictions, read_predictions, write_predictions
from mriscope.models.foreign import read_state_dict
from mriscope.output_folder import LIST, WrittenFiles
from mriscope.recipe import make_recipe, read_recipe, write_recipe
from mriscope.results import Environment, InferenceSettings, Metrics
from mriscope.run_directory import HISTORY, RunDirectory
from mriscope.training.checkpoint import load_state, read_weights, save_state, save_weights

MUTATIONS = int(os.environ.get("MRISCOPE_MUTATIONS", "60"))  # of each kind of file
GOLDEN = Path(__file__).parent / "golden"
SLICES = make_phantom(4, 2, size=32).slices
TESTED = Predictions.of([0, 1, 2, 2], np.eye(3)[[0, 1, 2, 0]], class_names=("x", "y", "z"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file of every kind that a command opens again."""
    import torch

    folder = tmp_path_factory.mktemp("run")
    recipe = make_recipe({"model": "compact_cnn", "training": {"epochs": 3, "learning_rate": 1e-3}})
    (folder / "recipe.yaml").write_text(write_recipe(recipe))
    write_predictions(TESTED, folder / "predictions.parquet")
    write_results(folder, recipe, TESTED, resamples=5)
    shutil.copyfile(GOLDEN / "split.json", folder / "split.json")
    (folder / HISTORY).write_text("epoch,train_loss\n1,0.5\n2,0.25\n")
    (folder / "slices.csv").write_text("path,subject\na.png,1\nb.png,2\n")
    weights = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    save_weights(weights, folder / "model.safetensors", "compact_cnn", ("x", "y"))
    save_state({"epoch": 1, "model": weights}, folder / "last.ckpt")
    (folder / LIST).write_text(json.dumps({"schema_version": 1, "files": {"model.safetensors": {"command": "train"}}}))
    InferenceSettings(temperature=1.5).write(folder / "inference.json")
    (folder / "slice.png").write_bytes(png(0, 24, 24))
    (folder / "slice.jpg").write_bytes(encoded(pixels(1, 24, 24), "JPEG"))
    (folder / "slice.tif").write_bytes(encoded(pixels(2, 24, 24), "TIFF", compression="tiff_deflate"))
    (folder / "deep.tif").write_bytes(encoded(pixels(3, 24, 24).astype(np.uint16) * 16, "TIFF"))
    (folder / "images.csv").write_text(
        "path,label,subject,age\nslice.png,AD,sub-01,71.5\nslice.jpg,CN,sub-02,68\nslice.tif,CN,sub-03,n/a\n"
    )
    (folder / "covariates.csv").write_text("subject;age;sex\n1;70,5;F\n2;n/a;M\n3;68;F\n", encoding="utf-16")
    write_parquet(folder / "set.parquet", [(png(number, 24, 24), f"{number}.png", number % 2) for number in range(4)])
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "recipe.yaml": read_recipe,
    "environment.json": Environment.read,
    "metrics.json": Metrics.read,
    "split.json": lambda path: RunDirectory(path.parent).parts(),
    HISTORY: lambda path: RunDirectory(path.parent).history(),
    "predictions.parquet": read_predictions,
    "model.safetensors": read_weights,
    "last.ckpt": load_state,
    "slices.csv": lambda path: subjects_of(["a.png", "b.png"], (), path),
    LIST: WrittenFiles.read,
    "inference.json": InferenceSettings.read,
    "slice.png": lambda path: read_images([path], 24),
    "slice.jpg": lambda path: read_images([path], 24),
    "slice.tif": lambda path: read_images([path], 24),
    "deep.tif": lambda path: read_images([path], 24),
    "images.csv": lambda path: read(path, size=24),
    "covariates.csv": lambda path: with_covariates(SLICES, path),
    "set.parquet": read,
}


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Change, remove, repeat or swap some bytes; or put in numbers and signs that parsers dislike."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(data) + 1)
        end = min(len(data), start + draw.randint(0, 30))
        match draw.randrange(6):
            case 0:
                data[start:end] = draw.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end] * draw.randint(1, 50)
            case 3:
                data[start:end] = draw.choice(
                    [
                        b"9" * 400,
                        b"-1",
                        b"1e999",
                        b"null",
                        b"[" * 300,
                        b'{"a":',
                        b"\xff\xfe",
                        b"\0" * 8,
                        b"NaN",
                        b"\x7f" * 8,
                    ]
                )
            case 4:
                del data[start:]
            case _:
                if data:
                    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def reset_peak() -> int:
    """Forget how much memory the process had at most so far; returns what it has now, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The resident memory that the process had at most, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_a_result_or_an_error_of_ours(run_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    file = tmp_path / "run" / name
    content = file.read_bytes()
    READERS[name](file)
    draw, refused, slowest = random.Random(name), 0, 0.0
    before = reset_peak()
    for _ in range(MUTATIONS):
        file.write_bytes(mutate(content, draw))
        began = time.process_time()
        try:
            READERS[name](file)
        except MriscopeError:
            refused += 1
        slowest = max(slowest, time.process_time() - began)
    assert refused > MUTATIONS / 10
    grown = (peak() - before) / 1024
    print(f"{name}: at most {slowest:.2f} s of processor time, grown by {grown:.0f} MiB")
    assert grown < 300


@pytest.mark.parametrize("name", READERS)
def test_pipes_are_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(MriscopeError):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_pipes_hold_no_weights_and_no_split(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(MriscopeError, match="pipe or a device"):
        read_state_dict(tmp_path / name)
    with pytest.raises(MriscopeError, match="pipe or a device"):
        read_split_file(tmp_path / name, None)  # pyright: ignore[reportArgumentType] - it is not reached


def test_predictions_of_a_few_bytes_that_stand_for_gigabytes_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 2_000_000
    columns = {
        "path": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["a.png"]),
        "label": np.zeros(rows, np.int64),
        "predicted": np.zeros(rows, np.int64),
        "subject": np.zeros(rows, np.int64),
        "part": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["test"]),
        "probability_x": np.ones(rows, np.float32),
    }
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet", compression="zstd", write_page_checksum=True)
    with pytest.raises(MriscopeError, match="it claims 2,000,000 rows"):
        read_predictions(tmp_path / "predictions.parquet")
    columns = {name: values[:400] for name, values in columns.items()}
    columns["path"] = pa.DictionaryArray.from_arrays(np.zeros(400, np.int32), ["a" * 5000])
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet", write_page_checksum=True)
    with pytest.raises(MriscopeError, match="a path has 5,000 bytes"):
        read_predictions(tmp_path / "predictions.parquet")
    columns["path"] = pa.DictionaryArray.from_arrays(np.zeros(400, np.int32), ["a" * 4000])
    columns["subject"] = pa.DictionaryArray.from_arrays(np.zeros(400, np.int32), ["a" * 5000])
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet", write_page_checksum=True)
    with pytest.raises(MriscopeError, match="a subject has 5,000 bytes"):
        read_predictions(tmp_path / "predictions.parquet")
    rows = 10_000
    columns = {name: np.zeros(rows, np.int64) for name in ("label", "predicted", "subject")}
    columns["path"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["a" * 4000])
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet", write_page_checksum=True)
    with pytest.raises(MriscopeError, match="its column path takes 40,000,000 bytes of 16,777,216"):
        read_predictions(tmp_path / "predictions.parquet")


OFFLINE = """
import sys
LEFT = []

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = str(arguments[0])
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", "None"):
        LEFT.append(host)
        raise OSError(f"{event} {host}")

sys.addaudithook(watch)
from pathlib import Path
from mriscope import cli
from mriscope.recipe import read_recipe
from mriscope.workflows import demo

small = Path("small.yaml")
small.write_text(
    "{model: compact_cnn, data: 'phantom:subjects=12,slices=6', input: {size: 32},"
    " training: {epochs: 1, batch_size: 8}}"
)
demo.RECIPE = small
assert cli._run_app(["demo", "--out", "demo"]) == 0
assert cli._run_app(["train", "small.yaml", "--out", "run", "--track", "sqlite:///mlruns/mlflow.db"]) == 0
assert cli._run_app(["audit", "phantom:subjects=12,slices=6", "--out", "audit"]) == 5
assert cli._run_app(["evaluate", "run", "--out", "evaluated"]) == 0
assert not LEFT, LEFT
import urllib.request
try:
    urllib.request.urlopen("http://example.invalid", timeout=1)
except OSError:
    pass
assert LEFT == ["example.invalid"], LEFT
"""


def test_no_command_connects_to_another_machine(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OFFLINE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [*tmp_path.rglob("*.html")]
    assert len(pages) >= 3
    for page in pages:
        assert 'src="http' not in page.read_text()
        assert "@import" not in page.read_text()
