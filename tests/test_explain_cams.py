"""mriscope.explain.cams and its engine: right maps, and a model that comes back as it was found."""

import copy
import importlib
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explain_networks import SmallNet
from torch import Tensor, nn

from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import MriscopeError, UnknownName
from mriscope.explain.cam import GradCAM
from mriscope.explain.finishing import STUDY_EXPONENTS, stretch, study_exponents

CLASSES = [2, 0, 3, 1, 2, 0]


def small_net(channels: int = 1, seed: int = 1) -> SmallNet:
    torch.manual_seed(seed)  # with 1, every class has evidence in each of some_images
    return SmallNet(channels).eval()


def some_images(count: int = 6, channels: int = 1, size: int = 20) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(7))


def plain_grad_cam(model: SmallNet, images: Tensor, classes: list[int]) -> Tensor:
    """Raw maps the long way: one image at a time, both halves of the network called by hand."""
    maps: list[Tensor] = []
    for image, target in zip(images, classes, strict=True):
        activations = model.features[:5](image[None]).detach().requires_grad_()
        model.head(F.relu(activations))[0, target].backward()
        assert activations.grad is not None
        weights = activations.grad.mean((2, 3), keepdim=True)
        heat = (weights * activations.detach()).sum(1, keepdim=True).relu()
        maps.append(F.interpolate(heat, image.shape[1:], mode="bilinear", align_corners=False)[0, 0])
    model.zero_grad(set_to_none=True)
    return torch.stack(maps)


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.fixture(scope="module")
def peer() -> Any:
    """pytorch-grad-cam, whose own import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pytorch_grad_cam")


def peer_maps(peer: Any, model: nn.Module, layer: nn.Module, images: Tensor, classes: list[int]) -> tuple[Any, Any]:
    """The peer's published maps, and its maps before normalising, in the layer's size."""
    targets = [peer.utils.model_targets.ClassifierOutputTarget(target) for target in classes]
    with peer.GradCAM(model=model, target_layers=[layer]) as cam:
        published = cam(input_tensor=images, targets=targets)
        activations, gradients = (getattr(cam.activations_and_grads, name)[0] for name in ("activations", "gradients"))
        raw = cam.get_cam_image(images, layer, targets, activations.detach().numpy(), gradients.detach().numpy())
    return published, torch.from_numpy(np.maximum(raw, 0))


# --- right maps ---


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


def test_maps_equal_the_long_way_for_a_batch_of_different_classes():
    model, images = small_net(), some_images()
    raw = GradCAM(model)(images, CLASSES, normalise=False)
    torch.testing.assert_close(raw, plain_grad_cam(model, images, CLASSES), atol=1e-6, rtol=1e-5)
    assert raw.dtype == torch.float32
    assert raw.shape == (6, 20, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_pytorch_grad_cam_on_a_small_network(peer: Any, channels: int):
    model, images = small_net(channels), some_images(channels=channels)
    model.features[5] = nn.ReLU()  # the peer's own maps are wrong before an in-place one
    published, raw = peer_maps(peer, model, model.features[4], images, CLASSES)
    cam = GradCAM(model)
    assert np.abs(cam(images, CLASSES).numpy() - published).max() < 1e-5
    wanted = F.interpolate(raw[:, None], (20, 20), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(cam(images, CLASSES, normalise=False), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["layer4.1.conv2", "layer3"])
def test_agrees_with_pytorch_grad_cam_on_resnet18(peer: Any, name: str):
    torchvision = importlib.import_module("torchvision")
    torch.manual_seed(3)
    model = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    images = some_images(3, channels=3, size=96)
    published, raw = peer_maps(peer, model, model.get_submodule(name), images, [3, 0, 1])
    cam = GradCAM(model, name)
    assert published.max() > 0.9
    assert np.abs(cam(images, [3, 0, 1]).numpy() - published).max() < 1e-5
    wanted = F.interpolate(raw[:, None], (96, 96), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(cam(images, [3, 0, 1], normalise=False), wanted, atol=1e-6, rtol=1e-5)
    assert GradCAM(model)(images[:1]).shape == (1, 96, 96)


def test_in_place_operations_behind_the_layer_change_nothing():
    torchvision = importlib.import_module("torchvision")
    torch.manual_seed(3)
    model = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    images = some_images(2, channels=3, size=64)
    found = GradCAM(model, "layer4.1.bn2")(images, 1)  # += and an in-place ReLU follow
    forward = model.layer4[1].forward

    def out_of_place(x: Tensor) -> Tensor:
        block = model.layer4[1]
        return F.relu(x + block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))

    model.layer4[1].forward = out_of_place
    wanted = GradCAM(model, "layer4.1.bn2")(images, 1)
    model.layer4[1].forward = forward
    assert wanted.max() == 1
    torch.testing.assert_close(found, wanted)


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


@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_maps_do_not_depend_on_the_chunk(chunk: int):
    cam, images = GradCAM(small_net()), some_images()
    torch.testing.assert_close(cam(images, CLASSES, chunk=chunk), cam(images, CLASSES))


def test_normalised_maps_reach_from_0_to_1():
    maps = GradCAM(small_net())(some_images(), CLASSES)
    assert maps.amin((1, 2)).tolist() == [0.0] * 6
    assert maps.amax((1, 2)).tolist() == [1.0] * 6


def test_a_map_without_evidence_is_zero_and_not_nan():
    convolution, head = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(16, 2, bias=False)
    with torch.no_grad():
        convolution.weight.fill_(1.0)
        head.weight.copy_(torch.tensor([1.0, -1.0])[:, None].expand(2, 16))
    model = nn.Sequential(convolution, nn.Flatten(), head)
    images = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    assert GradCAM(model)(images, 1).tolist() == torch.zeros(1, 4, 4).tolist()
    assert GradCAM(model)(images, 1, normalise=False).abs().max() == 0
    assert GradCAM(model)(images, 1, exponents=[1.5, 1.5]).abs().max() == 0
    assert GradCAM(model)(images, 0).max() == 1


def test_a_map_that_is_even_but_for_rounding_is_zero():
    even = torch.tensor([[[0.1, 0.1], [0.1, 0.1]]])
    assert stretch(even).abs().max() == 0
    even[0, 1, 1] = torch.nextafter(even[0, 1, 1], torch.tensor(1.0))
    assert stretch(even).abs().max() == 0
    assert stretch(torch.tensor([[[1e-20, 3e-20]]])).tolist() == [[[0.0, 1.0]]]


def test_volumes_get_maps_that_do_not_overshoot():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    )
    volumes = torch.rand(2, 1, 9, 12, 10)
    cam = GradCAM(model)
    raw, maps = cam(volumes, [0, 3], normalise=False), cam(volumes, [0, 3])
    activations = model[0](volumes)[[0, 1], [0, 3]].relu()  # weight 1/n in each class's own channel, if it is positive
    assert raw.shape == maps.shape == (2, 9, 12, 10)
    assert raw.min() >= 0
    assert raw.amax((1, 2, 3)).le(activations.amax((1, 2, 3))).all()
    assert maps.amax((1, 2, 3)).tolist() == [1.0, 1.0]
    assert maps.min() == 0


def test_no_images_give_no_maps():
    assert GradCAM(small_net())(some_images(0)).shape == (0, 20, 20)
    assert GradCAM(small_net())(some_images(0), []).shape == (0, 20, 20)


# --- the study's exponents ---


def test_the_studys_exponents_follow_the_order_of_the_classes():
    assert study_exponents(CLASS_NAMES) == (1.3, 1.2, 1.0, 1.5)
    assert study_exponents(("Non_Demented", "Very_Mild_Demented")) == (1.0, 1.5)
    assert set(STUDY_EXPONENTS) == set(CLASS_NAMES)
    with pytest.raises(UnknownName, match="did you mean Mild_Demented"):
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


# --- the layer ---


def test_a_layer_is_found_by_itself_by_name_and_as_a_module():
    model, images = small_net(), some_images()
    found = GradCAM(model)
    maps = found(images)
    assert found.layer == ("features.4",)
    assert torch.equal(maps, GradCAM(model, "features.4")(images))
    assert torch.equal(maps, GradCAM(model, model.features[4])(images))
    assert not torch.allclose(maps, GradCAM(model, "features.0")(images))


def test_the_last_convolution_is_the_one_that_ran_last_on_a_map():
    class Unordered(nn.Module):
        """Runs its layers in another order than it lists them, and ends in a convolution on a pooled value."""

        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Conv2d(4, 4, 3), nn.Conv2d(1, 4, 3)
            self.unused, self.head = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            pooled = self.late(self.early(images).relu()).relu().mean((2, 3), keepdim=True)
            return self.head(pooled).flatten(1)

    model = Unordered().eval()
    cam = GradCAM(model)
    cam(some_images())
    assert cam.layer == ("late",)
    with pytest.raises(MriscopeError, match=r"'unused' did not run"):
        GradCAM(model, "unused")(some_images())
    with pytest.raises(MriscopeError, match=r"'head' gives one value per channel"):
        GradCAM(model, "head")(some_images())


def test_a_wrong_name_names_the_near_layers():
    with pytest.raises(UnknownName, match=r"no layer 'feature.4'; .*features.4 \(1, 8, 10, 10\)"):
        GradCAM(small_net(), "feature.4")(some_images())


def test_a_layer_of_another_model_is_refused():
    with pytest.raises(MriscopeError, match="Conv2d is no part of the model"):
        GradCAM(small_net(), small_net().features[0])


def test_a_model_without_convolution_asks_for_a_layer():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(400, 4))
    with pytest.raises(MriscopeError, match="pass layer="):
        GradCAM(dense)(some_images())
    with pytest.raises(MriscopeError, match=r"layer '1' gives float32 \(6, 4\); a map needs floats with 4 axes"):
        GradCAM(dense, "1")(some_images())
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 4, 1), nn.Flatten())
    with pytest.raises(MriscopeError, match="pass layer="):
        GradCAM(pooled)(some_images())


def test_a_layer_that_no_logit_depends_on_is_refused():
    class Aside(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            self.features(images)
            return self.head(images[:, :1].expand(-1, 8, -1, -1))

    with pytest.raises(MriscopeError, match=r"no logit depends on layer 'features.4'"):
        GradCAM(Aside().eval(), "features.4")(some_images())


# --- what is asked ---


@pytest.mark.parametrize("classes", [[0, 1], torch.zeros(7, dtype=torch.int64), [[0] * 6], []])
def test_a_wrong_number_of_classes_is_refused_before_anything_runs(classes: Any):
    model = small_net()
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    with pytest.raises(MriscopeError, match="for 6 images"):
        GradCAM(model)(some_images(), classes)


@pytest.mark.parametrize("classes", [4, -1, [0, 1, 2, 3, 4, 0]])
def test_a_class_the_model_lacks_is_refused(classes: Any):
    with pytest.raises(MriscopeError, match=r"class (4|-1) cannot be explained: the model has 4 classes"):
        GradCAM(small_net())(some_images(), classes)


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


def test_values_that_are_not_finite_are_not_passed_on():
    images = some_images()
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(MriscopeError, match="not finite"):
        GradCAM(small_net())(images)


@pytest.mark.parametrize("give", [lambda y: (y, y), lambda y: y[:1], lambda y: y[:, 0]])
def test_a_model_without_plain_logits_is_refused(give: Callable[[Tensor], Any]):
    model = small_net()

    def change(_module: nn.Module, _inputs: Any, output: Tensor) -> Any:
        return give(output)

    model.register_forward_hook(change)
    with pytest.raises(MriscopeError, match="an explanation needs its logits"):
        GradCAM(model, "features.4")(some_images())


# --- the model comes back as it was found ---


def mixed_modes(model: SmallNet) -> list[bool]:
    model.train()
    model.features[1].eval()  # a frozen batch norm
    return [module.training for module in model.modules()]


def test_a_model_in_training_is_explained_in_eval_mode_and_given_back():
    model, images = small_net(), some_images()
    wanted = GradCAM(model)(images, CLASSES)
    modes = mixed_modes(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(GradCAM(model)(images, CLASSES), wanted)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_flags_and_hooks_stay_as_they_were():
    model, images = small_net(), some_images()
    model(images).sum().backward()
    model.features[0].weight.requires_grad_(False)
    model.head[2].zero_grad(set_to_none=True)
    before = [(p.requires_grad, copy.deepcopy(p.grad)) for p in model.parameters()]
    kept = images.clone()
    cam = GradCAM(model)
    cam(images, CLASSES)
    for parameter, (required, gradient) in zip(model.parameters(), before, strict=True):
        assert parameter.requires_grad == required
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)
    assert n_hooks(model) == 0
    assert torch.equal(images, kept)
    assert not any(isinstance(value, Tensor) for value in vars(cam).values())  # no activations are kept


@pytest.mark.parametrize("layer", [None, "features.4"])
def test_an_error_in_the_model_leaves_nothing_behind(layer: str | None):
    model = small_net()
    modes = mixed_modes(model)

    def fail(*_: Any) -> None:
        raise IndexError("broken head")

    with model.head[5].register_forward_hook(fail), pytest.raises(IndexError, match="broken head"):
        GradCAM(model, layer)(some_images())
    assert n_hooks(model) == 0
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    with pytest.raises(MriscopeError, match="cannot be explained"):
        GradCAM(model, layer)(some_images(), 9)
    assert n_hooks(model) == 0
    assert [module.training for module in model.modules()] == modes


def test_only_the_part_behind_the_layer_is_recorded():
    model = small_net()
    recorded: list[bool] = []

    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        recorded.append(output.requires_grad)

    for index in (0, 3, 4, 5):
        model.features[index].register_forward_hook(note)
    GradCAM(model, "features.4")(some_images())
    assert recorded == [False, False, False, True]


# --- callers of every kind ---


def test_frozen_weights_no_grad_and_inference_mode_change_nothing():
    model, images = small_net(), some_images()
    wanted = GradCAM(model)(images, CLASSES)
    model.requires_grad_(False)
    assert torch.equal(GradCAM(model)(images, CLASSES), wanted)
    with torch.no_grad():
        assert torch.equal(GradCAM(model)(images, CLASSES), wanted)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        inside = GradCAM(model)(images * 1.0, torch.tensor(CLASSES) + 0)  # both made as inference tensors
        assert torch.is_inference_mode_enabled()
    assert torch.equal(inside, wanted)
    assert not inside.requires_grad


def test_images_that_are_used_again_behind_the_layer_may_come_from_inference_mode():
    class Gated(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.features[4](self.features[0](images) * images))

    model, images = Gated().eval(), some_images()
    wanted = GradCAM(model, "features.0")(images, CLASSES)
    with torch.inference_mode():
        assert torch.equal(GradCAM(model, "features.0")(images * 1.0, CLASSES), wanted)


def test_weights_made_under_inference_mode_are_refused():
    with torch.inference_mode():
        model = small_net()
    with pytest.raises(MriscopeError, match="load the model outside"):
        GradCAM(model)(some_images())


def test_a_model_that_switches_gradients_off_for_its_first_part_is_explained():
    class FrozenFront(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.features(images)
            return self.head(features)

    model, images = small_net(), some_images()
    frozen = FrozenFront().eval()
    frozen.load_state_dict(model.state_dict())
    torch.testing.assert_close(GradCAM(frozen)(images, CLASSES), GradCAM(model)(images, CLASSES))


def test_half_precision_gives_float32_maps_close_to_those_in_full():
    model, images = small_net(), some_images()
    wanted = GradCAM(model)(images, CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = GradCAM(model)(images, CLASSES)
    whole = GradCAM(model.bfloat16())(images.bfloat16(), CLASSES)
    for maps in (under_autocast, whole):
        assert maps.dtype == torch.float32
        assert (maps - wanted).abs().mean() < 0.02


def test_an_explanation_within_autocast_does_not_take_the_gradients_of_a_training_after_it():
    model, images = small_net(), some_images()
    with torch.autocast("cpu", torch.bfloat16):
        GradCAM(model)(images)
        model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_explained_after_it_ran(in_place: bool):
    model, images = small_net(), some_images()
    wanted = GradCAM(model)(images, CLASSES)
    compiled: Any = model
    if in_place:
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    call = model._compiled_call_impl
    compiled(images)
    torch.testing.assert_close(GradCAM(compiled)(images, CLASSES), wanted)
    assert model._compiled_call_impl is call


def test_threads_that_share_a_model_in_training_get_their_own_maps():
    model = small_net()
    batches = [some_images(size=size) for size in (18, 20, 22, 24)]
    wanted = [GradCAM(model)(images, CLASSES) for images in batches]
    modes = mixed_modes(model)
    start = threading.Barrier(4)

    def explain(place: int) -> bool:
        start.wait()
        cam = GradCAM(model)
        return all(torch.allclose(cam(batches[place], CLASSES), wanted[place], atol=1e-5) for _ in range(25))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(explain, range(4))) == [True] * 4
    assert n_hooks(model) == 0
    assert [module.training for module in model.modules()] == modes


def test_a_plain_call_from_another_thread_is_left_alone():
    model, images = small_net(), some_images()
    wanted, plain = GradCAM(model)(images, CLASSES), model(images).detach()
    answers: list[Tensor] = []

    def call() -> None:
        answers.append(model(images[:3]))
        model.features[0](images)  # so that the last convolution heard of is another than the explained one

    def call_from_another_thread(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=call)
            other.start()
            other.join()

    cam = GradCAM(model)
    with model.head[0].register_forward_hook(call_from_another_thread):
        found = cam(images, CLASSES)
    assert cam.layer == ("features.4",)
    torch.testing.assert_close(found, wanted)
    assert len(answers) == 2
    torch.testing.assert_close(answers[1].detach(), plain[:3])
    answers[1].sum().backward()  # through the layer, which the explanation cut only for its own thread
    assert model.features[0].weight.grad is not None
