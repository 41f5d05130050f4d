"""What MLflow is told of runs, in a database and by a real server; and what its failures cost a run: one warning."""

import http.client
import json
import logging
import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_files import environment, metrics, training

import mriscope
from mriscope.errors import InterruptedTrainingError, MissingExtraError, MriscopeError
from mriscope.evaluation.predictions import Predictions
from mriscope.recipe import make_recipe
from mriscope.results import ClassMetrics, Estimate
from mriscope.run_directory import RunDirectory
from mriscope.tracking import page, store
from mriscope.tracking.records import final_metrics
from mriscope.tracking.store import connect, redact, root_cause, store_of
from mriscope.tracking.tracker import Tracker, open_tracker
from mriscope.workflows.export import export_run
from mriscope.workflows.split import fold_recipe

SOURCE = "phantom:subjects=24,slices=4"
SETTINGS = {
    "model": "baseline_cnn",
    "data": SOURCE,
    "input": {"size": 32},
    "split": {"protocol": "by_subject", "test": 0.3, "validation": 0.2},
    "training": {"epochs": 2, "batch_size": 16},
}
MACHINE = environment(data="f" * 64, commit="0123456789ab+", python="3.11", source="/clinic/Jane Doe/scans")
TESTED = Predictions.of([0, 1, 2, 3], np.eye(4))


def epoch(number: int) -> dict[str, float]:
    return {"epoch": number, "train_loss": 1 / number, "learning_rate": 0.001}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A small finished run."""
    return mriscope.run(make_recipe(SETTINGS), tmp_path_factory.mktemp("trained") / "small", silent=True)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables, as making them takes seconds."""
    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    connect(f"sqlite:///{file}", "tables")
    return file


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    """A database of the test's own."""
    file = tmp_path / "mlruns" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(empty_database, file)
    return f"sqlite:///{file}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    return tmp_path / "small"


def open_small(uri: str, folder: Path, **more: Any) -> Tracker:
    return open_tracker(uri, folder, make_recipe(SETTINGS), MACHINE, **more)


def track(uri: str, trained: RunDirectory, folder: Path) -> str:
    """Track a finished run from a copy of its directory, epoch by epoch: its id in MLflow."""
    shutil.copytree(trained.path, folder, dirs_exist_ok=True)
    history = trained.history()
    with open_tracker(uri, folder, trained.recipe, trained.environment) as tracker:
        for row in history:
            tracker.epoch(row)
        tracker.finish(folder, trained.metrics(), history)
    assert tracker.run_id is not None, "tracking failed on the way"
    return tracker.run_id


def client_of(uri: str) -> Any:
    return connect(store_of(uri), "mriscope")[0]


def all_runs(uri: str) -> list[Any]:
    client, experiment = connect(store_of(uri), "mriscope")
    return list(client.search_runs([experiment]))


def files_of(uri: str, run_id: str, to: Path) -> Path:
    """Everything that MLflow keeps of a run, in one folder: its files, and its model in model/artifacts/."""
    from mlflow.artifacts import download_artifacts

    to.mkdir()
    (output,) = client_of(uri).get_run(run_id).outputs.model_outputs
    model = client_of(uri).get_logged_model(output.model_id)
    download_artifacts(run_id=run_id, dst_path=str(to), tracking_uri=uri)
    download_artifacts(model.artifact_location, dst_path=str(to / "model"), tracking_uri=uri)
    return to


