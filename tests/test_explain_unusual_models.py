"""Models with one output, without gradients, in TorchScript or compiled: the right map, or the true reason for none."""

import copy
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from explain_networks import CAM_METHODS, SmallNet, n_hooks, seeded, small_net, some_images
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mriscope.errors import MriscopeError
from mriscope.explain import CAM, METHODS, explain
from mriscope.explain.attributions import input_gradients, occlusion
from mriscope.explain.metrics.faithfulness import deletion
from mriscope.explain.scores import logit, predicted_classes, probability

WITH_GRADIENTS = [name for name in METHODS if name not in ("eigencam", "scorecam", "ablationcam", "occlusion")]
HOMOGENEOUS = [name for name in METHODS if name not in ("gradcam++", "scorecam", "fullgrad", "smoothgrad")]
"""Methods whose normalised maps stay when the score is halved."""
ON_IMAGES = ["fullgrad", "gradxinput", "integrated_gradients", "smoothgrad"]
IMAGES = some_images(2)

# --- one output: class 1 has the logit z, class 0 has -z ---


def two_outputs(model: SmallNet) -> SmallNet:
    """The same network with the logits -z/2 and z/2, whose difference is z."""
    twin, last = copy.deepcopy(model), model.head[5]
    assert isinstance(last, nn.Linear)
    both = nn.Linear(last.in_features, 2).to(last.weight)
    with torch.no_grad():
        both.weight.copy_(torch.cat([-last.weight, last.weight]) / 2)
        both.bias.copy_(torch.cat([-last.bias, last.bias]) / 2)
    twin.head[5] = both
    return twin


@pytest.mark.parametrize("classes", [None, 0, 1, [0, 1], [[1, 0], [0, 1]]])
@pytest.mark.parametrize("method", HOMOGENEOUS)
def test_one_output_is_explained_as_the_two_that_differ_by_it(method: str, classes: Any):
    model = small_net(classes=1).double()
    model.head[5].get_parameter("bias").data -= model(IMAGES.double()).mean()  # one image of either class
    one = CAM(model, "features.4", method=method).explain(IMAGES.double(), classes)
    two = CAM(two_outputs(model), "features.4", method=method).explain(IMAGES.double(), classes)
    if classes is None:
        assert sorted(one.classes.tolist()) == [0, 1]
    assert one.classes.tolist() == two.classes.tolist()
    torch.testing.assert_close(one.maps, two.maps, atol=1e-5, rtol=0)
    assert one.reasons == two.reasons


def test_the_scores_of_one_output_by_hand():
    logits, classes = torch.tensor([[2.0], [2.0], [-1.0]]), torch.tensor([1, 0, 0])
    assert logit(logits, classes).tolist() == [2.0, -2.0, 1.0]
    torch.testing.assert_close(probability(logits, classes), torch.tensor([2.0, -2.0, 1.0]).sigmoid())
    assert predicted_classes(logits).tolist() == [1, 1, 0]


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_explains_one_output(method: str):
    found = CAM(small_net(classes=1), "features.5", method=method).explain(some_images(), [0, 1] * 3)
    assert found.maps.isfinite().all()
    assert method == "ablationcam" or any(reason is None for reason in found.reasons)
    with pytest.raises(MriscopeError, match="class 2 cannot be explained: the model has 2 classes"):
        CAM(small_net(classes=1), method=method)(some_images(), 2)


def test_a_curve_of_one_output_is_that_of_the_two_that_differ_by_it():
    model, maps, classes = small_net(classes=1), IMAGES[:, 0].abs(), torch.tensor([0, 1])
    one, two = (deletion(each, IMAGES, maps, classes, steps=4).scores for each in (model, two_outputs(model)))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


# --- no gradient passes ---


