"""mriscope.explain against pytorch-grad-cam: raw and published maps, for every method both have.

The peer is given one image at a time, as some of its methods depend on what else is in the batch. Networks are in
float64, so that the comparison does not depend on how a processor rounds float32 sums: XGrad-CAM divides by sums near
0, Ablation-CAM subtracts nearly equal logits, and FullGrad stretches channels that hold little but rounding. Both sides
give their maps as float32, and the peer resizes in it.
"""

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explain_networks import CAM_METHODS, baseline, resnet18, some_images, swin, vit
from torch import Tensor, nn

from mriscope.explain import CAM, channels_last, explain, tokens
from mriscope.explain.postprocess import stretch

PEERS = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "elementwise": "GradCAMElementWise",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
    "finercam": "FinerCAM",
    "fullgrad": "FullGrad",
}
SIGNED = ("eigencam", "eigengradcam")  # the peer's sign is the solver's
ROUNDING = 1e-5  # of a map's largest value; 84 units of float32's last place


class Case(NamedTuple):
    """A network, a layer, and for each image a seed and a class for which no method's map is empty."""

    make: Callable[[], nn.Module]
    layer: str
    seeds: Sequence[int]
    classes: Sequence[int]
    channels: int = 3
    size: int = 64
    reshape: Callable[[Tensor], Tensor] | None = None

    def in_float64(self) -> tuple[nn.Module, Tensor]:
        images = torch.cat(
            [some_images(1, self.channels, 64 if self.channels == 3 else self.size, seed) for seed in self.seeds]
        )[..., : self.size, : self.size]
        return self.make().double(), images.double()


CASES = {
    "baseline_cnn": Case(baseline, "features.conv2", (0, 1), (2, 0), channels=1, size=32),
    "resnet18": Case(resnet18, "layer4.1.conv2", (0, 1), (0, 1)),
    "vit": Case(vit, "blocks.1.norm1", (0, 10), (0, 1), reshape=tokens(4, 4)),
    "swin": Case(swin, "layers.2.blocks.0.norm1", (0, 3), (0, 1), reshape=channels_last),
}
EARLIER = Case(resnet18, "layer1.1.conv2", (0, 1), (0, 1), size=32)
"""For the methods that ask the network about every channel, of which the last layer of ResNet-18 has many."""


