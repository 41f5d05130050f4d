"""Mistakes that need neither torch nor data to be answered do not wait for them."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim import Optimizer

from mriscope.cli.quiet import _without_notes
from mriscope.models.names import ESTIMATORS, OPTIONS, SUMMARIES
from mriscope.models.registry import list_estimators, list_models, makers
from mriscope.training.optimizer_names import OPTIMIZERS

RECIPE = "baseline_cnn"
GIVEN = ("classes", "size", "pretrained")
PROGRAM = """
import sys
from mriscope.cli import _run_app
code = _run_app(sys.argv[1:])
heavy = [name for name in ("torch", "timm", "matplotlib") if name in sys.modules]
print(code, *heavy)
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "nosuch"], "nosuch does not exist; expected a folder"),
        (["data", "info", "nosuch"], "nosuch does not exist; expected a folder"),
        (["split", "nosuch", "--out", "x"], "nosuch does not exist; expected a folder"),
        (["audit", "phantom", "--manifest", "nosuch.csv"], "nosuch.csv does not exist; name a CSV file"),
        (["audit", "phantom", "--manifest", "~nosuch/a.csv"], "~nosuch/a.csv does not exist; name a CSV file"),
        (["train", "nosuch.yaml"], "nosuch.yaml: cannot be read"),
        (["train", "baseline_cn"], "did you mean baseline_cnn"),
        (["crossval", "tissue_familys"], "did you mean tissue_families?"),
        (["compare", "--recipes", "resnet50"], "did you mean resnet50_20epochs or resnet50_10epochs?"),
        (["recipes", "nosuch"], "no recipe fits nosuch"),
        (["train", RECIPE, "--data", "nosuch"], "nosuch does not exist; expected a folder"),
        (
            ["train", RECIPE, "--set", "model=baseline_cn"],
            "there is no model 'baseline_cn'; did you mean baseline_cnn",
        ),
        (["crossval", RECIPE, "--set", "model=nosuch"], "there is no model 'nosuch'"),
        (["train", RECIPE, "--data", "phantom:subject=3"], "has no option 'subject'; did you mean subjects?"),
        (["train", RECIPE, "--data", "phantom"], "draw one with --set split.protocol=by_subject"),
        (["train", RECIPE, "--set", "model_options.width=3"], "baseline_cnn has no option 'width'"),
        (["train", RECIPE, "--set", "training.optimizer=Adan"], "there is no optimizer 'Adan'; did you mean"),
        (["audit", "phantom?plane=coronal"], "the phantom is made as slices, and plane is for volumes"),
        (["explain", "nosuch"], "nosuch is no run directory"),
        (["predict", "nosuch", "x.png"], "nosuch is no run directory"),
        (["evaluate", "nosuch"], "nosuch is no run directory"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_without_torch(tmp_path: Path, words: list[str], told: str):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "2\n", done.stderr
    assert told in done.stderr


def test_the_summaries_are_those_of_the_registered_models():
    assert list_models() == list(SUMMARIES)
    assert list_estimators() == list(ESTIMATORS)


def test_the_options_are_those_of_the_functions_that_make_the_models():
    list_models()  # which imports their modules
    made = {**makers(estimators=False), **makers(estimators=True)}
    found = {name: tuple(inspect.signature(maker).parameters) for name, maker in made.items()}
    found = {name: tuple(one for one in named if one not in GIVEN) for name, named in found.items()}
    assert {name: named for name, named in found.items() if named} == OPTIONS


@pytest.mark.parametrize("words", [["predict", "nosuch", "x.png"], ["explain", "nosuch"], ["evaluate", "nosuch"]])
def test_a_mistyped_run_is_answered_before_records_are_defined(tmp_path: Path, words: list[str]):
    program = PROGRAM.replace('"matplotlib"', '"matplotlib", "mriscope.results", "numpy", "yaml"')
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.split(), "nosuch is no run directory" in done.stderr) == (["2"], True)


def test_the_optimizers_are_those_of_torch_that_a_training_can_use():
    found = {name for name, one in vars(torch.optim).items() if inspect.isclass(one) and issubclass(one, Optimizer)}
    assert found - {"Optimizer", "LBFGS", "SparseAdam"} == set(OPTIMIZERS)


def test_models_are_listed_without_torch(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, "models"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_every_command_takes_quiet_which_leaves_results_and_errors(tmp_path: Path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = "from mriscope.cli import main; main()"
        return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=tmp_path)

    (tmp_path / "best_published").write_text("model: nosuch\n")
    loud, quiet = run("train", "best_published"), run("train", "best_published", "--quiet")
    assert loud.stderr.startswith("note: best_published is a file here, which is taken; the recipe")
    assert quiet.stderr.startswith("mriscope: there is no model 'nosuch'; choose one of")
    assert loud.stderr.endswith(quiet.stderr)
    assert (loud.returncode, quiet.returncode) == (2, 2)
    told = run("recipes", "published/best*", "--quiet")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[1].startswith("best_published")
    assert "--quiet" in run("data", "info", "--help").stdout


def test_quiet_holds_for_processes_that_a_command_starts(capfd: pytest.CaptureFixture[str]):
    speak = [sys.executable, "-c", "import sys; print('noise', file=sys.stderr)"]
    with _without_notes():
        subprocess.run(speak, check=True)
    assert capfd.readouterr().err == ""
    subprocess.run(speak, check=True)
    assert capfd.readouterr().err == "noise\n"
