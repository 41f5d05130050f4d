"""Mistakes that need neither torch nor data to be answered do not wait for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from mriscope.models.names import MODEL_NAMES
from mriscope.models.registry import list_estimators, makers

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "study" / "baseline_cnn.yaml"
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
        (["train", "nosuch.yaml"], "nosuch.yaml: cannot be read"),
        (["train", str(RECIPE), "--data", "nosuch"], "nosuch does not exist; expected a folder"),
        (
            ["train", str(RECIPE), "--set", "model=baseline_cn"],
            "there is no model 'baseline_cn'; did you mean baseline_cnn",
        ),
        (["crossval", str(RECIPE), "--set", "model=nosuch"], "there is no model 'nosuch'"),
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


def test_the_names_of_the_models_are_those_that_are_registered():
    list_estimators()  # imports every module of models
    assert sorted(MODEL_NAMES) == sorted({**makers(estimators=False), **makers(estimators=True)})