@pytest.fixture(scope="module")
def peer() -> Any:
    """pytorch-grad-cam, whose own import warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pytorch_grad_cam")


def peer_maps(
    peer: Any,
    method: str,
    model: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    classes: Sequence[int],
    reshape: Callable[[Tensor], Tensor] | None = None,
    **smoothing: bool,
) -> tuple[Tensor, list[Tensor]]:
    """The peer's published maps; and by each layer its maps before ReLU, in the layer's size."""
    settings: dict[str, Any] = {}
    if method == "ablationcam":
        ablation = importlib.import_module("pytorch_grad_cam.ablation_layer")
        kind = ablation.AblationLayer if reshape is None else ablation.AblationLayerVit
        settings = {"batch_size": 1, "ablation_layer": kind()}
    published: list[Tensor] = []
    raws: list[list[Tensor]] = []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        modules = [] if method == "fullgrad" else [model.get_submodule(name) for name in layers]
        cam = getattr(peer, PEERS[method])(model, modules, reshape_transform=reshape, **settings)
        records = listened(getattr(cam, "base_cam", cam), method)
        with cam:
            for image, target in zip(images, classes, strict=True):
                records.clear()
                named: dict[str, Any] = {"target_idx": target}
                if method != "finercam":
                    named = {"targets": [peer.utils.model_targets.ClassifierOutputTarget(target)]}
                published.append(torch.from_numpy(np.asarray(cam(image[None].clone(), **named, **smoothing)))[0])
                raws.append(list(records))
    model.zero_grad(set_to_none=True)
    return torch.stack(published).float(), [torch.cat(one) for one in zip(*raws, strict=True)]


def listened(cam: Any, method: str) -> list[Tensor]:
    """What the peer's maps are before it normalises them, kept as it makes them."""
    name = "compute_cam_per_layer" if method == "fullgrad" else "get_cam_image"
    make, records = getattr(cam, name), []

    def keep(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        records.append(torch.from_numpy(np.array(made)).reshape(len(made), *made.shape[-2:]))
        return made

    setattr(cam, name, keep)
    return records


def resized(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps[:, None].relu(), (size, size), mode="bilinear", align_corners=False)[:, 0].float()


def with_our_sign(method: str, raw: Tensor, ours: Tensor, size: int) -> Tensor:
    """The peer's maps, each with the sign that fits ours better."""
    if method not in SIGNED:
        return raw
    pairs = [(resized(sign * raw, size) - ours).abs().amax((1, 2)) for sign in (1, -1)]
    return torch.where((pairs[0] <= pairs[1])[:, None, None], raw, -raw)


def published_of(raw: Tensor, size: int) -> Tensor:
    """As both publish: ReLU, from 0 to 1, resized, from 0 to 1."""
    return stretch(resized(stretch(raw.relu()), size))


@pytest.mark.parametrize("method", CAM_METHODS)
@pytest.mark.parametrize("network", CASES)
def test_agrees_with_pytorch_grad_cam(peer: Any, network: str, method: str):
    case = EARLIER if network == "resnet18" and method in ("scorecam", "ablationcam") else CASES[network]
    if method == "fullgrad" and case.reshape is not None:
        pytest.skip("the peer's FullGrad needs biases of maps")
    model, images = case.in_float64()
    published, raws = peer_maps(peer, method, model, [case.layer], images, case.classes, case.reshape)
    cam = CAM(model, case.layer, method=method)
    ours, shown = cam(images, case.classes, normalise=False), cam(images, case.classes)
    assert ours.amax((1, 2)).min() > 0  # no map is empty
    raw = with_our_sign(method, raws[0], ours, case.size)
    wanted = raw.float() if method == "fullgrad" else resized(raw, case.size)
    assert (ours - wanted).abs().max() <= ROUNDING * wanted.max()
    if method in SIGNED:
        published = published_of(raw, case.size)
    assert (shown - published).abs().max() <= ROUNDING


def test_two_layers_fused_by_mean_agree_with_pytorch_grad_cam_and_by_max_with_the_maps_of_each(peer: Any):
    model, images = CASES["resnet18"].in_float64()
    classes, names = (0, 1), ["layer4.1.conv2", "layer3.1.conv2"]
    published, raws = peer_maps(peer, "gradcam", model, names, images, classes)
    assert (CAM(model, names)(images, classes) - published).abs().max() <= ROUNDING
    each = [resized(stretch(raw.relu()), 64) for raw in raws]
    highest = torch.maximum(*each)
    assert not any(torch.allclose(one, highest, atol=0.1) for one in each)
    torch.testing.assert_close(CAM(model, names, fuse="max")(images, classes), stretch(highest), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "layercam", "elementwise", "scorecam"])
def test_smoothing_by_the_first_component_agrees_with_pytorch_grad_cam(peer: Any, method: str):
    case = CASES["baseline_cnn"]
    model, images = case.in_float64()
    _, raws = peer_maps(peer, method, model, [case.layer], images, case.classes, eigen_smooth=True)
    cam = CAM(model, case.layer, method=method, eigen_smooth=True)
    ours, shown = cam(images, case.classes, normalise=False), cam(images, case.classes)
    assert ours.amax((1, 2)).min() > 0
    raw = with_our_sign("eigencam", raws[0], ours, case.size)
    wanted = resized(raw, case.size)
    assert (ours - wanted).abs().max() <= ROUNDING * wanted.max()
    assert (shown - published_of(raw, case.size)).abs().max() <= ROUNDING


@pytest.mark.parametrize("method", [name for name in CAM_METHODS if name not in (*SIGNED, "finercam")])
def test_smoothing_by_flips_and_scales_agrees_with_pytorch_grad_cam(peer: Any, method: str):
    case = CASES["baseline_cnn"]
    model, images = case.in_float64()
    published, _ = peer_maps(peer, method, model, [case.layer], images, case.classes, aug_smooth=True)
    shown = CAM(model, case.layer, method=method, flip_smooth=True)(images, case.classes)
    assert published.amax((1, 2)).min() > 0.3
    assert (shown - published).abs().max() <= ROUNDING


@pytest.mark.parametrize("network", CASES)
def test_float32_gives_the_maps_of_float64_but_for_rounding(network: str):
    case, methods = CASES[network], ("gradcam", "gradcam++", "hirescam", "layercam", "elementwise")
    model, images = case.in_float64()
    settings: dict[str, Any] = {"layer": case.layer, "reshape": case.reshape}
    exact = explain(model, images, methods, case.classes, **settings)
    rounded = explain(model.float(), images.float(), methods, case.classes, **settings)
    for name in methods:  # thousands of roundings of 6e-8 each lie between an image and a map
        torch.testing.assert_close(rounded[name].maps, exact[name].maps, atol=1e-3, rtol=0)
