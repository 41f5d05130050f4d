"""mriscope.explain.maps: what is asked for together is what each asked alone would be, and blank maps say why."""

from typing import Any

import numpy as np
import pytest
import torch
from explain_networks import (
    CAM_METHODS,
    GRADIENT_METHODS,
    SmallNet,
    baseline,
    small_net,
    some_images,
    some_volumes,
)
from torch import Tensor, nn

import mriscope.explain
from mriscope.errors import MriscopeError, UnknownName
from mriscope.explain import CAM, METHODS, explain
from mriscope.explain.finishing import stretch

CLASSES = [2, 0, 3, 1, 2, 0]
EACH = [[2, 0, 1], [0, 3, 3], [3, 1, 0], [1, 1, 2], [2, 3, 0], [0, 1, 2]]


class Passes:
    """Counts the images that go forward through a model's first layer, and the passes back through its last one."""

    def __init__(self, model: SmallNet) -> None:
        self.forward: list[int] = []
        self.back = 0
        model.features[0].register_forward_pre_hook(self._forward)
        model.head[5].register_forward_hook(self._listen)

    def _forward(self, _module: nn.Module, inputs: Any) -> None:
        self.forward.append(len(inputs[0]))

    def _listen(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(self._back)

    def _back(self, _slopes: Tensor) -> None:
        self.back += 1


def assert_close(found: Tensor, wanted: Tensor, name: str) -> None:
    assert torch.allclose(found, wanted, atol=1e-5), (name, (found - wanted).abs().max())


# --- together or alone ---


def test_every_method_has_a_name_in_print_and_a_short_name():
    assert set(METHODS) >= set(CAM_METHODS)
    assert len(set(METHODS.values())) == len(METHODS)
    short = {
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
    assert tuple(sorted(short)) == tuple(sorted(CAM_METHODS))
    for method, name in short.items():
        assert getattr(mriscope.explain, name)(small_net()).method == method


def test_all_methods_together_are_each_alone():
    model, images = small_net(), some_images()
    together = explain(model, images, CAM_METHODS, CLASSES)
    assert list(together) == list(CAM_METHODS)
    for name, found in together.items():
        alone = CAM(model, method=name).explain(images, CLASSES)
        assert_close(found.maps, alone.maps, name)
        assert found.reasons == alone.reasons
        assert found.layers == alone.layers == (() if name == "fullgrad" else ("features.4",))
        assert found.classes.tolist() == CLASSES
        torch.testing.assert_close(found.logits, model(images).detach())


@pytest.mark.parametrize("normalise", [False, True])
def test_all_gradient_methods_share_one_pass_forward_and_one_back_for_each_score(normalise: bool):
    model, images = small_net(), some_images()
    passes = Passes(model)
    of_the_logit = [name for name in GRADIENT_METHODS if name != "finercam"]
    explain(model, images, of_the_logit, CLASSES, layer="features.4", normalise=normalise)
    assert passes.forward == [6]
    assert passes.back == 1
    explain(model, images, (*GRADIENT_METHODS, "eigencam"), CLASSES, layer="features.4", normalise=normalise)
    assert passes.forward == [6, 6]
    assert passes.back == 3  # Finer-CAM has a score of its own


def test_eigen_cam_alone_needs_no_gradients():
    model = small_net()
    passes = Passes(model)
    explain(model, some_images(), ["eigencam"], layer="features.4")
    assert (passes.forward, passes.back) == ([6], 0)


@pytest.mark.parametrize("settings", [{}, {"normalise": False}, {"eigen_smooth": True}, {"exponents": [1, 2, 3, 0.5]}])
def test_several_classes_of_an_image_are_as_separate_calls(settings: dict[str, Any]):
    model, images = small_net(), some_images()
    several = explain(model, images, CAM_METHODS, EACH, **settings)
    for column in range(3):
        single = explain(model, images, CAM_METHODS, [row[column] for row in EACH], **settings)
        for name, found in several.items():
            assert found.maps.shape == (6, 3, 20, 20)
            assert found.classes.tolist() == EACH
            assert_close(found.maps[:, column], single[name].maps, name)
            assert found.reasons[column::3] == single[name].reasons


def test_several_classes_of_an_image_share_one_pass_forward():
    model, images = small_net(), some_images()
    passes = Passes(model)
    explain(model, images, GRADIENT_METHODS, EACH, layer="features.4")
    assert passes.forward == [6]
    explain(model, images, GRADIENT_METHODS, EACH, layer="features.4", chunk=4)
    assert passes.forward == [6, 4, 2]


def test_classes_come_in_every_form():
    model, images = small_net(), some_images()
    wanted = CAM(model)(images, EACH)
    assert torch.equal(CAM(model)(images, np.array(EACH, np.int32)), wanted)
    assert torch.equal(CAM(model)(images, torch.tensor(EACH)), wanted)
    assert torch.equal(
        CAM(model)(images, [row[:1] for row in EACH])[:, 0], CAM(model)(images, [row[0] for row in EACH])
    )


@pytest.mark.parametrize("method", CAM_METHODS)
def test_no_images_give_no_maps(method: str):
    assert CAM(small_net(), method=method)(some_images(0)).shape == (0, 20, 20)
    assert CAM(small_net(), method=method)(some_volumes(0)).shape == (0, 9, 12, 10)


def test_a_layer_is_looked_for_once():
    model = small_net()
    cam, passes = CAM(model), Passes(model)
    cam(some_images())
    cam(some_images())
    assert passes.forward == [1, 6, 6]
    assert cam.layer == ("features.4",)


# --- smoothing and several layers ---


@pytest.mark.parametrize("method", ["gradcam", "eigengradcam", "fullgrad", "finercam"])
def test_flips_and_scales_are_smoothed_over_for_the_class_of_the_plain_image(method: str):
    model, images = small_net(), some_images()
    plain, predicted = CAM(model, method=method), model(images).argmax(1)
    variants = [plain(images * scale, predicted) for scale in (0.9, 1.0, 1.1)]
    variants += [plain(images.flip(-1) * scale, predicted).flip(-1) for scale in (0.9, 1.0, 1.1)]
    found = CAM(model, method=method, flip_smooth=True).explain(images)
    assert_close(found.maps, torch.stack(variants).mean(0), method)
    torch.testing.assert_close(found.logits, model(images).detach())


@pytest.mark.parametrize("fuse", ["mean", "max"])
@pytest.mark.parametrize("method", [name for name in CAM_METHODS if name != "fullgrad"])
def test_layers_are_fused(method: str, fuse: str):
    model, images, names = small_net(), some_images(), ["features.0", "features.4"]
    parts = [CAM(model, name, method=method)(images, CLASSES, normalise=False) for name in names]
    stacked = torch.stack(parts)
    raw = CAM(model, names, method=method, fuse=fuse)(images, CLASSES, normalise=False)
    assert_close(raw / raw.max(), (stacked.mean(0) if fuse == "mean" else stacked.amax(0)) / raw.max(), method)
    shown = CAM(model, names, method=method, fuse=fuse).explain(images, CLASSES)
    assert shown.layers == ("features.0", "features.4")
    assert shown.maps.amax() == 1


def test_layers_of_different_sizes_are_fused_at_the_images_size():
    model, images, names = baseline(), some_images(2, 1, 32), ["features.conv1", "features.pool1", "features.conv2"]
    raws = [CAM(model, name)(images, 1, normalise=False) for name in names]
    torch.testing.assert_close(CAM(model, names)(images, 1, normalise=False), torch.stack(raws).mean(0))


# --- a map that carries nothing says why ---


def even(head: float, first: float = 1.0) -> nn.Module:
    """A 1×1 convolution of one channel and the sum of its places, times a number."""
    convolution, last = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(16, 2, bias=False)
    with torch.no_grad():
        convolution.weight.fill_(first)
        last.weight.copy_(torch.tensor([head, 1.0])[:, None].expand(2, 16))
    return nn.Sequential(convolution, nn.Flatten(), last)


PLACES = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
SILENT, SATURATED = (
    "the layer is silent: all its activations are 0",
    "saturated: no gradient of the class reaches the layer",
)
NO_EVIDENCE, ALIKE = "no positive evidence for the class", "every place speaks for the class alike"
BY_PRODUCT = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise", "eigengradcam")


@pytest.mark.parametrize("method", [*BY_PRODUCT, "eigencam", "ablationcam", "scorecam", "finercam"])
def test_a_silent_layer(method: str):
    found = CAM(even(1.0, first=0.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (SILENT,))


@pytest.mark.parametrize("method", BY_PRODUCT)
def test_a_saturated_class(method: str):
    found = CAM(even(0.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (SATURATED,))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise"])
def test_no_positive_evidence(method: str):
    found = CAM(even(-1.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (NO_EVIDENCE,))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise"])
def test_a_map_without_contrast(method: str):
    found = CAM(even(1.0), method=method).explain(torch.ones(1, 1, 4, 4), 0)
    assert (found.maps.max(), found.reasons) == (0, (ALIKE,))
    raw = CAM(even(1.0), method=method)(torch.ones(1, 1, 4, 4), 0, normalise=False)
    assert raw.min() == raw.max()
    assert raw.min() > 0


def test_no_pixel_that_speaks():
    found = CAM(even(0.0), method="fullgrad").explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, ("no pixel speaks for the class",))


def test_reasons_are_given_image_by_image_and_class_by_class():
    images = torch.cat([PLACES, 0 * PLACES, torch.ones(1, 1, 4, 4)])
    found = explain(even(-1.0), images, ["gradcam"], [[0, 1]] * 3)["gradcam"]
    assert found.reasons == (NO_EVIDENCE, None, SILENT, SILENT, NO_EVIDENCE, ALIKE)
    assert [float(shown.max()) for shown in found.maps.flatten(0, 1)] == [0, 1, 0, 0, 0, 0]
    assert found.maps.isfinite().all()


def test_a_map_between_bounds_is_stretched_whatever_its_size():
    maps = torch.tensor([[[1e-30, 3e-30]], [[2.0, 2.0]], [[1e30, 2e30]], [[0.0, 0.0]]])
    assert stretch(maps).tolist() == [[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]


# --- what cannot be asked ---


@pytest.mark.parametrize("methods", ["gradcam", [], ()])
def test_methods_are_a_list_of_names(methods: Any):
    with pytest.raises(MriscopeError, match="give a list of names: gradcam, "):
        explain(small_net(), some_images(), methods)


def test_an_unknown_method_or_fusion_is_refused():
    with pytest.raises(UnknownName, match="did you mean gradcam"):
        explain(small_net(), some_images(), ["grad-cam"])
    with pytest.raises(UnknownName, match="no method 'scorcam'"):
        CAM(small_net(), method="scorcam")
    with pytest.raises(UnknownName, match="no fusion 'sum'"):
        CAM(small_net(), fuse="sum")(some_images())


@pytest.mark.parametrize("method", CAM_METHODS)
def test_values_that_are_not_finite_are_not_passed_on(method: str):
    images = some_images()
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(MriscopeError, match="not finite"):
        CAM(small_net(), method=method)(images, 1)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_class_the_model_lacks_is_refused(method: str):
    with pytest.raises(MriscopeError, match="class 4 cannot be explained: the model has 4 classes"):
        CAM(small_net(), method=method)(some_images(), [0, 1, 2, 3, 4, 0])
