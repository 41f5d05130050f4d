"""mriscope.explain for callers of every kind: the known defects of other libraries, none of which it has.

All methods are asked for at once where nothing hangs on one alone.
"""

import copy
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from explain_networks import (
    CAM_METHODS,
    SmallNet,
    SmallVolumeNet,
    n_hooks,
    seeded,
    small_net,
    some_images,
    some_volumes,
)
from torch import Tensor, nn

from mriscope.errors import MriscopeError
from mriscope.explain import CAM, GradCAM, explain
from mriscope.explain.model_state import eval_mode
from mriscope.explain.postprocess import resize_maps

CLASSES = [2, 0, 3, 1, 2, 0]


def all_maps(model: nn.Module, images: Tensor, classes: Any = CLASSES, **settings: Any) -> dict[str, Tensor]:
    return {name: found.maps for name, found in explain(model, images, CAM_METHODS, classes, **settings).items()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float = 1e-5) -> None:
    assert found.keys() == wanted.keys() == set(CAM_METHODS)
    for name, expected in wanted.items():
        torch.testing.assert_close(
            found[name], expected, atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.fixture(scope="module")
def wanted() -> dict[str, Tensor]:
    """What small_net's maps of some_images are when nothing is out of the ordinary."""
    return all_maps(small_net(), some_images())


def test_all_methods_have_something_to_show_here(wanted: dict[str, Tensor]):
    for name, shown in wanted.items():
        assert shown.shape == (6, 20, 20), name
        assert shown.dtype == torch.float32
        assert (shown.amax((1, 2)) == 1).sum() >= 4, name  # most images have evidence for their class


# --- 1: a batch of different classes ---


def test_a_batch_of_different_classes_is_as_one_image_at_a_time(wanted: dict[str, Tensor]):
    model, images = small_net(), some_images()
    alone = [all_maps(model, images[row : row + 1], CLASSES[row]) for row in range(6)]
    assert_same({name: torch.cat([one[name] for one in alone]) for name in CAM_METHODS}, wanted)


# --- 3: in-place operations behind the layer ---


class Residual(SmallNet):
    """Adds to a layer's output in place, as ResNet's blocks do."""

    def forward(self, images: Tensor) -> Tensor:
        early = self.features[3](self.features[2](self.features[1](self.features[0](images))))
        late = self.features[4](early)
        late += 0.3 * early.mean(1, keepdim=True)
        return self.head(self.features[5](late))


class ResidualOutOfPlace(SmallNet):
    def forward(self, images: Tensor) -> Tensor:
        early = self.features[3](F.relu(self.features[1](self.features[0](images))))
        return self.head(F.relu(self.features[4](early) + 0.3 * early.mean(1, keepdim=True)))


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.4"])
def test_in_place_operations_behind_the_layer_change_nothing(layer: str):
    in_place, out_of_place = seeded(Residual), seeded(ResidualOutOfPlace)
    found = all_maps(in_place, some_images(), layer=layer)
    assert_same(found, all_maps(out_of_place, some_images(), layer=layer))


# --- 5: the chunk, and errors half-way ---


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
def test_no_method_depends_on_the_chunk(wanted: dict[str, Tensor], chunk: int):
    assert_same(all_maps(small_net(), some_images(), chunk=chunk), wanted)


def as_found(model: SmallNet) -> tuple[Any, ...]:
    return (
        [(name, id(module), module.training) for name, module in model.named_modules()],
        n_hooks(model),
        [(parameter.requires_grad, copy.deepcopy(parameter.grad)) for parameter in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def assert_as_found(model: SmallNet, before: tuple[Any, ...]) -> None:
    after = as_found(model)
    assert after[:2] == before[:2]
    for (required, gradient), (required_before, gradient_before) in zip(after[2], before[2], strict=True):
        assert required == required_before
        torch.testing.assert_close(gradient, gradient_before, rtol=0, atol=0)
    assert all(torch.equal(value, before[3][name]) for name, value in after[3].items())


def in_training() -> SmallNet:
    """With everything that an explanation could spoil: mixed modes, gradients, a frozen weight."""
    model = small_net()
    model(some_images(3)).sum().backward()
    model.head[2].zero_grad(set_to_none=True)
    model.features[0].weight.requires_grad_(False)
    model.train()
    model.features[1].eval()
    return model


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_leaves_the_model_as_it_was(method: str, wanted: dict[str, Tensor]):
    model, images = in_training(), some_images()
    before, kept = as_found(model), images.clone()
    cam = CAM(model, method=method)
    torch.testing.assert_close(cam(images, CLASSES), wanted[method], atol=1e-5, rtol=1e-4)
    assert_as_found(model, before)
    assert torch.equal(images, kept)
    assert not any(isinstance(value, Tensor) for value in vars(cam).values())  # no activations are kept


@pytest.mark.parametrize("method", CAM_METHODS)
@pytest.mark.parametrize("last", [False, True])
def test_an_error_in_the_first_or_last_pass_is_passed_on_and_leaves_nothing_behind(method: str, last: bool):
    model = in_training()
    before, cam = as_found(model), CAM(model, "features.4", method=method)
    passes, broken = 0, 0

    def fail(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == broken:
            raise IndexError("broken head")

    with model.head[5].register_forward_pre_hook(fail):
        cam(some_images(), CLASSES, chunk=3)
        passes, broken = 0, passes if last else 1
        assert not last or broken > 1
        with pytest.raises(IndexError, match="broken head"):
            cam(some_images(), CLASSES, chunk=3)
    assert_as_found(model, before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


# --- 7: callers of every kind ---


def test_frozen_weights_change_nothing(wanted: dict[str, Tensor]):
    model = small_net().requires_grad_(False)
    assert_same(all_maps(model, some_images()), wanted)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_no_grad_changes_nothing(wanted: dict[str, Tensor]):
    with torch.no_grad():
        found = all_maps(small_net(), some_images())
        assert not torch.is_grad_enabled()
    assert_same(found, wanted)


def test_inference_mode_changes_nothing(wanted: dict[str, Tensor]):
    model = small_net()
    with torch.inference_mode():
        found = all_maps(model, some_images() * 1.0, torch.tensor(CLASSES) + 0)  # both are inference tensors
        assert torch.is_inference_mode_enabled()
    assert_same(found, wanted)
    assert not any(shown.requires_grad for shown in found.values())


def test_images_that_ask_for_gradients_change_nothing(wanted: dict[str, Tensor]):
    images = some_images().requires_grad_()
    assert_same(all_maps(small_net(), images), wanted)
    assert images.grad is None


@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_is_explained_before_and_after_it_is_compiled(wanted: dict[str, Tensor], in_place: bool):
    model, images = small_net(), some_images()
    compiled: Any = model
    if in_place:
        model.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    assert_same(all_maps(compiled, images), wanted)  # before its first call
    call = model._compiled_call_impl
    plain = compiled(images)
    assert_same(all_maps(compiled, images), wanted)
    assert model._compiled_call_impl is call
    assert_same(all_maps(compiled, images, layer="features.4"), wanted)
    torch.testing.assert_close(compiled(images), plain)
    assert n_hooks(model) == 0


def test_a_model_in_bf16_and_one_under_autocast_give_float32_maps(wanted: dict[str, Tensor]):
    model, images = small_net(), some_images()
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = all_maps(model, images)
    whole = all_maps(model.bfloat16(), images.bfloat16())
    for found in (under_autocast, whole):
        for name, shown in found.items():
            assert shown.dtype == torch.float32
            assert shown.isfinite().all()
            close = (shown - wanted[name]).abs().mean((1, 2)) < 0.1
            # Differences of logits and of parts of sums are what 8 bits hold least of.
            assert close.sum() >= (3 if name in ("ablationcam", "xgradcam", "finercam") else 5), name


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_pass_under_autocast_runs_in_bf16(method: str):
    model, records = small_net(), list[tuple[torch.dtype, int]]()

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        records.append((output.dtype, len(output)))

    with model.head[2].register_forward_hook(keep), torch.autocast("cpu", torch.bfloat16):
        CAM(model, "features.4", method=method)(some_images(2), 1)
        assert torch.is_autocast_enabled("cpu")
    assert {dtype for dtype, _ in records} == {torch.bfloat16}
    if method in ("scorecam", "ablationcam"):
        assert max(count for _, count in records) > 2  # the passes with a masked or lacking channel are among them


# --- 8: threads ---


def test_threads_that_share_a_model_in_training_get_their_own_maps(wanted: dict[str, Tensor]):
    model = in_training()
    before = as_found(model)
    batches = [some_images(2, size=size, seed=size) for size in (16, 18, 20, 22)]
    alone = [all_maps(small_net(), images, [1, 2]) for images in batches]
    start = threading.Barrier(4)

    def wrong(place: int) -> int:
        start.wait()
        count = 0
        for _ in range(6):
            found = all_maps(model, batches[place], [1, 2])
            count += sum(not torch.allclose(found[name], alone[place][name], atol=1e-4) for name in CAM_METHODS)
        return count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(wrong, range(4))) == [0] * 4  # of 288
    assert_as_found(model, before)


def test_borrowers_that_overlap_give_the_modes_back_once():
    model = in_training()
    before = as_found(model)
    with eval_mode(model):
        with eval_mode(model):
            assert not any(module.training for module in model.modules())
        assert not any(module.training for module in model.modules())
    assert_as_found(model, before)


# --- 9: blank maps ---


class Constant(SmallNet):
    """The last linear layer ignores what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head[5].get_parameter("weight").data.zero_()


def test_a_map_that_carries_nothing_is_zero_and_says_why():
    silent = small_net()
    silent.features[4].get_parameter("bias").data.fill_(-100.0)
    for model, images, layer in (
        (seeded(Constant), some_images(), "features.4"),
        (silent, some_images(), "features.5"),
        (small_net(), torch.zeros(6, 1, 20, 20), "features.4"),
    ):
        for name, found in explain(model, images, CAM_METHODS, CLASSES, layer=layer).items():
            assert found.maps.isfinite().all(), name
            for shown, reason in zip(found.maps, found.reasons, strict=True):
                assert (shown.max() == 0) == (reason is not None), (name, reason)
                assert shown.max() in (0, 1), name


# --- 10: volumes ---


@pytest.mark.parametrize("size", [(4, 9), (8, 8, 8), (7, 9, 12)])
def test_resized_maps_stay_within_their_range(size: tuple[int, ...]):
    given = torch.randn(3, *[3] * len(size), generator=torch.Generator().manual_seed(0))
    found = resize_maps(given, torch.Size(size)).flatten(1)
    assert found.shape[1] == torch.Size(size).numel()
    assert (found.amax(1) <= given.flatten(1).amax(1) + 1e-6).all()
    assert (found.amin(1) >= given.flatten(1).amin(1) - 1e-6).all()


def test_maps_of_volumes_do_not_overshoot_by_any_method(monkeypatch: pytest.MonkeyPatch):
    resized = 0

    def watched(given: Tensor, size: torch.Size) -> Tensor:
        nonlocal resized
        resized += 1
        found = resize_maps(given, size)
        assert (found.amax((1, 2, 3)) <= given.amax((1, 2, 3)) + 1e-6).all()
        assert (found.amin((1, 2, 3)) >= given.amin((1, 2, 3)) - 1e-6).all()
        return found

    for user in ("postprocess", "full_grad"):
        monkeypatch.setattr(f"mriscope.explain.{user}.resize_maps", watched)
    model, volumes = seeded(SmallVolumeNet), some_volumes()
    for name, shown in all_maps(model, volumes, [0, 1, 2], layer="features.0").items():
        assert shown.shape == (3, 9, 12, 10), name
        assert shown.min() == 0, name
        assert shown.max() == 1, name
    assert resized >= len(CAM_METHODS)


def test_volumes_are_explained_as_one_at_a_time():
    model, volumes = seeded(SmallVolumeNet), some_volumes()
    together = all_maps(model, volumes, [0, 1, 2])
    alone = [all_maps(model, volumes[row : row + 1], row) for row in range(3)]
    assert_same({name: torch.cat([one[name] for one in alone]) for name in CAM_METHODS}, together)


# --- 11: what an import costs ---


def test_an_import_loads_little_beside_torch():
    program = "import sys, torch; import mriscope.explain; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"matplotlib", "timm", "torchvision", "sklearn", "scipy", "pandas", "cv2", "mlflow"}


# --- what else nobody should have to think about ---


def test_a_float64_model_is_explained_in_float64():
    model, images = small_net().double(), some_images().double()
    assert_same(all_maps(model, images), all_maps(small_net(), some_images()), atol=2e-3)
    assert all(shown.dtype == torch.float32 for shown in all_maps(model, images).values())


@pytest.mark.parametrize(
    "change", [lambda images: images.to(memory_format=torch.channels_last), lambda images: images[:, [0]]]
)
def test_images_may_lie_in_memory_as_they_like(wanted: dict[str, Tensor], change: Callable[[Tensor], Tensor]):
    assert_same(all_maps(small_net(), change(some_images())), wanted)


def test_only_the_part_behind_the_layer_is_recorded():
    model = small_net()
    recorded: list[bool] = []

    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        recorded.append(output.requires_grad)

    for index in (0, 3, 4, 5):
        model.features[index].register_forward_hook(note)
    GradCAM(model, "features.4")(some_images())
    assert recorded == [False, False, False, True]


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


def test_an_explanation_within_autocast_does_not_take_the_gradients_of_a_training_after_it():
    model, images = small_net(), some_images()
    with torch.autocast("cpu", torch.bfloat16):
        GradCAM(model)(images)
        model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_plain_call_from_another_thread_is_left_alone():
    model, images = small_net(), some_images()
    wanted, plain = GradCAM(model)(images, CLASSES), model(images).detach()
    answers: list[Tensor] = []

    def call() -> None:
        answers.append(model(images[:3]))
        model.features[0](images)  # so that the last convolution records of is another than the explained one

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