def check_model(folder: Path, trained: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that MLflow keeps answers as the run did, without a pickle being read."""
    from mlflow import pyfunc

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    model = pyfunc.load_model(str(folder))
    kept, slices = trained.predictions(), mriscope.read(SOURCE, size=32)
    row_of = {path: row for row, path in enumerate(slices.paths)}
    asked = slices.images[[row_of[path] for path in kept.paths]]
    np.testing.assert_allclose(model.predict(asked), kept.probabilities, rtol=0, atol=1e-6)
    assert str(model.metadata.signature.inputs) == "[Tensor('uint8', (-1, 32, 32))]"
    assert str(model.metadata.signature.outputs) == "[Tensor('float32', (-1, 4))]"
    with pytest.raises(Exception, match="float64 does not match expected dtype uint8"):
        model.predict(asked.astype(np.float64))


# What is recorded


def test_a_fold_bears_the_name_of_its_cross_validation(uri, tmp_path):
    folder = tmp_path / "small-crossval" / "repeat0-fold1"
    folder.mkdir(parents=True)
    fold = fold_recipe(make_recipe(SETTINGS), "by_subject", 2, 1, 0)
    with open_tracker(uri, folder, fold, MACHINE) as tracker:
        assert client_of(uri).get_run(tracker.run_id).info.run_name == "small-crossval/repeat0-fold1"


def test_settings_data_commit_and_machine_of_a_run_are_recorded(uri, folder, tmp_path):
    with open_small(uri, folder) as tracker:
        run = client_of(uri).get_run(tracker.run_id)
    assert run.info.run_name == "small"
    assert run.data.params["model"] == "baseline_cnn"
    assert run.data.params["training.batch_size"] == "16"
    assert run.data.params["training.patience"] == "None"
    expected = {
        "mlflow.source.git.commit": "0123456789ab",
        "mlflow.source.git.dirty": "true",
        "protocol": "by_subject",
        "data": "f" * 64,
        "environment.python": "3.11",
    }
    assert expected.items() <= run.data.tags.items()
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == (SOURCE, "f" * 36)
    kept = tmp_path / "mlruns" / "artifacts" / tracker.run_id / "artifacts"
    assert make_recipe(SETTINGS) == mriscope.read_recipe(kept / "recipe.yaml")
    environment = json.loads((kept / "environment.json").read_text())
    assert (environment["commit"], environment["python"]) == ("0123456789ab+", "3.11")
    assert not {"source", "data"} & environment.keys()
    assert "Jane" not in str(run.to_dictionary())


def test_no_folder_of_the_user_is_recorded(uri, folder, tmp_path):
    home = "/home/Jane Doe/phantom_scans"
    split, weights = {"file": f"{home}/split.json"}, {"weights": f"{home}/w.safetensors"}
    places = {"data": f"{home}/slices", "manifest": f"{home}/subjects.csv", "split": split, "model_options": weights}
    with open_tracker(
        uri, folder, make_recipe({**SETTINGS, **places}), MACHINE.model_copy(update={"source": home})
    ) as tracker:
        run = client_of(uri).get_run(tracker.run_id)
    assert run.data.params["data"] == "slices"
    assert run.data.params["manifest"] == "subjects.csv"
    assert run.data.params["split.file"] == "split.json"
    assert run.data.params["model_options.weights"] == "w.safetensors"
    assert "Jane" not in str(run.to_dictionary())
    kept = tmp_path / "mlruns" / "artifacts" / tracker.run_id / "artifacts"
    assert not [file for file in kept.iterdir() if b"Jane" in file.read_bytes()]


def test_a_folder_named_like_the_phantom_is_a_folder(uri, folder):
    with open_tracker(uri, folder, make_recipe({**SETTINGS, "data": "phantom_scans/Jane"}), MACHINE) as tracker:
        assert client_of(uri).get_run(tracker.run_id).data.params["data"] == "Jane"


def test_every_epochs_metrics_are_recorded_at_its_step(uri, trained, folder):
    run_id, client = track(uri, trained, folder), client_of(uri)
    history = trained.history()
    assert len(history) == 2
    for name in ("train_loss", "validation_accuracy", "learning_rate", "slices_per_second"):
        recorded = [(figure.step, figure.value) for figure in client.get_metric_history(run_id, name)]
        assert recorded == [(row["epoch"], row[name]) for row in history]


def test_final_metrics_come_with_their_intervals(uri, trained, folder):
    run_id = track(uri, trained, folder)
    run, accuracy = client_of(uri).get_run(run_id), trained.metrics().metrics["accuracy"]
    bounds = [run.data.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
    assert bounds == [accuracy.value, accuracy.low, accuracy.high]
    assert run.data.tags["leaky"] == "false"
    said = run.data.tags["mlflow.note.content"]
    assert (
        f"Accuracy {100 * accuracy.value:.1f} % (interval not reliable here) on the test part" in said
    )  # of few subjects
    (output,) = run.outputs.model_outputs
    model = client_of(uri).get_logged_model(output.model_id)
    assert model.status.value == "READY"
    assert {figure.key: figure.value for figure in model.metrics} == final_metrics(trained.metrics())


def test_what_does_not_exist_is_left_out_and_names_fit_mlflow():
    none = Estimate(math.nan, math.nan, math.nan)
    recall = ClassMetrics(
        n_slices=3, n_subjects=None, precision=none, recall=Estimate(1.0, 0.5, 1.0), f1=none, auroc=none
    )
    found = metrics(TESTED, training=training(epochs=2)).model_copy(
        update={
            "n_slices": 8,
            "n_subjects": None,
            "metrics": {"accuracy": Estimate(0.5, math.nan, math.nan), "auroc": none},
            "classes": {"../(very) mild": recall},
        }
    )
    assert final_metrics(found) == {
        "accuracy": 0.5,
        "per_class/recall___very_ mild": 1.0,
        "per_class/recall___very_ mild_low": 0.5,
        "per_class/recall___very_ mild_high": 1.0,
        **{f"training_{name}": float(value) for name, value in training(epochs=2)},
        "n_slices": 8.0,
    }


def test_files_hold_no_slice_no_pickle_and_no_place_of_this_machine(uri, trained, folder, tmp_path):
    files = files_of(uri, track(uri, trained, folder), tmp_path / "files")
    names = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
    assert {f"figures/{name}.png" for name in ("training", "confusion", "roc")} <= names
    assert not [
        name for name in names if "slices" in name or name.endswith((".parquet", ".ckpt", ".pt", ".pt2", ".pkl"))
    ]
    assert {name for name in names if name.endswith(".safetensors")} == {"model/artifacts/artifacts/model.safetensors"}
    table = json.loads((files / "confusion_matrix.json").read_text())
    assert table["slices"] == trained.metrics().confusion_matrix
    for name in names:
        content = (files / name).read_bytes()
        assert not content.startswith((b"PK", b"\x80")), f"{name} is a zip or a pickle"
        assert str(tmp_path).encode() not in content, name
        assert str(Path(mriscope.__file__).parent).encode() not in content, name


def test_the_model_loads_back_without_a_pickle_and_answers_as_the_run_did(uri, trained, folder, tmp_path, monkeypatch):
    files = files_of(uri, track(uri, trained, folder), tmp_path / "files")
    check_model(files / "model" / "artifacts", trained, monkeypatch)


# How a run begins, goes on and ends


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError("no"), "FAILED"),
        (InterruptedTrainingError("asked to", signal.SIGTERM), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
    ids=["end", "error", "asked to stop", "Ctrl-C"],
)
def test_a_run_ends_as_it_went(uri, folder, error, status):
    def go() -> None:
        with open_small(uri, folder):
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            go()
    else:
        go()
    (run,) = all_runs(uri)
    assert run.info.status == status


def test_a_resumed_run_goes_on_as_the_same_and_gets_the_epochs_it_missed(uri, folder):
    with open_small(uri, folder) as first:
        first.epoch(epoch(1))
    behind = [epoch(1), epoch(2)]  # the second was trained and not recorded any more
    with open_small(uri, folder, history=behind) as second:
        assert client_of(uri).get_run(second.run_id).info.status == "RUNNING"
        second.epoch(epoch(3))
    assert second.run_id == first.run_id
    (run,) = all_runs(uri)
    assert run.info.status == "FINISHED"
    steps = [figure.step for figure in client_of(uri).get_metric_history(run.info.run_id, "train_loss")]
    assert steps == [1, 2, 3]


def test_a_run_that_begins_anew_or_is_not_known_is_another(uri, folder):
    def run_id() -> str | None:
        with open_small(uri, folder) as tracker:
            return tracker.run_id

    first = run_id()
    (folder / "tracking.json").unlink()  # as --fresh does
    second = run_id()
    client_of(uri).delete_run(second)
    third = run_id()
    (folder / "tracking.json").write_text('{"run_id": "11111111111111111111111111111111"}')
    fourth = run_id()
    (folder / "tracking.json").write_text("[" * 100_000)
    fifth = run_id()
    (folder / "tracking.json").unlink()
    os.mkfifo(folder / "tracking.json")  # which is not waited for
    assert len({first, second, third, fourth, fifth, run_id()}) == 6


def test_a_training_that_is_stopped_and_resumed_is_one_run_and_a_fresh_one_is_another(uri, tmp_path, monkeypatch):
    recorded = Tracker.epoch

    def stop_after_it(tracker: Tracker, figures: dict[str, float]) -> None:
        recorded(tracker, figures)
        signal.raise_signal(signal.SIGTERM)

    def train(**more: Any) -> None:
        mriscope.run(make_recipe(SETTINGS), tmp_path / "small", track=uri, silent=True, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "epoch", stop_after_it)
        with pytest.raises(InterruptedTrainingError):
            train()
    (stopped,) = all_runs(uri)
    assert (stopped.info.status, "accuracy" in stopped.data.metrics) == ("KILLED", False)
    train()
    (ended,) = all_runs(uri)
    assert (ended.info.run_id, ended.info.status) == (stopped.info.run_id, "FINISHED")
    assert ended.data.metrics["accuracy"] == RunDirectory(tmp_path / "small").metrics().metrics["accuracy"].value
    assert [one.step for one in client_of(uri).get_metric_history(ended.info.run_id, "train_loss")] == [1, 2]
    train(fresh=True)
    assert len(all_runs(uri)) == 2


def test_more_figures_and_settings_than_one_call_may_hold_are_all_recorded(uri, folder):
    options = {f"option_{number}": "x" * 7000 for number in range(120)}
    recipe = make_recipe({**SETTINGS, "model_options": options})
    history = [epoch(number) for number in range(1, 700)]
    with open_tracker(uri, folder, recipe, MACHINE, history) as tracker:
        client = client_of(uri)
        assert client.get_run(tracker.run_id).data.params["model_options.option_119"] == "x" * 6000
        assert len(client.get_metric_history(tracker.run_id, "learning_rate")) == 699


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("localhost:5000", "is no place to track runs in; write a server as http://localhost:5000"),
        ("mlruns", "is no place to track runs in"),
        ("file:///runs", "is no place to track runs in"),
        ("sqlite:///:memory:", "is no place to track runs in"),
        ("ftp://nowhere/runs", "nothing can be tracked in ftp://nowhere/runs"),
        ("postgresql://me:secret@127.0.0.1:1/db", "nothing can be tracked in postgresql://127.0.0.1:1/db"),
        ("http://me:secret@127.0.0.1:1", r"127.0.0.1:1 \(Connection refused\); .* with --track none"),
    ],
)
def test_a_wrong_place_is_one_sentence_at_the_start(folder, wrong, sentence):
    with pytest.raises(MriscopeError, match=sentence) as caught:
        open_small(wrong, folder)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "tracking.json").exists()


def test_a_file_that_is_no_database_is_one_sentence_at_once(folder, tmp_path):
    (tmp_path / "thesis.db").write_text("years of work" * 100)
    with pytest.raises(MriscopeError, match=r"thesis\.db \(file is not a database\)"):
        open_small(f"sqlite:///{tmp_path / 'thesis.db'}", folder)
    with pytest.raises(MriscopeError, match=r"\(unable to open database file\)"):
        open_small(f"sqlite:///{tmp_path}", folder)


def test_a_database_of_something_else_gets_no_tables(folder, tmp_path):
    with closing(sqlite3.connect(tmp_path / "thesis.db")) as database:
        database.execute("CREATE TABLE patients (name TEXT)")
    with pytest.raises(
        MriscopeError, match=r"thesis\.db is a database of something else \(it has the table patients\)"
    ):
        open_small(f"sqlite:///{tmp_path / 'thesis.db'}", folder)
    with closing(sqlite3.connect(tmp_path / "thesis.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("patients",)]


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "a?b", "a%25b#c"])
def test_a_store_may_lie_in_a_folder_of_any_name(folder, tmp_path, empty_database, name):
    place = tmp_path / name
    place.mkdir()
    shutil.copyfile(empty_database, place / "mlflow.db")
    with open_small(f"sqlite:///{place}/mlflow.db", folder) as tracker:
        tracker.epoch(epoch(1))
    client = client_of(f"sqlite:///{place}/mlflow.db")
    assert client.get_run(tracker.run_id).data.metrics["train_loss"] == epoch(1)["train_loss"]
    (tmp_path / "note.txt").write_text("kept")
    client.log_artifact(tracker.run_id, str(tmp_path / "note.txt"))
    assert len(list((place / "artifacts").rglob("note.txt"))) == 1
    assert {one.name for one in tmp_path.iterdir()} >= {name}
    assert not (tmp_path / name.partition("?")[0]).is_file()


def test_a_deleted_experiment_may_be_restored(uri, folder):
    client, experiment = connect(store_of(uri), "deleted")
    client.delete_experiment(experiment)
    with pytest.raises(MriscopeError, match=rf"was deleted; restore it with `mlflow .+ --experiment-id {experiment}`"):
        open_tracker(uri, folder, make_recipe(SETTINGS), MACHINE, experiment="deleted")
    client.restore_experiment(experiment)
    with open_tracker(uri, folder, make_recipe(SETTINGS), MACHINE, experiment="deleted") as tracker:
        assert tracker.run_id


@pytest.mark.parametrize(("status", "reason"), [(404, "error code 404"), (200, "not in a valid JSON format")])
def test_a_server_of_something_else_is_one_sentence(folder, status, reason):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>a page</html>")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            with pytest.raises(MriscopeError, match=reason) as caught:
                open_small(f"http://127.0.0.1:{other.server_port}", folder)
        finally:
            other.shutdown()
            thread.join()
    assert "html" not in str(caught.value)


def test_none_tracks_nothing(folder):
    with open_small("none", folder) as tracker:
        tracker.epoch(epoch(1))
        tracker.finish(folder, metrics(TESTED))
    assert tracker.run_id is None
    assert not list(folder.iterdir())


# Several at once


def test_runs_of_several_threads_do_not_mix(uri, trained, tmp_path):
    def go(number: int) -> str:
        return track(uri, trained, tmp_path / f"run{number}")

    filters = list(warnings.filters)
    with ThreadPoolExecutor(3) as pool:
        ids = list(pool.map(go, range(3)))
    assert warnings.filters == filters
    runs = {run.info.run_id: run for run in all_runs(uri)}
    assert [runs[run_id].info.run_name for run_id in ids] == ["run0", "run1", "run2"]
    assert [len(client_of(uri).get_metric_history(run_id, "train_loss")) for run_id in ids] == [2, 2, 2]
    assert len({runs[run_id].outputs.model_outputs[0].model_id for run_id in ids}) == 3


PROCESS = """
import os, sys
from pathlib import Path
from mriscope.recipe import make_recipe
from mriscope.results import Environment
from mriscope.tracking.store import ALWAYS
from mriscope.tracking.tracker import open_tracker

reached = []
sys.addaudithook(lambda event, words: reached.append(words[1]) if event == "socket.connect" else None)
assert "mlflow" not in sys.modules
os.environ.update(ALWAYS)
import mlflow  # all begin at the same moment, not when their imports happen to be done
print("ready", flush=True)
sys.stdin.readline()
recipe, environment = make_recipe({"model": "baseline_cnn"}), Environment.from_json(sys.argv[2])
with open_tracker("sqlite:///mlruns/mlflow.db", Path(sys.argv[1]), recipe, environment) as tracker:
    for number in (1, 2):
        tracker.epoch({"epoch": number, "train_loss": 1 / number})
assert not reached, reached
print(tracker.run_id)
"""


def compiling() -> dict[str, str]:
    """The environment of a process that may keep what it compiles: MLflow takes seconds more without."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def read_line(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_four_processes_may_begin_at_once_where_there_is_no_database(tmp_path):
    started = []
    for number in range(4):
        (tmp_path / f"run{number}").mkdir()
        command = [sys.executable, "-c", PROCESS, f"run{number}", MACHINE.to_json()]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, env=compiling(), stdin=pipe, stdout=pipe, stderr=pipe))
    assert [read_line(process) for process in started] == ["ready"] * 4
    for process in started:
        process.stdin.write(b"\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    assert [stderr for _, stderr in said] == [b""] * 4
    assert {file.name for file in tmp_path.iterdir()} == {"mlruns", "run0", "run1", "run2", "run3"}
    runs = all_runs(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert {run.info.run_id for run in runs} == {stdout.decode().strip() for stdout, _ in said}
    assert [(run.info.status, run.data.metrics["train_loss"]) for run in runs] == [("FINISHED", 0.5)] * 4


# A real server


@dataclass
class Server:
    uri: str
    process: "subprocess.Popen[str]"

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(folder: Path) -> Server:
    port = free_port()
    words = f"--backend-store-uri sqlite:///{folder}/mlflow.db --artifacts-destination {folder}/artifacts"
    command = [sys.executable, *f"-m mlflow server --host 127.0.0.1 --port {port} --workers 1 {words}".split()]
    variables = {**compiling(), **store.ALWAYS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, text=True, start_new_session=True)
        page._wait_until_up(process, port, log)
    return Server(f"http://127.0.0.1:{port}", process)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Callable[[], Server]]:
    """The server of these tests, begun anew where one of them has killed it."""
    running: list[Server] = []

    def get() -> Server:
        if not running or running[-1].process.poll() is not None:
            folder = tmp_path_factory.mktemp("server")
            shutil.copy(empty_database, folder / "mlflow.db")
            running.append(start_server(folder))
        return running[-1]

    yield get
    for server in running:
        if server.process.poll() is None:
            server.signal(signal.SIGKILL)
            server.process.wait()


@pytest.fixture
def server(servers: Callable[[], Server]) -> Server:
    return servers()


@contextmanager
def silent_server() -> Iterator[tuple[str, list[Any]]]:
    """A socket that takes connections and never answers: its address, and the connections it got."""
    taken: list[Any] = []

    def take(listener: socket.socket) -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=take, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


def test_a_server_is_told_everything_and_gives_the_model_back(server, trained, folder, tmp_path, monkeypatch, capfd):
    capfd.readouterr()
    run_id = track(server.uri, trained, folder)
    assert capfd.readouterr() == ("", "")
    run = client_of(server.uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert final_metrics(trained.metrics()).items() <= run.data.metrics.items()
    files = files_of(server.uri, run_id, tmp_path / "files")
    assert (files / "figures" / "confusion.png").read_bytes() == (
        trained.path / "figures" / "confusion.png"
    ).read_bytes()
    check_model(files / "model" / "artifacts", trained, monkeypatch)


REGISTER = """
import json, sys
import mlflow, numpy as np
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "model")
version = mlflow.register_model(f"runs:/{run.info.run_id}/model", "brain-slices")
model = mlflow.pyfunc.load_model(f"models:/brain-slices/{version.version}")
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]))["probabilities"])
assert not {"mriscope", "torch"} & set(sys.modules)
print(json.dumps(model.metadata.metadata["class_names"]))
"""


def test_an_export_is_registered_with_a_server_and_answers_as_the_run(server, trained, tmp_path):
    export_run(trained.path, tmp_path / "exported", form="mlflow")
    slices = mriscope.read(SOURCE, size=32)
    np.save(tmp_path / "images.npy", slices.images)
    command = [
        sys.executable,
        "-c",
        REGISTER,
        *(str(tmp_path / name) for name in ("exported", "images.npy", "out.npy")),
    ]
    variables = {**os.environ, **store.ALWAYS, "MLFLOW_TRACKING_URI": server.uri}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == list(slices.class_names)
    expected = mriscope.load_model(trained.path, "cpu").compute(slices.images)[0]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_a_server_that_hangs_in_mid_run_costs_one_warning(server, folder, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with open_small(server.uri, folder) as tracker:
        server.signal(signal.SIGSTOP)
        try:
            tracker.epoch(epoch(1))
            tracker.epoch(epoch(2))
        finally:
            server.signal(signal.SIGCONT)
    assert [record.name for record in caplog.records] == ["mriscope"]
    assert "the run goes on untracked" in caplog.text
    with open_small(server.uri, folder, history=[epoch(1), epoch(2)]) as again:  # nothing is lost once it is back
        history = client_of(server.uri).get_metric_history(again.run_id, "train_loss")
    assert sorted({figure.step for figure in history}) == [1, 2]


def test_a_server_that_never_answers_is_asked_twice_at_most(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as (address, taken):
        with pytest.raises(MriscopeError, match=r"nothing can be tracked in .* \(timed out\)"):
            open_small(address, folder)
        assert 1 <= len(taken) <= 2


def test_a_server_that_dies_in_mid_run_costs_one_warning(server, trained, folder, caplog):
    shutil.copytree(trained.path, folder, dirs_exist_ok=True)
    history = trained.history()
    with open_tracker(server.uri, folder, trained.recipe, trained.environment) as tracker:
        tracker.epoch(history[0])
        server.signal(signal.SIGKILL)
        server.process.wait()
        tracker.epoch(history[1])
        tracker.finish(folder, trained.metrics(), history)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mriscope", logging.WARNING)
    # A kept connection is reset where the system has seen the server's end, and a new one refused.
    wanted = rf"tracking in {server.uri} failed \(Connection (refused|reset by peer)\); the run goes on untracked"
    assert re.fullmatch(wanted, record.getMessage())


def test_the_reason_of_an_error_is_the_innermost_one():
    reset = ConnectionResetError(104, "Connection reset by peer")
    assert root_cause(OSError("Connection aborted.", reset)) == "Connection reset by peer"
    assert root_cause(ValueError("no such run")) == "no such run"


def test_a_database_that_breaks_in_mid_run_costs_one_warning(uri, folder, caplog, tmp_path):
    with open_small(uri, folder) as tracker:
        (tmp_path / "mlruns" / "mlflow.db").write_text("garbage")
        tracker.epoch(epoch(1))
        tracker.epoch(epoch(2))
    assert len(caplog.records) == 1


# MLflow's page


def test_the_page_opens_on_this_machine_alone_and_ends_with_ctrl_c(uri, folder):
    with open_small(uri, folder):
        pass
    port = free_port()
    program = f"from mriscope.tracking.page import show_page; show_page({uri!r}, {port}, print)"
    with subprocess.Popen([sys.executable, "-uc", program], env=compiling(), stdout=subprocess.PIPE) as shown:
        address = read_line(shown)
        assert address == f"http://127.0.0.1:{port}/#/experiments/2/runs?workflowType=machine_learning"
        assert get(port, "/")[0] == 200
        assert b"small" in get(port, "/ajax-api/2.0/mlflow/runs/search", '{"experiment_ids": ["2"]}')[1]
        assert get(port, "/", host="evil.example")[0] == 403
        with pytest.raises(MriscopeError, match=rf"port {port} cannot be used \(Address already in use\)"):
            page.show_page(uri, port, print)
        shown.send_signal(signal.SIGINT)
        assert shown.wait(timeout=60) == 0
    with pytest.raises(ConnectionRefusedError):
        get(port, "/")


def get(port: int, path: str, content: str | None = None, host: str = "127.0.0.1") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        headers = {"Host": host, "Content-Type": "application/json"}
        connection.request("POST" if content else "GET", path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_page_says_what_it_lacks(uri, tmp_path, monkeypatch):
    with pytest.raises(MriscopeError, match="has a page of its own; open that address"):
        page.show_page("http://me:secret@server:5000", 5000, print)
    with pytest.raises(MriscopeError, match="no runs are tracked in"):
        page.show_page(f"sqlite:///{tmp_path}/other.db", 5000, print)
    monkeypatch.setitem(sys.modules, "flask", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mriscope\[ui\]'"):
        page.show_page(uri, 5000, print)


def test_a_page_that_does_not_come_up_says_why(uri, tmp_path, monkeypatch):
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho one >&2\necho 'no memory left' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(page.sys, "executable", str(failing))
    with pytest.raises(MriscopeError, match="MLflow's server did not start: no memory left"):
        page.show_page(uri, free_port(), print)


# Small parts


def test_a_password_is_never_shown():
    assert redact("http://me:secret@server:5000 and http://other") == "http://server:5000 and http://other"
    assert root_cause(RuntimeError("at http://me:secret@server\n  now")) == "at http://server now"


def test_nothing_of_mlflow_is_imported_before_it_is_needed():
    program = "import sys, mriscope.tracking.tracker, mriscope.tracking.page; assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_callers_loggers_and_warnings_come_back_as_they_were(uri, folder):
    logging.getLogger("urllib3").setLevel(logging.INFO)
    try:
        with open_small(uri, folder):
            assert logging.getLogger("urllib3").level == logging.INFO
    finally:
        logging.getLogger("urllib3").setLevel(logging.NOTSET)
