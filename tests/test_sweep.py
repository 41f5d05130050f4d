"""The same tasks by every executor: retried, reported, stopped, and equal to the last byte."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sweep_tasks

from mriscope import sweep
from mriscope.errors import ArgumentError, RunError
from mriscope.evaluation import crossvalidation
from mriscope.recipe import make_recipe
from mriscope.run_directory import PREDICTIONS, RECIPE, WEIGHTS
from mriscope.sweep import Executor, choose_executor, count_idle_cores, parse_executor, threads_per_task
from mriscope.workflows.compare import compare_recipes
from mriscope.workflows.crossval import MARKDOWN, crossvalidate

HERE = Path(__file__).parent
KILLS = int(os.environ.get("MRISCOPE_KILLS", "1"))


def run(executor: str, folder: Path) -> dict[str, sweep.Outcome]:
    items = sweep_tasks.items(folder)
    if executor == "serial":  # where a kill would be that of the tests
        items = {name: item for name, item in items.items() if "killed" not in name}
    return dict(sweep.sweep(sweep_tasks.act, items, parse_executor(executor), doing="trying"))


def check(found: dict[str, sweep.Outcome], folder: Path, threads: int) -> None:
    """Check what is known of every task by whatever executor."""
    assert found["computes"].value == (0, threads)
    assert found["fails once"].value == (9, threads)
    assert found["always fails"].problem == "ValueError: out of luck"
    problem = found["is a mistake"].problem
    assert problem is not None
    assert "row 0 (a.png): is empty" in problem
    tries = sweep_tasks.attempts(folder)
    assert (tries["computes"], tries["fails once"], tries["always fails"], tries["is a mistake"]) == (1, 2, 3, 1)
    if "is killed once" in found:
        assert found["is killed once"].value == (1, threads)
        assert found["is always killed"].value is None
        assert "worker was" in str(found["is always killed"].problem)
        assert (tries["is killed once"], tries["is always killed"]) == (2, 3)


@pytest.mark.parametrize("executor", ["serial", "processes:2"])
def test_what_fails_is_tried_three_times_and_reported_and_the_rest_goes_on(executor, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    check(run(executor, tmp_path), tmp_path, threads=1)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sweep._has_gpu(), reason="torch is asked about a GPU")
def test_the_process_that_waits_for_its_workers_imports_no_torch():
    program = (
        "import sys, mriscope.workflows.compare, mriscope.workflows.crossval\n"
        "from mriscope.sweep import choose_executor\n"
        "choose_executor('auto', 5)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_workers_times_threads_fit_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweep, "count_cores", lambda: 8)
    assert [threads_per_task(tasks) for tasks in (1, 2, 3, 5, 8, 100)] == [8, 4, 2, 1, 1, 1]
    for tasks in (1, 2, 3, 5, 8, 100):
        for asked in (None, 1, 3, 1000):
            workers = sweep._open_workers(Executor("processes", asked), tasks, threads_per_task(tasks))
            assert 1 <= workers.size * threads_per_task(tasks) <= 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_per_task(100) == 3
    assert sweep._open_workers(Executor("processes"), 100, 3).size == 2
    assert choose_executor("auto", 100, "cpu").kind == "processes"
    assert choose_executor("auto", 1, "cpu").kind == "serial"
    monkeypatch.setattr(sweep, "_has_gpu", lambda: True)
    assert choose_executor("auto", 100).kind == "serial"
    assert choose_executor("processes", 100).kind == "processes"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "threads",
        "processes:",
        "processes:0",
        "processes:x",
        "processes:" + "9" * 5000,
        "serial:2",
        "ray:",
        "auto:1",
    ],
)
def test_other_executors_are_refused(text):
    with pytest.raises(ArgumentError, match=r"there is no executor '.*'; write auto"):
        parse_executor(text)


WAITING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
if __name__ == "__main__":
    import sweep_tasks
    from mriscope import sweep
    sweep.count_cores = lambda: 2
    items = {str(number): Path(sys.argv[1]) for number in range(3)}
    for _ in sweep.sweep(sweep_tasks.wait, items, sweep.parse_executor("processes:2"), doing="waiting"):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_the_program_ends_so_do_its_workers(number, tmp_path):
    (tmp_path / "program.py").write_text(WAITING)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), str(HERE)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while len(workers := [*tmp_path.glob("worker-*")]) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(workers) == 2
    process.send_signal(number)
    process.wait(60)
    until = time.monotonic() + 30
    pids = [int(one.name.partition("-")[2]) for one in workers]
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


SMALL = {
    "model": "keras_like",
    "data": "phantom:subjects=24,slices=2,seed=1",
    "input": {"size": 32},
    "split": {"validation": 0.2},
    "training": {"epochs": 1, "batch_size": 16},
}


RESULTS_OF_A_FOLD = (WEIGHTS, PREDICTIONS, "split.json", "inference.json")


def test_folds_are_equal_to_the_last_byte_by_a_pool_whose_workers_are_killed(tmp_path, monkeypatch):
    """The first worker is killed as the last fold begins; the soak kills others at random moments besides."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sweep, "count_cores", lambda: 2)
    monkeypatch.setattr(crossvalidation, "RESAMPLES", 80)
    recipe, place, draw = make_recipe(SMALL), tmp_path / "pool", random.Random(0)
    crossvalidate(recipe, tmp_path / "serial", folds=2, executor="serial", silent=True, device="cpu")
    kills, failed = 0, []

    def train() -> None:
        try:
            crossvalidate(recipe, place, folds=2, executor="processes:2", device="cpu", fresh=kills > 0)
        except RunError as error:  # a fold whose worker was killed three times
            failed.append(error)

    while kills < KILLS:
        thread = threading.Thread(target=train)
        thread.start()
        while not (place / "repeat0-fold1" / RECIPE).exists() and thread.is_alive():
            time.sleep(0.01)
        while kills < KILLS and thread.is_alive():
            children = multiprocessing.active_children()
            if children:
                one = draw.choice(children)
                one.kill()
                one.join()
                kills += one.exitcode == -signal.SIGKILL
            time.sleep(draw.uniform(0, 8))
        thread.join()
    assert all("its worker was killed" in str(error) for error in failed)
    crossvalidate(recipe, place, folds=2, executor="processes:2", device="cpu")
    check_same_folds(place, tmp_path / "serial")


