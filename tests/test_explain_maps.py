"""mriscope.explain.maps: what is asked for together is what each asked alone would be, and blank maps say why."""

from collections.abc import Callable
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

from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import MriscopeError, UnknownNameError
from mriscope.explain import CAM, METHODS, GradCAM, explain
from mriscope.explain.postprocess import CONSTANT, STUDY_EXPONENTS, stretch, study_exponents

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

    def _back(self, _gradients: Tensor) -> None:
        self.back += 1


def assert_close(found: Tensor, wanted: Tensor, name: str) -> None:
    assert torch.allclose(found, wanted, atol=1e-5), (name, (found - wanted).abs().max())


# --- together or alone ---


def test_every_method_has_a_name_in_print():
    assert set(METHODS) >= set(CAM_METHODS)
    assert len(set(METHODS.values())) == len(METHODS)


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


# --- an empty map says why ---


def constant_head(head: float, first: float = 1.0) -> nn.Module:
    """A 1×1 convolution of one channel and the sum of its places, times a number."""
    convolution, last = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(16, 2, bias=False)
    with torch.no_grad():
        convolution.weight.fill_(first)
        last.weight.copy_(torch.tensor([head, 1.0])[:, None].expand(2, 16))
    return nn.Sequential(convolution, nn.Flatten(), last)


PLACES = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
ALL_ZERO, SATURATED = (
    "all activations of the layer are 0",
    "saturated: the gradient of the class is 0 everywhere in the layer",
)
NO_EVIDENCE = "no positive evidence for the class"
BY_PRODUCT = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise", "eigengradcam")


