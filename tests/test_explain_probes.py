"""mriscope.explain.probes: only what lies behind a layer runs again, and gives what the whole model would."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from explain_networks import (
    Concatenating,
    ReadsBatchSize,
    RunsTwice,
    SmallVolumeNet,
    baseline,
    n_hooks,
    resnet18,
    seeded,
    small_net,
    some_images,
    some_volumes,
    swin,
    vit,
)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mriscope.explain import AblationCAM, ScoreCAM
from mriscope.explain.model_tail import ModelTail
from mriscope.explain.probes import Probes


class Dense(nn.Module):
    """As DenseNet: each layer is given all maps before it, in a list that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(count, 4, 3, padding=1) for count in (1, 5, 9, 13)])
        self.out = nn.Linear(17, 4)

    def forward(self, images: Tensor) -> Tensor:
        kept = [images]
        for layer in self.layers:
            kept.append(layer(torch.cat(kept, 1)).relu_())
        return self.out(torch.cat(kept, 1).mean((2, 3)))


class Gated(nn.Module):
    """Vectors from before the layer scale, shift and mask what comes behind it, in place too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.late, self.out = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6).reshape(1, 6, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        early = self.stem(images)
        gate = early.mean((2, 3), keepdim=True).sigmoid()
        shift = early.amax(dim=(1, 2, 3))
        late = self.late(early) * gate * self.scale
        late += shift[:, None, None, None]
        late[:, 0] *= 0.5
        return self.out(F.relu(late, inplace=True).mean((2, 3)))


class Decides(nn.Module):
    """Another way for images that are darker on average: what a batch looks like decides about all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.out = nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        late = self.late(images)
        return self.out((late.relu() if float(images.mean()) > 0 else late.tanh()).mean((2, 3)))


class FoldsIntoTheBatch(nn.Module):
    """Halves of the channels count as images for a while, before the layer and behind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.late, self.out = nn.Conv2d(1, 6, 3), nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        count, halves = len(images), self.stem(images).unflatten(1, (2, 3)).flatten(0, 1)
        late = self.late(images).relu()
        return self.out((late * halves.unflatten(0, (count, 2)).flatten(1, 2)).mean((2, 3)))


class ReadsOneByOne(nn.Module):
    """Nothing fails with the wrong number of images, but only the first would be answered."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.out = nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        count = len(images)
        late = self.late(images).relu()
        return torch.stack([self.out(late[row].mean((1, 2))) for row in range(count)])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    "plain": (small_net, "features.4", 1, 20),
    "first layer": (small_net, "features.0", 1, 20),
    "baseline_cnn": (baseline, "features.conv1", 1, 32),
    "resnet18, within a block": (resnet18, "layer3.0.conv1", 3, 32),
    "resnet18, before an addition in place": (resnet18, "layer4.1.bn2", 3, 32),
    "resnet18, a block": (resnet18, "layer2", 3, 32),
    "concatenating": (lambda: seeded(Concatenating), "late", 1, 20),
    "dense": (lambda: seeded(Dense), "layers.1", 1, 20),
    "gated": (lambda: seeded(Gated), "late", 1, 20),
    "decides": (lambda: seeded(Decides), "late", 1, 20),
    "reads the batch size": (lambda: seeded(ReadsBatchSize), "late", 1, 20),
    "reads images one by one": (lambda: seeded(ReadsOneByOne), "late", 1, 20),
    "runs twice": (lambda: seeded(RunsTwice), "shared", 1, 20),
    "vit": (vit, "blocks.0.norm2", 3, 64),
    "vit, before the last attention": (vit, "blocks.1.norm1", 3, 64),
    "swin": (swin, "layers.2.blocks.0.norm1", 3, 64),
}
WHOLE: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    "folds into the batch": (lambda: seeded(FoldsIntoTheBatch), "late", 1, 20),
}


def behind(model: nn.Module, name: str, image: Tensor) -> tuple[ModelTail, Tensor]:
    """The part behind a layer, and what the layer gives in its last run."""
    layer, records = model.get_submodule(name), list[Tensor]()

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        records.append(output.clone())

    with torch.no_grad():
        with layer.register_forward_hook(keep):
            model(image)
        return ModelTail(model, layer, image, records[-1]), records[-1]


def changed(output: Tensor, count: int = 5) -> Tensor:
    torch.manual_seed(3)
    return output * torch.rand(count, *output.shape[1:]) * 2


def one_by_one(model: nn.Module, name: str, image: Tensor, outputs: Tensor, runs: int) -> Tensor:
    """The long way: the whole model for each output, put in by a hook in the layer's last run."""
    answers: list[Tensor] = []
    for output in outputs:
        count = 0

        def put(_module: nn.Module, _inputs: Any, _output: Tensor, output: Tensor = output) -> Tensor | None:
            nonlocal count
            count += 1
            return output[None].clone() if count == runs else None

        with torch.no_grad(), model.get_submodule(name).register_forward_hook(put):
            answers.append(model(image))
    return torch.cat(answers)


