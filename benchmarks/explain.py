"""Images explained per second by mriscope, pytorch-grad-cam and torch-cam, side by side in one process.

    python3 run.py bench explain

BaselineCNN and ResNet-18 with random weights, channels last, on 1×128×128, one thread, the same model and images for
all; medians over rounds in which all take turns. Peers get one class for each image, as they take no other.
"""

import contextlib
import gc
import io
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_grad_cam as peer
import torch
import torchcam.methods as torchcam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.models import resnet18

from mriscope.explain import CAM, explain
from mriscope.models.registry import create_model

SHARED = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "elementwise")
PEERS = {
    "gradcam": peer.GradCAM,
    "gradcam++": peer.GradCAMPlusPlus,
    "xgradcam": peer.XGradCAM,
    "hirescam": peer.HiResCAM,
    "layercam": peer.LayerCAM,
    "elementwise": peer.GradCAMElementWise,
    "eigencam": peer.EigenCAM,
    "scorecam": peer.ScoreCAM,
    "ablationcam": peer.AblationCAM,
}
TORCHCAMS = {
    "gradcam": torchcam.GradCAM,
    "gradcam++": torchcam.GradCAMpp,
    "layercam": torchcam.LayerCAM,
    "scorecam": torchcam.ScoreCAM,
}
FEWER = {"eigencam": 4, "scorecam": 8, "ablationcam": 8}  # images of a batch, where a peer takes long
BATCH, ROUNDS, SLOW_ROUNDS = 32, 7, 3


def networks() -> dict[str, tuple[nn.Module, str]]:
    """Return each network, and the layer that is explained."""
    torch.manual_seed(0)
    resnet = resnet18(num_classes=4)
    resnet.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    resnet.to(memory_format=torch.channels_last)  # as create_model makes all networks
    return {
        "BaselineCNN": (create_model("baseline_cnn", seed=0).eval(), "features.conv2"),
        "ResNet-18": (resnet.eval(), "layer4"),
    }


def by_peer(method: str, model: nn.Module, layer: str, images: Tensor) -> None:
    targets = [ClassifierOutputTarget(1) for _ in images]
    with quiet(), PEERS[method](model=model, target_layers=[model.get_submodule(layer)]) as cam:
        cam(input_tensor=images, targets=targets)


def by_torchcam(method: str, model: nn.Module, layer: str, images: Tensor) -> None:
    with quiet(), TORCHCAMS[method](model, target_layer=layer) as cam:
        logits = model(images)
        maps = cam([1] * len(images), logits)[0]
        nn.functional.interpolate(maps[:, None], size=images.shape[2:], mode="bilinear")


def by_us(method: str, model: nn.Module, layer: str, images: Tensor, half: bool = False) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        CAM(model, layer, method=method)(images, 1)


def all_shared(model: nn.Module, layer: str, images: Tensor) -> None:
    explain(model, images, SHARED, 1, layer=layer)


def forward(model: nn.Module, images: Tensor, memory_format: torch.memory_format) -> None:
    with torch.no_grad():
        model(images.contiguous(memory_format=memory_format))


def quiet() -> Any:
    return contextlib.redirect_stderr(io.StringIO())  # a peer shows its progress


def speeds(ways: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, float]:
    """Return images per second of each way; they take turns, and the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + rounds):
        for name, way in ways.items():
            gc.collect()
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: images / statistics.median(taken[1:]) for name, taken in seconds.items()}


def measure(name: str, model: nn.Module, layer: str) -> None:
    images = torch.rand(BATCH, 1, 128, 128)
    first, last = torch.contiguous_format, torch.channels_last
    ways = {
        "forward": partial(forward, model, images, first),
        "channels last": partial(forward, model, images, last),
        **{method: partial(by_us, method, model, layer, images) for method in ("gradcam", "gradcam++", "layercam")},
        "six": partial(all_shared, model, layer, images),
    }
    found = speeds(ways, BATCH, ROUNDS)
    print(
        f"\n{name}, {layer}: bare forward {found['forward']:.1f}, channels last {found['channels last']:.1f} images/s"
    )
    print(f"Grad-CAM at {found['gradcam'] / found['channels last']:.1%} of the bare forward, channels last")
    print(f"six gradient methods at once cost {found['gradcam'] / found['six']:.2f} × Grad-CAM alone\n")
    print("| method | batch | pytorch-grad-cam | torch-cam | mriscope | ratio |\n|--|--|--|--|--|--|", flush=True)
    for method in PEERS:
        few = min(
            FEWER.get(method, BATCH), 2 if name == "ResNet-18" and method in ("scorecam", "ablationcam") else BATCH
        )
        compared = {"pytorch-grad-cam": partial(by_peer, method, model, layer, images[:few])}
        if method in TORCHCAMS:
            compared["torch-cam"] = partial(by_torchcam, method, model, layer, images[:few])
        compared["mriscope"] = partial(by_us, method, model, layer, images[:few])
        if method == "scorecam":
            compared["bfloat16"] = partial(by_us, method, model, layer, images[:few], half=True)
        row = speeds(compared, few, SLOW_ROUNDS if method in FEWER else ROUNDS)
        for way in ("mriscope", "bfloat16"):
            if way in row:
                other = f"{row['torch-cam']:.2f}" if "torch-cam" in row else "–"
                title = method if way == "mriscope" else f"{method}, {way}"
                ratio = row[way] / row["pytorch-grad-cam"]
                print(
                    f"| {title} | {few} | {row['pytorch-grad-cam']:.2f} | {other} | {row[way]:.2f} | {ratio:.1f} × |",
                    flush=True,
                )


def main() -> None:
    warnings.simplefilter("ignore")  # the peers' own
    torch.set_num_threads(1)
    print(f"1 thread, torch {torch.__version__}, grad-cam 1.5.7, torchcam 0.5.0")
    for name, (model, layer) in networks().items():
        measure(name, model, layer)


if __name__ == "__main__":
    main()