@pytest.mark.parametrize("method", [*BY_PRODUCT, "eigencam", "ablationcam", "scorecam", "finercam"])
def test_a_layer_whose_activations_are_all_0(method: str):
    found = CAM(constant_head(1.0, first=0.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (ALL_ZERO,))


@pytest.mark.parametrize("method", BY_PRODUCT)
def test_a_saturated_class(method: str):
    found = CAM(constant_head(0.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (SATURATED,))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise"])
def test_no_positive_evidence(method: str):
    found = CAM(constant_head(-1.0), method=method).explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, (NO_EVIDENCE,))


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise"])
def test_a_map_without_contrast(method: str):
    found = CAM(constant_head(1.0), method=method).explain(torch.ones(1, 1, 4, 4), 0)
    assert (found.maps.max(), found.reasons) == (0, (CONSTANT,))
    raw = CAM(constant_head(1.0), method=method)(torch.ones(1, 1, 4, 4), 0, normalise=False)
    assert raw.min() == raw.max()
    assert raw.min() > 0


def test_no_pixel_that_is_evidence():
    found = CAM(constant_head(0.0), method="fullgrad").explain(PLACES, 0)
    assert (found.maps.max(), found.reasons) == (0, ("no pixel is evidence for the class",))


def test_reasons_are_given_image_by_image_and_class_by_class():
    images = torch.cat([PLACES, 0 * PLACES, torch.ones(1, 1, 4, 4)])
    found = explain(constant_head(-1.0), images, ["gradcam"], [[0, 1]] * 3)["gradcam"]
    assert found.reasons == (NO_EVIDENCE, None, ALL_ZERO, ALL_ZERO, NO_EVIDENCE, CONSTANT)
    assert [float(shown.max()) for shown in found.maps.flatten(0, 1)] == [0, 1, 0, 0, 0, 0]
    assert found.maps.isfinite().all()


def test_a_map_between_bounds_is_stretched_whatever_its_size():
    maps = torch.tensor([[[1e-30, 3e-30]], [[2.0, 2.0]], [[1e30, 2e30]], [[0.0, 0.0]]])
    assert stretch(maps).tolist() == [[[0.0, 1.0]], [[0.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]]


# --- arguments ---


@pytest.mark.parametrize("methods", ["gradcam", [], ()])
def test_methods_are_a_list_of_names(methods: Any):
    with pytest.raises(MriscopeError, match="give a list of names: gradcam, "):
        explain(small_net(), some_images(), methods)


def test_an_unknown_method_or_fusion_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean gradcam"):
        explain(small_net(), some_images(), ["grad-cam"])
    with pytest.raises(UnknownNameError, match="no method 'scorcam'"):
        CAM(small_net(), method="scorcam")
    with pytest.raises(UnknownNameError, match="no fusion 'sum'"):
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


def test_a_map_of_2x2_computed_by_hand():
    # Channels are x and -2x; the logit sums the first plus 3 times the upper left of the second.
    convolution = nn.Conv2d(1, 2, 1, bias=False)
    head = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
        head.weight.copy_(torch.tensor([[1.0, 1, 1, 1, 3, 0, 0, 0]]))
    cam = GradCAM(nn.Sequential(convolution, nn.Flatten(), head))
    image = torch.tensor([[[[-1.0, -2.0], [-4.0, 8.0]]]])
    # Weights 1 and 3/4, so x - 3/2 x = -x/2: 1/2, 1, 2 and -4, which ReLU cuts off.
    assert cam(image, normalise=False).tolist() == [[[0.5, 1.0], [2.0, 0.0]]]
    assert cam(image).tolist() == [[[0.25, 0.5], [1.0, 0.0]]]
    assert cam(image, exponents=[1.0, 2.0]).tolist() == [[[0.0625, 0.25], [1.0, 0.0]]]


def test_the_prediction_is_explained_unless_a_class_is_named():
    model, images = small_net(), some_images()
    cam, predicted = GradCAM(model), model(images).argmax(1)
    assert torch.equal(cam(images), cam(images, predicted))
    assert torch.equal(cam(images, 2), cam(images, [2] * 6))
    assert torch.equal(cam(images, np.array(CLASSES, np.int16)), cam(images, torch.tensor(CLASSES)))
    labels = np.array(CLASSES)
    labels.setflags(write=False)  # as those of a SliceSet are
    assert torch.equal(cam(images, labels), cam(images, CLASSES))
    assert not torch.allclose(cam(images, 2), cam(images, 0))


def test_normalised_maps_reach_from_0_to_1():
    maps = GradCAM(small_net())(some_images(), CLASSES)
    assert maps.amin((1, 2)).tolist() == [0.0] * 6
    assert maps.amax((1, 2)).tolist() == [1.0] * 6


def test_a_map_that_is_constant_but_for_rounding_is_zero():
    constant = torch.tensor([[[0.1, 0.1], [0.1, 0.1]]])
    assert stretch(constant).abs().max() == 0
    constant[0, 1, 1] = torch.nextafter(constant[0, 1, 1], torch.tensor(1.0))
    assert stretch(constant).abs().max() == 0
    assert stretch(torch.tensor([[[1e-20, 3e-20]]])).tolist() == [[[0.0, 1.0]]]


def test_the_studys_exponents_follow_the_order_of_the_classes():
    assert study_exponents(CLASS_NAMES) == (1.3, 1.2, 1.0, 1.5)
    assert study_exponents(("Non_Demented", "Very_Mild_Demented")) == (1.0, 1.5)
    assert set(STUDY_EXPONENTS) == set(CLASS_NAMES)
    with pytest.raises(UnknownNameError, match="did you mean Mild_Demented"):
        study_exponents(["mild_demented"])


def test_each_map_is_raised_to_the_exponent_of_its_own_class():
    cam, images = GradCAM(small_net()), some_images()
    plain, exponents = cam(images, CLASSES), study_exponents(CLASS_NAMES)
    wanted = torch.stack([heat ** exponents[target] for heat, target in zip(plain, CLASSES, strict=True)])
    raised = cam(images, CLASSES, exponents=exponents)
    torch.testing.assert_close(raised, wanted / wanted.amax((1, 2), keepdim=True))
    assert torch.equal(raised[0], plain[0])  # Non demented: exponent 1
    predicted = cam(images, exponents=[1.0, 1.0, 1.0, 1.0])
    assert torch.equal(predicted, cam(images))


@pytest.mark.parametrize("exponents", [[1.0, 1.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, float("nan")]])
def test_exponents_that_do_not_fit_are_refused(exponents: list[float]):
    with pytest.raises(MriscopeError, match="one positive number for each of the 4 classes"):
        GradCAM(small_net())(some_images(), exponents=exponents)


def test_exponents_need_normalised_maps():
    with pytest.raises(MriscopeError, match="normalise"):
        GradCAM(small_net())(some_images(), normalise=False, exponents=[1.0] * 4)


@pytest.mark.parametrize("classes", [[0, 1], torch.zeros(7, dtype=torch.int64), [[0] * 6], [0, 1, 2, 3, 0], []])
def test_a_wrong_number_of_classes_is_refused_before_anything_runs(classes: Any):
    model = small_net()
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    with pytest.raises(MriscopeError, match="for 6 images"):
        GradCAM(model)(some_images(), classes)


@pytest.mark.parametrize("classes", [1.5, "Mild", [True] * 6, np.zeros(6)])
def test_classes_are_numbers(classes: Any):
    with pytest.raises(MriscopeError, match="give class numbers"):
        GradCAM(small_net())(some_images(), classes)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(8, 8), np.zeros((1, 1, 8, 8))]
)
def test_images_of_another_kind_are_refused(images: Any):
    with pytest.raises(MriscopeError, match=r"needs a float tensor \(B, C, H, W\)"):
        GradCAM(small_net())(images)


def test_a_chunk_holds_at_least_one_image():
    with pytest.raises(MriscopeError, match="at least 1"):
        GradCAM(small_net())(some_images(), chunk=0)


@pytest.mark.parametrize("give", [lambda y: (y, y), lambda y: y[:1], lambda y: y[:, 0]])
def test_a_model_without_plain_logits_is_refused(give: Callable[[Tensor], Any]):
    model = small_net()

    def change(_module: nn.Module, _inputs: Any, output: Tensor) -> Any:
        return give(output)

    model.register_forward_hook(change)
    with pytest.raises(MriscopeError, match="an explanation needs its logits"):
        GradCAM(model, "features.4")(some_images())
