"""Exports: the graph agrees with torch and is used without it; the card leaves nothing out."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

import mriscope
from mriscope.recipe import make_recipe
from mriscope.reports.model_card import SECTIONS, check_sections
from mriscope.results import Metrics, ModelDescription
from mriscope.tracking.store import ALWAYS
from mriscope.workflows import _export_graph
from mriscope.workflows._export_graph import check_graph
from mriscope.workflows.export import export_run
from mriscope.workflows.predict_onnx import compute_onnx, open_session, predict_onnx

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
        check_graph((exported / "model.onnx").read_bytes(), model, mriscope.read(DATA, size=SIZE).images)


def test_the_graph_is_compared_on_slices_of_the_test_part(run, tmp_path, monkeypatch):
    slices, asked = mriscope.read(DATA, size=SIZE), []
    compare = _export_graph.check_graph
    monkeypatch.setattr(_export_graph, "check_graph", lambda *given: asked.append(given[2]) or compare(*given))
    export_run(run.path, tmp_path / "a")
    row_of = {path: row for row, path in enumerate(slices.paths.tolist())}
    tested = slices.images[[row_of[path] for path in run.parts().test]]
    assert len(asked[0]) == 256
    np.testing.assert_array_equal(np.unique(asked[0][: len(tested)], axis=0), np.unique(tested, axis=0))
    told = f"of torch's on {len(tested)} slices of the test part and {256 - len(tested)} of synthetic brains."
    assert told in (tmp_path / "a" / "README.md").read_text()


def test_a_source_that_is_gone_is_said(run, tmp_path, monkeypatch, caplog):
    def read(_):
        raise mriscope.DataError("there is nothing at slices")

    monkeypatch.setattr("mriscope.workflows.export.load_own", read)
    export_run(run.path, tmp_path / "out")
    assert "compared with torch on synthetic brains alone" in caplog.text
    assert "of torch's on 256 slices of synthetic brains." in (tmp_path / "out" / "README.md").read_text()


def test_a_batch_of_one_agrees_with_64_and_with_the_run(run, exported):
    images = mriscope.read(DATA, size=SIZE).images[:64]
    session = open_session((exported / "model.onnx").read_bytes(), "model.onnx")
    together, _ = compute_onnx(session, images)
    alone = np.concatenate([compute_onnx(session, images[row : row + 1])[0] for row in range(64)])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)
    np.testing.assert_allclose(together, mriscope.load_model(run.path, "cpu").compute(images)[0], rtol=0, atol=1e-5)


def test_the_graph_gives_maps_where_the_head_is_linear(run, exported):
    """The gradient of a logit along the last maps is that of autograd; HiRes-CAM and Grad-CAM are products with it."""
    model, images = mriscope.load_model(run.path, "cpu"), mriscope.read(DATA, size=SIZE).images[5:7]
    pixels, kept = mriscope.scaled(torch.from_numpy(images.copy()), model.description.scale), []
    with model.network.get_submodule("features").register_forward_hook(lambda _m, _i, maps: kept.append(maps)):
        logits = model.network(pixels)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept)
    expected = {
        "hirescam": (gradient * kept[0]).sum(1),
        "gradcam": (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1),
    }
    session = open_session((exported / "model.onnx").read_bytes(), "model.onnx")
    for name, maps in zip(expected, session.run(list(expected), {"images": images}), strict=True):
        np.testing.assert_allclose(maps[:, 1], expected[name].detach().numpy(), atol=1e-5)


STRANGER = """
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
found = model.predict(np.load(sys.argv[2]))
example = model.predict(model.input_example)
assert not {"mriscope", "torch"} & set(sys.modules), "a stranger needs our code"
np.savez(sys.argv[3], example=example["probabilities"], **found)
print(json.dumps(model.metadata.metadata))
"""


def test_mlflow_loads_the_model_without_our_code_and_answers_as_torch(run, tmp_path):
    names = {path.name for path in export_run(run.path, tmp_path / "model", form="mlflow")}
    assert {"MLmodel", "model.onnx", "requirements.txt", "input_example.json", "model.json", "README.md"} <= names
    model, slices = mriscope.load_model(run.path, "cpu"), mriscope.read(DATA, size=SIZE)
    np.save(tmp_path / "images.npy", slices.images)
    command = [sys.executable, "-c", STRANGER, *(str(tmp_path / name) for name in ("model", "images.npy", "found.npz"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **ALWAYS})
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        probabilities, distances = model.compute(slices.images)
        np.testing.assert_allclose(found["probabilities"], probabilities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["distances"], distances, rtol=1e-3)
        assert found["example"].shape == (1, 4)
    about = json.loads(done.stdout)
    assert (about["class_names"], about["leaky"]) == (list(slices.class_names), False)
    needed = (tmp_path / "model" / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in needed} == {"mlflow", "numpy", "onnx", "onnxruntime"}
    described = (tmp_path / "model" / "MLmodel").read_text()
    assert str(tmp_path) not in described
    assert yaml.safe_load(described)["signature"]["inputs"] == (
        '[{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 32, 32]}}]'
    )


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
    assert f"{100 * accuracy.value:.1f} %" in card
    majority = metrics.baselines["majority_class"].metrics["accuracy"]
    assert f"| majority class | {100 * majority.value:.1f} %" in card
    assert all(f"| {one}" in card for one in ("brain fraction alone", "CSF fraction alone", "1-nearest-neighbour"))
    assert "`mriscope evaluate RUN --covariates FILE" in card
    assert "unseen in training" in card
    assert "nothing here is a diagnosis" in card


def test_what_is_left_beside_covariates_goes_into_the_card(run, tmp_path):
    known = [f"{subject},{60 + 3 * int(subject) % 20}" for subject in np.unique(mriscope.read(DATA).subjects)]
    (tmp_path / "known.csv").write_text("\n".join(["subject,age", *known]))
    mriscope.evaluate(run.path, covariates=tmp_path / "known.csv", out=tmp_path / "evaluated")
    export_run(run.path, tmp_path / "hub", form="safetensors", evaluation=tmp_path / "evaluated")
    card = (tmp_path / "hub" / "README.md").read_text().partition("## Confounds")[2].partition("## Answers")[0]
    (*_, found) = Metrics.read(tmp_path / "evaluated" / "metrics.json").confounding
    assert f"{found.contrast}, {found.n_positive} and {found.n_negative}" in card
    assert f"| adjusted for age | {found.adjusted[0].auroc.value:.3f} |" in card
    assert "| age alone |" in card


def test_an_evaluation_of_something_else_is_refused(run, tmp_path):
    with pytest.raises(mriscope.RunError, match="was evaluated without covariates"):
        export_run(run.path, tmp_path / "out", form="safetensors", evaluation=run.path)
    other = run.metrics().model_copy(update={"model": "baseline_cnn"})
    other.write(tmp_path / "metrics.json")
    with pytest.raises(mriscope.RunError, match="evaluates baseline_cnn and the run is of compact_cnn"):
        export_run(run.path, tmp_path / "out", form="safetensors", evaluation=tmp_path)


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