def check_same_folds(place: Path, expected: Path) -> None:
    """Check that two cross-validations of two folds have the same weights, predictions and pooled table."""
    of_folds = [f"repeat0-fold{fold}/{name}" for fold in range(2) for name in RESULTS_OF_A_FOLD]
    for name in (*of_folds, PREDICTIONS, MARKDOWN):
        assert (place / name).read_bytes() == (expected / name).read_bytes(), name


def test_recipes_are_compared_by_a_pool_and_one_that_fails_is_left_out(tmp_path, monkeypatch):
    import json

    monkeypatch.setattr(sweep, "count_cores", lambda: 2)
    for name, changes in (
        ("a", {}),
        ("b", {"training": {"epochs": 2, "batch_size": 16}}),
        ("c", {"training": {"optimizer": "Nothing"}}),
    ):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({**SMALL, **changes}))
    out, runs = tmp_path / "out", tmp_path / "runs"
    compared = compare_recipes([f"{tmp_path}/*.yaml"], out, folder=runs, executor="processes", device="cpu")
    assert [one.name for one in sorted(compared.standings, key=lambda one: one.name)] == ["a", "b"]
    assert list(compared.failures) == ["c"]
    assert "Nothing" in compared.failures["c"]


@pytest.mark.parametrize(("running", "idle"), [(1, 4), (3, 2), (9, 1)])
def test_idle_cores_are_those_that_no_other_process_runs_on(monkeypatch: pytest.MonkeyPatch, running: int, idle: int):
    monkeypatch.setattr("mriscope.sweep.count_cores", lambda: 4)
    monkeypatch.setattr("mriscope.sweep.Path.read_text", lambda *_, **__: f"0.10 0.20 0.30 {running}/300 4242\n")
    assert count_idle_cores(samples=3) == idle