@pytest.mark.parametrize("forced", [False, True], ids=["replayed", "whole"])
@pytest.mark.parametrize("network", [*NETWORKS, *WHOLE])
def test_the_part_behind_a_layer_answers_as_the_whole_model(network: str, forced: bool):
    make, name, channels, size = {**NETWORKS, **WHOLE}[network]
    model, image = make(), some_images(1, channels, size)
    part, output = behind(model, name, image)
    assert part.replayable == (network in NETWORKS)
    if forced:
        part.replayable = False
    with torch.no_grad():
        wanted = one_by_one(model, name, image, changed(output), part.runs)
        assert (wanted[0] - wanted[1]).abs().max() > 1e-4  # the changes matter
        for _ in range(2):  # and in-place operations leave the log as it was
            torch.testing.assert_close(part(changed(output)), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(part(output), model(image), atol=1e-5, rtol=1e-4)
    assert n_hooks(model) == 0


def test_volumes_too():
    model, volume = seeded(SmallVolumeNet), some_volumes(1)
    part, output = behind(model, "features.0", volume)
    assert part.replayable
    with torch.no_grad():
        wanted = one_by_one(model, "features.0", volume, changed(output), 1)
        torch.testing.assert_close(part(changed(output)), wanted)


class _Convolved(TorchFunctionMode):
    """Counts the images that each real convolution is given, by its number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d:
            self.images[args[0].shape[1]] = self.images.get(args[0].shape[1], 0) + len(args[0])
        return func(*args, **(kwargs or {}))


def convolved(work: Callable[[], Any]) -> dict[int, int]:
    counter = _Convolved()
    with counter, torch.no_grad():  # outside the modes of the replay, it sees only what these call in earnest
        work()
    return counter.images


def test_nothing_before_the_layer_is_computed_again():
    model, image = seeded(Concatenating), some_images(1)
    part, output = behind(model, "late", image)
    assert convolved(lambda: part(changed(output))) == {12: 5}  # not 1, the first convolution, nor 5, the layer's own
    part.replayable = False
    assert convolved(lambda: part(changed(output))) == {1: 5, 5: 5, 12: 5}


def test_ablation_cam_runs_what_lies_before_the_layer_once_for_all_channels():
    model, images = seeded(Concatenating), some_images(2)
    work = convolved(lambda: AblationCAM(model, "late")(images, [0, 1], chunk=2))
    # The first convolution: both images for their answers, and each for the log. Behind the layer: these, the check
    # that the log serves with 2 each, and 6 channels each.
    assert work[1] == 4
    assert work[12] <= 4 + 4 + 12


def test_a_model_that_takes_another_way_falls_back_to_whole_passes():
    class Counts(nn.Module):
        """Its second pass differs from its first one."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.late, self.out = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
            self.passes = 0

        def forward(self, images: Tensor) -> Tensor:
            self.passes += 1
            early = self.stem(images)
            early = early.relu() if self.passes % 2 else early.tanh()
            return self.out(self.late(early).mean((2, 3)))

    part, output = behind(seeded(Counts), "late", some_images(1))
    assert not part.replayable
    with torch.no_grad():
        assert part(changed(output)).shape == (5, 4)


def test_an_ablated_channel_is_ablated_for_every_image_by_itself():
    model, images = small_net(), some_images(3)
    records = model.features[0](images).detach()
    probes = Probes(model, model.features[0], images, records, records, model(images).detach(), 4)
    for row in range(3):
        outputs = records[row].repeat(6, 1, 1, 1)
        outputs[range(6), range(6)] = records[row].min() - 1e7
        wanted = one_by_one(model, "features.0", images[row : row + 1], outputs, 1)
        torch.testing.assert_close(probes.ablated[row], wanted, atol=1e-4, rtol=1e-4)


def test_masked_images_are_answered_channel_by_channel():
    model, images = small_net(), some_images(2)
    records = model.features[5](model.features[:5](images)).detach()
    records[0, 3] = 0  # no contrast: a mask of zeros
    probes = Probes(model, model.features[5], images, records, records, model(images).detach(), 3)
    for row in range(2):
        masks = F.interpolate(records[row][:, None], (20, 20), mode="bilinear", align_corners=True)
        masks = masks - masks.amin((1, 2, 3), keepdim=True)
        masks = masks / (masks.amax((1, 2, 3), keepdim=True) + 1e-8)
        torch.testing.assert_close(probes.masked[row], model(images[row] * masks).detach(), atol=1e-5, rtol=1e-4)
    assert torch.equal(probes.masked[0, 3], probes.blank[0])


@pytest.mark.parametrize("cam", [ScoreCAM, AblationCAM])
def test_several_classes_share_the_passes(cam: Any):
    model, passes = small_net(), 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    with model.head.register_forward_pre_hook(count):
        cam(model, "features.4")(some_images(2), [[0], [1]])
        of_one, passes = passes, 0
        cam(model, "features.4")(some_images(2), [[0, 1, 2, 3], [3, 2, 1, 0]])
    assert passes == of_one
