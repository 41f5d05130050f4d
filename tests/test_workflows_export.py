"""Exports: the graph agrees with torch and is used without it; the card leaves nothing out."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import mriscope
from mriscope.recipe import make_recipe
from mriscope.reports.model_card import SECTIONS, baselines, check_sections
from mriscope.results import ModelDescription
from mriscope.workflows._export_graph import check_graph
from mriscope.workflows.export import export_run
from mriscope.workflows.predict_onnx import predict_onnx

SIZE = 32
DATA = "phantom:subjects=24,slices=3"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"model": "compact_cnn", "data": DATA, "input": {"size": SIZE}, "training": {"epochs": 1}}
    return mriscope.train(make_recipe(settings), tmp_path_factory.mktemp("runs") / "run", device="cpu", silent=True)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    assert {path.name for path in export_run(run.path, folder, licence="cc-by-4.0")} == {
        *("model.onnx", "model.json", "README.md")
    }
    return folder


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(mriscope.read(DATA, size=SIZE).images[4]).save(tmp_path / "slice.png")
    return tmp_path / "slice.png"


def test_the_graph_gives_the_answer_of_the_run(run, exported, picture):
    ours, theirs = mriscope.predict(run.path, [picture], device="cpu"), predict_onnx(exported, [picture])
    assert theirs.origin == ours.origin
    (one,), (other,) = ours.slices, theirs.slices
    np.testing.assert_allclose(list(other.probabilities.values()), list(one.probabilities.values()), atol=1e-5)
    assert other.distance == pytest.approx(one.distance, rel=1e-3)
    assert (other.class_name, other.prediction_set, other.out_of_distribution) == (
        *(one.class_name, one.prediction_set, one.out_of_distribution),
    )


def test_the_graph_is_used_without_torch(exported, picture):
    program = (
        "import json, sys; from mriscope.cli import _run_app\n"
        f"code = _run_app(['predict', {str(exported)!r}, {str(picture)!r}, '--onnx', '--json'])\n"
        "assert code == 0, code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slices"][0]["path"] == str(picture)


def test_a_graph_of_other_weights_is_refused(run, exported):
    model = mriscope.load_model(run.path, "cpu")
    with torch.no_grad():
        next(model.network.get_submodule("head").parameters()).add_(0.1 * torch.randn(4, 64))
    with pytest.raises(mriscope.RunError, match="the ONNX graph disagrees with torch"):
        check_graph((exported / "model.onnx").read_bytes(), model)


def test_weights_are_exported_as_they_are_with_a_recipe_without_folders(run, tmp_path):
    names = {path.name for path in export_run(run.path, tmp_path / "hub", form="safetensors")}
    assert names == {
        *("model.safetensors", "recipe.yaml", "inference.json", "reference.safetensors", "model.json", "README.md")
    }
    theirs, ours = (load_file(folder / "model.safetensors") for folder in (tmp_path / "hub", run.path))
    assert all(np.array_equal(theirs[name], ours[name]) for name in ours)
    description = ModelDescription.read(tmp_path / "hub" / "model.json")
    assert (description.size, description.origin.leaky) == (SIZE, False)


def test_the_card_holds_every_section_and_the_metrics_of_the_run(run, exported):
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == list(SECTIONS)
    metrics = run.metrics()
    accuracy = metrics.metrics["accuracy"]
    assert f"{accuracy.value:.3f}" in card
    assert f"{baselines(metrics)['accuracy']:.3f}" in card
    assert "unseen in training" in card
    assert "nothing here is a diagnosis" in card


def test_a_card_without_a_section_is_refused():
    whole: dict[str, str] = dict.fromkeys(SECTIONS, "text")
    check_sections(whole)
    with pytest.raises(mriscope.RunError, match="nothing to say of Leakage, Limits"):
        check_sections({**whole, "Leakage": " ", "Limits": ""})


def test_mistakes_are_told(run, exported, tmp_path, picture):
    with pytest.raises(mriscope.UnknownNameError, match="there is no format 'tflite'"):
        export_run(run.path, tmp_path, form="tflite")
    with pytest.raises(mriscope.RunError, match=r"holds no model\.onnx"):
        predict_onnx(tmp_path, [picture])
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    (tmp_path / "model.json").write_bytes((exported / "model.json").read_bytes())
    with pytest.raises(mriscope.RunError, match="is damaged or no ONNX graph"):
        predict_onnx(tmp_path, [picture])
    with pytest.raises(mriscope.RunError, match="is the run itself"):
        export_run(run.path, run.path)
