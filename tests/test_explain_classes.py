"""The public classes of mriscope.explain: real classes, each one method, with examples that run."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from explain_networks import CAM_METHODS, small_net, some_images

import mriscope.explain
from mriscope.explain import CAM, GradCAM, LayerCAM

CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "elementwise": "ElementwiseGradCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
    "finercam": "FinerCAM",
    "fullgrad": "FullGrad",
}


def test_every_method_has_a_class():
    assert set(CLASSES) == set(CAM_METHODS)


@pytest.mark.parametrize("method", CLASSES)
def test_a_class_is_one_method(method: str):
    kind, model, images = getattr(mriscope.explain, CLASSES[method]), small_net(), some_images(2)
    cam = kind(model, "features.4")
    assert isinstance(cam, kind)
    assert isinstance(cam, CAM)
    assert cam.method == method
    torch.testing.assert_close(cam(images, 1), CAM(model, "features.4", method=method)(images, 1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'method'"):
        kind(model, method=method)


@pytest.mark.parametrize("name", CLASSES.values())
def test_a_class_names_its_paper_and_has_an_example(name: str):
    text = getattr(mriscope.explain, name).__doc__
    assert "http" in text or "AAAI" in text
    assert f">>> cam = {name}(" in text


def test_one_method_is_no_instance_of_another():
    assert not isinstance(LayerCAM(small_net()), GradCAM)
    assert isinstance(CAM(small_net(), method="layercam"), CAM)


def test_the_examples_of_the_page_run():
    page = Path(__file__).parent.parent / "docs" / "explain.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"model": small_net(), "images": some_images(2)}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2
    assert names["maps"].shape == (2, 20, 20)


@pytest.mark.parametrize("module", ["cam", "maps", "model_state", "overlays"])
def test_the_examples_run(module: str):
    outcome = doctest.testmod(importlib.import_module(f"mriscope.explain.{module}"))
    assert outcome.attempted > 1
    assert outcome.failed == 0
