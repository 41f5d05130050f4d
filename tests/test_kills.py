"""SIGKILL inside saves and while MLflow records, and two commands at once in one folder: all stays readable.

The long versions are those of `python3 run.py soak`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAVES = int(os.environ.get("MRISCOPE_SAVE_KILLS", "15"))
KILLS = int(os.environ.get("MRISCOPE_KILLS", "1"))
HERE = Path(__file__).parent

IN_SAVES = """
import json, os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import numpy as np
import torch
from mriscope import files
from mriscope.evaluation.predictions import Predictions, read_predictions, write_predictions
from mriscope.training.checkpoint import load_state, read_weights, save_state, save_weights

torch.set_num_threads(1)
folder = Path(sys.argv[1])
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)

def state(number):
    return {"epoch": number, "model": {"a": torch.full((300, 300), float(number))}}

def predictions(number):
    return Predictions.of([0, 1, 2] * 500, np.eye(3)[[0, 1, number % 3] * 500], class_names=("x", "y", "z"))

SAVERS = {
    "last.ckpt": (lambda number, path: save_state(state(number), path), lambda path: load_state(path)["epoch"]),
    "model.safetensors": (
        lambda number, path: save_weights(state(number)["model"], path, "m", ("x", "y")),
        lambda path: int(read_weights(path).weights["a"][0, 0]),
    ),
    "predictions.parquet": (
        lambda number, path: write_predictions(predictions(number), path),
        lambda path: int(read_predictions(path).predicted[2]),
    ),
    "history.csv": (
        lambda number, path: files.write_text(path, f"epoch\\n{number}\\n" * 5000),
        lambda path: int(path.read_text().split()[1]),
    ),
}

def kill_at(point):
    flush, replace, writing = files._flush_to_disk, Path.replace, Path.write_bytes
    def before_flush(path):
        if point == "cut short":
            os.truncate(path, path.stat().st_size // 2)
        if point in ("written", "cut short"):
            kill()
        flush(path)
        if point == "flushed":
            kill()
    def renamed(path, target):
        replace(path, target)
        if point == "renamed":
            kill()
    files._flush_to_disk = before_flush
    Path.replace = renamed

counts = {}
for number in range(1, int(sys.argv[2]) + 1):
    name = list(SAVERS)[number % len(SAVERS)]
    point = ("cut short", "written", "flushed", "renamed")[number // len(SAVERS) % 4]
    save, read = SAVERS[name]
    save(0, folder / name)
    child = os.fork()
    if child == 0:
        kill_at(point)
        save(1, folder / name)
        os._exit(9)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    assert read(folder / name) == (1 if point == "renamed" else 0), (name, point)
    counts[point] = counts.get(point, 0) + 1
    files.remove_unfinished(folder)
    assert sorted(one.name for one in folder.iterdir() if one.name.startswith(".")) == []
print(json.dumps(counts))
"""


def test_killed_inside_saves_the_old_file_or_the_new_one_is_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IN_SAVES, str(tmp_path), str(SAVES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout).values()) == SAVES


TRACKED = """
import json, os, signal, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from mriscope.recipe import make_recipe
from mriscope.tracking import records, tracker
from mriscope.workflows.train import run

folder, point = Path(sys.argv[1]), sys.argv[2]
recipe = make_recipe({
    "model": "keras_like", "data": "phantom:subjects=16,slices=2", "input": {"size": 32},
    "training": {"epochs": 2, "batch_size": 16},
})
if point:
    place, name = (tracker, point) if hasattr(tracker, point) else (records, point)
    inner = getattr(place, name)
    def killed(*given, **named):
        if point == "record_end" or point == "record_start":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*given, **named)
        if given and (point != "record_epochs" or given[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(place, name, killed)
run(recipe, folder / "run", silent=True, device="cpu", track=f"sqlite:///{folder}/mlflow.db")
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
home = client.get_experiment_by_name("mriscope").experiment_id
found = client.search_runs([home])
print(json.dumps([
    [one.info.status, len(client.get_metric_history(one.info.run_id, "train_loss"))] for one in found
]))
"""
POINTS = ("record_epochs", "record_start", "record_end")


@pytest.mark.skipif(KILLS < 2, reason="part of `python3 run.py soak`")
@pytest.mark.parametrize("point", POINTS)
def test_killed_while_mlflow_records_it_goes_on_and_the_record_is_whole(tmp_path, point):
    pytest.importorskip("mlflow")
    command = [sys.executable, "-c", TRACKED, str(tmp_path)]
    killed = subprocess.run([*command, point], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    done = subprocess.run([*command, ""], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout.splitlines()[-1])
    assert ["FINISHED", 2] in runs
    assert len(runs) == (2 if point == "record_start" else 1), runs


SMALL = """
model: keras_like
data: phantom:subjects=16,slices=2
input: {size: 32}
training: {epochs: 1, batch_size: 16}
"""


def start(place: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", "from mriscope.cli import main; main()", *words]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(KILLS < 2, reason="part of `python3 run.py soak`")
def test_two_at_once_in_one_folder_wait_or_say_so_and_the_results_are_those_of_one(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / f"{name}.yaml").write_text(SMALL + f"seed: {seed}\nsplit: {{validation: 0.2}}\n")
    crossval = ("crossval", "a.yaml", "--folds", "2", "--executor", "here")
    for process in [start(tmp_path, *crossval, "--out", "both") for _ in range(2)]:
        _, told = process.communicate()
        assert process.returncode == 0 or "another process is at work in" in told, told
    for place in ("both", "alone"):
        process = start(tmp_path, *crossval, "--out", place)
        assert (process.communicate(), process.returncode)[1] == 0
    for name in ("predictions.parquet", "repeat0-fold0/model.safetensors", "repeat0-fold1/model.safetensors"):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    for words, result in (
        (("explain", "both/repeat0-fold0", "--out", "maps"), "maps"),
        (("audit", "phantom:subjects=16,slices=4", "--out", "audited"), "audited"),
    ):
        codes = []
        for process in [start(tmp_path, *words) for _ in range(2)]:
            _, told = process.communicate()
            codes.append(process.returncode)
            assert "Traceback" not in told, told
        assert len(set(codes)) == 1, codes
        assert not [one for one in (tmp_path / result).iterdir() if one.name.endswith(".unfinished")]
