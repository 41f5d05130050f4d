"""Slices per second of augmentation on one thread: each transform, the study's set, and kornia's on the same changes.

    python3 run.py bench augmentation

Every slice gets every change, but for the study's set with its own probabilities. Both figures are medians: by the
clock, and by the processor's time, which other work on the machine does not touch.
"""

import statistics
import time
from collections.abc import Callable

import kornia.augmentation as kornia
import numpy as np
import torch
from torch import Tensor

from mriscope.data.augmentation import augment
from mriscope.data.batches import batch, scaled
from mriscope.data.readers import read
from mriscope.recipe import AugmentationSettings
from mriscope.training.devices import pick_device

BATCH, WARM_UP, TURNS = 64, 3, 30

AFFINE = {"probability": 1, "rotation": 15, "shift": 0.05, "scale": 0.05}
BRIGHTNESS = {"probability": 1, "brightness": 0.2}
ALWAYS = {"probability": 1}
SETS = {
    "flip": {"flip": 1},
    "affine": {"affine": AFFINE},
    "crop": {"crop": ALWAYS},
    "affine and crop": {"affine": AFFINE, "crop": ALWAYS},
    "brightness and contrast": {"brightness_contrast": {**BRIGHTNESS, "contrast": 0.2}},
    "gamma": {"gamma": ALWAYS},
    "Gaussian noise": {"gaussian_noise": ALWAYS},
    "Rician noise": {"rician_noise": ALWAYS},
    "bias field": {"bias_field": ALWAYS},
    "coarse dropout": {"coarse_dropout": ALWAYS},
    "the study's EfficientNet set": {
        "flip": 0.5,
        "crop": ALWAYS,
        "affine": {**AFFINE, "probability": 0.5},
        "brightness_contrast": {"probability": 0.2, "brightness": 0.2, "contrast": 0.2},
        "gamma": {"probability": 0.2},
        "gaussian_noise": {"probability": 0.2},
        "coarse_dropout": {"probability": 0.2},
    },
    "affine, brightness, gamma, noise": {
        "affine": AFFINE,
        "brightness_contrast": BRIGHTNESS,
        "gamma": ALWAYS,
        "gaussian_noise": ALWAYS,
    },
}


def kornias() -> Callable[[Tensor, int], Tensor]:
    """The last of the sets, made of kornia's parts."""
    parts = kornia.AugmentationSequential(
        kornia.RandomAffine(degrees=15.0, translate=(0.05, 0.05), scale=(0.95, 1.05), p=1.0),
        kornia.RandomBrightness(brightness=(0.8, 1.2), p=1.0),
        kornia.RandomGamma(gamma=(0.8, 1.2), p=1.0),
        kornia.RandomGaussianNoise(std=0.05, p=1.0),
        data_keys=["input"],
    )
    return lambda images, seed: parts(images)


def ours(settings: dict[str, object]) -> Callable[[Tensor, int], Tensor]:
    made = AugmentationSettings.model_validate(settings)
    return lambda images, seed: augment(images, made, seed)


def show(way: str, change: Callable[[Tensor, int], Tensor], images: Tensor) -> None:
    """Measure one way and print its line."""
    clock, processor = [], []
    for seed in range(WARM_UP + TURNS):
        started = time.perf_counter(), time.process_time()
        change(images, seed)
        clock.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    by_clock, by_processor = (BATCH / statistics.median(seconds[WARM_UP:]) for seconds in (clock, processor))
    print(f"{way:<34}{by_clock:10,.0f}{by_processor:16,.0f}")


def main() -> None:
    pick_device("cpu")  # keeps freed memory, as a training does
    torch.set_num_threads(1)
    slices = read(f"phantom:subjects={BATCH // 4},slices=4")
    images = scaled(batch(slices, np.arange(BATCH), torch.device("cpu"))[0], "unit")
    print(f"batch {BATCH} of 1×{images.shape[2]}×{images.shape[3]}, 1 thread, torch {torch.__version__}; slices/s")
    print(f"{'':<34}{'by clock':>10}{'by processor':>16}")
    for way, settings in SETS.items():
        show(way, ours(settings), images)
    show("the same by kornia", kornias(), images)


if __name__ == "__main__":
    main()