class Around(nn.Module):
    """SmallNet, with something between its features and its head, or behind it."""

    def __init__(self, between: Callable[[Tensor], Tensor], behind: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.net, self.between, self.behind = small_net(), between, behind

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net.head(self.between(self.net.features(images)))
        return logits if self.behind is None else self.behind(logits)


def same(values: Tensor) -> Tensor:
    return values


def no_grad(values: Tensor) -> Tensor:
    with torch.no_grad():
        return values * 1.5


def int8() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantisation is moving to another package
        return importlib.import_module("torch.ao.quantization").quantize_dynamic(small_net(), {nn.Linear}, torch.qint8)


MODELS = {
    "detached logits": lambda: Around(same, Tensor.detach),
    "detached features": lambda: Around(Tensor.detach),
    "no_grad": lambda: Around(no_grad),
    "NumPy": lambda: Around(lambda values: torch.from_numpy(values.detach().numpy())),
    "NumPy without detach": lambda: Around(lambda values: torch.from_numpy(values.numpy())),
    "int8": int8,
}


@pytest.mark.filterwarnings("ignore:quantized")  # PyTorch's own word for an int8 layer without gradient
@pytest.mark.parametrize("method", WITH_GRADIENTS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_without_gradients_is_said_to_be_one(kind: str, method: str):
    model = MODELS[kind]().eval()
    wanted = r"no gradient of the logits reaches (layer '\S+'|the images), though they depend on it"
    if kind == "NumPy without detach":
        wanted = "the model runs, but gradients cannot be taken through it .*numpy"
    with pytest.raises(MriscopeError, match=wanted) as caught:
        explain(model, IMAGES, [method])
    assert "eigencam, scorecam, ablationcam and occlusion need no gradients" in str(caught.value)
    assert n_hooks(model) == 0


@pytest.mark.parametrize("kind", MODELS)
def test_methods_that_need_no_gradient_explain_it(kind: str):
    for name, found in explain(MODELS[kind]().eval(), IMAGES, ["eigencam", "scorecam", "ablationcam"]).items():
        assert found.maps.amax() == 1, name


@pytest.mark.parametrize("method", ON_IMAGES)
def test_a_model_that_looks_at_nothing_has_empty_maps_and_no_error(method: str):
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.ones(len(images), 4) + 0 * images.detach().mean()

    found = explain(Constant(), IMAGES, [method])[method]
    assert found.maps.max() == 0
    assert found.reasons == ("no pixel is evidence for the class",) * 2


class Checkpointed(SmallNet):
    def forward(self, images: Tensor) -> Tensor:
        features: Any = checkpoint(self.features, images, use_reentrant=True)
        return self.head(features)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("method", WITH_GRADIENTS)
def test_reentrant_checkpoints_are_named(method: str):
    with pytest.raises(MriscopeError, match="use_reentrant=True"):
        explain(seeded(Checkpointed), IMAGES, [method], layer="features.4")


def test_an_error_of_the_model_itself_is_passed_on():
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        explain(small_net(), torch.rand(2, 3, 20, 20), ["gradcam"], layer="features.4")
    with pytest.raises(RuntimeError, match="shape"):
        input_gradients(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), IMAGES, torch.tensor([0, 1]))


# --- TorchScript ---


def programs() -> dict[str, nn.Module]:
    class Partly(SmallNet):
        def __init__(self) -> None:
            super().__init__()
            self.head: Any = torch.jit.script(self.head)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        traced: Any = torch.jit.trace(small_net(), IMAGES)
        return {"traced": traced, "scripted": torch.jit.script(small_net()), "partly": seeded(Partly)}


@pytest.mark.parametrize("method", [*CAM_METHODS, "guided_gradcam"])
def test_a_torchscript_program_is_refused_where_layers_count(method: str):
    for model in programs().values():
        with pytest.raises(MriscopeError, match="a TorchScript program, whose layers cannot be observed"):
            explain(model, IMAGES, [method])


def test_a_layer_within_a_torchscript_program_is_refused_and_one_around_it_is_not():
    models = programs()
    for name in ("traced", "scripted"):
        with pytest.raises(MriscopeError, match=r"layer 'features.4' is part of a TorchScript program"):
            explain(models[name], IMAGES, layer="features.4")
    found = explain(models["partly"], IMAGES, layer="features.4")["gradcam"]
    torch.testing.assert_close(found.maps, explain(small_net(), IMAGES, layer="features.4")["gradcam"].maps)


def test_methods_on_pixels_explain_a_torchscript_program():
    classes = torch.tensor([1, 2])
    for name, model in programs().items():
        torch.testing.assert_close(
            input_gradients(model, IMAGES, classes), input_gradients(small_net(), IMAGES, classes), msg=name
        )
        torch.testing.assert_close(occlusion(model, IMAGES, classes), occlusion(small_net(), IMAGES, classes))


# --- a compiled forward ---


def compile_(function: Any) -> Any:
    return torch.compile(function, backend="aot_eager")


class Decorated(SmallNet):
    @compile_
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def own_forward() -> nn.Module:
    model: Any = small_net()
    model.forward = compile_(model.forward)
    return model


def submodule() -> nn.Module:
    model: Any = small_net()
    model.features = compile_(model.features)
    return model


@contextmanager
def quiet_compiler() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("make", [own_forward, submodule, lambda: seeded(Decorated)])
def test_a_compiled_forward_is_explained_and_comes_back(make: Callable[[], nn.Module]):
    methods = ["gradcam", "layercam", "fullgrad"]
    model, wanted = make(), explain(small_net(), IMAGES, methods)
    kept = vars(model).get("forward"), vars(model.get_submodule("features")).get("forward")
    with quiet_compiler():
        before = explain(model, IMAGES, methods)
        plain = model(IMAGES).detach()
        after = explain(model, IMAGES, methods)
        for name in methods:
            torch.testing.assert_close(before[name].maps, wanted[name].maps)
            torch.testing.assert_close(after[name].maps, wanted[name].maps)
        torch.testing.assert_close(model(IMAGES), plain)
    assert (vars(model).get("forward"), vars(model.get_submodule("features")).get("forward")) == kept
