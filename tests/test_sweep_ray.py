"""A real Ray on this machine: a killed worker, two nodes, whole folds, nothing that listens beyond the loopback."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sweep_tasks
from test_sweep import SMALL, check, check_same_folds

from mriscope.sweep import Outcome

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `cluster` is not installed"),
]

PROGRAM = """
import json, os, shlex, subprocess, sys
from dataclasses import asdict
from pathlib import Path
import sweep_tasks
from mriscope import cli, sweep
from mriscope.evaluation import crossvalidation
from mriscope.recipe import make_recipe
from mriscope.workflows.crossval import crossvalidate
SET = "phantom:subjects=24,slices=2,seed=1"
sweep.count_cores = lambda: 2
crossvalidation.RESAMPLES = 80

def run(executor, folder):
    folder.mkdir()
    os.chdir(folder)
    items = sweep_tasks.items(Path())
    found = {}
    for name, outcome in sweep.sweep(sweep_tasks.act, items, sweep.parse_executor(executor), doing="trying"):
        found[name] = asdict(outcome)
        if len(found) == 1:
            ports = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout
    found["ports"] = ports
    return found

def cross_validate(executor, folder):
    crossvalidate(make_recipe(json.loads(sys.argv[2])), folder, folds=2, executor=executor, silent=True, device="cpu")

def command(line, folder, **words):  # of the how-to page
    folder.mkdir()
    os.chdir(folder)
    for word, other in words.items():
        assert word in line, line
        line = line.replace(word, other)
    return cli._run_app(shlex.split(line)[1:])

def main(folder):
    here, elsewhere = json.loads(sys.argv[3])
    told = {"local": run("ray", folder / "local")}
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    told["nodes"] = len(cluster.list_all_nodes())
    told["two"] = run(f"ray:{cluster.address}", folder / "two")
    cross_validate(f"ray:{cluster.address}", folder / "folds" / "ray")
    for size in (32, 48):
        recipe = {"model": "nearest_neighbour", "data": SET, "input": {"size": size}}
        (folder / f"{size}.yaml").write_text(json.dumps(recipe))
    words = {"SET": SET, "honest/*": f"{folder}/*.yaml", "10.0.0.1:6379": cluster.address}
    told["compare"] = command(elsewhere, folder / "compare", **words)
    cluster.shutdown()
    words = {"SET": SET, "compact_cnn": "nearest_neighbour", "--folds 5": "--folds 2"}
    told["crossval"] = command(here, folder / "crossval", **words)
    cross_validate("serial", folder / "folds" / "serial")
    told["environment"] = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED")}
    (folder / "told.json").write_text(json.dumps(told))

if __name__ == "__main__":  # which the workers of the pool import again
    main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What a program of its own found out, as Ray takes over the process that it is started in."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_worker_niceness": "0"}
    page = (Path(__file__).parents[1] / "docs" / "howto" / "cluster.md").read_text(encoding="utf-8")
    lines = re.findall(r"^mriscope .* --executor ray.*$", page, re.MULTILINE)
    command = [sys.executable, str(folder / "program.py"), str(folder), json.dumps(SMALL), json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize("kind", ["local", "two"])
def test_a_worker_is_killed_and_the_rest_goes_on(told, kind):
    folder, found = told
    outcomes = {name: Outcome(**found[kind][name]) for name in sweep_tasks.ITEMS}
    outcomes = {name: Outcome(one.value and tuple(one.value), one.problem) for name, one in outcomes.items()}
    check(outcomes, folder / kind, threads=1)


def test_whole_folds_are_equal_to_the_last_byte_by_two_nodes(told):  # by a pool: test_sweep.py
    check_same_folds(told[0] / "folds" / "ray", told[0] / "folds" / "serial")


def test_the_commands_of_the_how_to_run_on_a_local_ray_and_on_a_cluster(told):
    folder, found = told
    assert (found["crossval"], found["compare"]) == (0, 0)
    assert len(list((folder / "crossval" / "runs").rglob("metrics.json"))) == 2
    assert (folder / "compare" / "comparison" / "compare.html").is_file()


def test_there_were_two_nodes_and_tokens(told):
    assert told[1]["nodes"] == 2
    assert told[1]["environment"] == {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}


def test_a_local_ray_listens_on_the_loopback_alone(told):
    ports = [
        line.split() for line in told[1]["local"]["ports"].splitlines() if "raylet" in line or "gcs_server" in line
    ]
    assert ports
    assert all("127.0.0.1" in line[3] for line in ports)
