"""How well the origins of altered slices are found among the references, one alteration at a time and all together.

    MRISCOPE_DATA=folder python3 run.py bench copies

Of the 200 subjects of the public set 180 are references and 20, drawn anew by each seed, are held out: every alteration
is made of slices of both, by Pillow and numpy. An origin is found where it is the very slice that was altered; it is
false where a slice of a held-out subject gets one, or another subject's slice is given.
In a second table the very slices that were altered are taken out of the references, so that
only their neighbours are there: an origin should then be of the same subject, and should not be called a copy.
"""

import io
import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator, default_rng
from PIL import Image

from mriscope.audit.copies import Copies, find_copies
from mriscope.audit.subjects import recover_subjects
from mriscope.data.readers import read

QUERIES, SEEDS, HELD_OUT = 400, 5, 20
Alteration = Callable[[np.ndarray, Generator], np.ndarray]


def mirror(image: np.ndarray, rng: Generator) -> np.ndarray:
    return image[:, ::-1] if rng.random() < 0.5 else image


def rotate(image: np.ndarray, rng: Generator) -> np.ndarray:
    return np.asarray(Image.fromarray(image).rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR))


def zoom(image: np.ndarray, rng: Generator) -> np.ndarray:
    return _affine(image, rng.uniform(0.85, 1.15), 0, 0)


def shift(image: np.ndarray, rng: Generator) -> np.ndarray:
    return _affine(image, 1, *rng.uniform(-8, 8, 2))


def _affine(image: np.ndarray, size: float, right: float, down: float) -> np.ndarray:
    (height, width), scale = image.shape, 1 / size
    matrix = (scale, 0, width / 2 * (1 - scale) - right, 0, scale, height / 2 * (1 - scale) - down)
    changed = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.asarray(changed)


def crop(image: np.ndarray, rng: Generator) -> np.ndarray:
    height, width = image.shape
    share = rng.uniform(0.8, 1)
    left, top = rng.uniform(0, (1 - share) * width), rng.uniform(0, (1 - share) * height)
    box = (left, top, left + share * width, top + share * height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box))


def gamma(image: np.ndarray, rng: Generator) -> np.ndarray:
    return _pixels(255 * (image / 255) ** np.exp(rng.uniform(np.log(0.7), np.log(1.4))))


def brightness(image: np.ndarray, rng: Generator) -> np.ndarray:
    contrast = image.mean() + (image - image.mean()) * rng.uniform(0.7, 1.3)
    return _pixels(contrast * rng.uniform(0.7, 1.3))


def noise(image: np.ndarray, rng: Generator) -> np.ndarray:
    return _pixels(image + rng.normal(0, rng.uniform(0, 8), image.shape))


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, rng: Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file).convert("L"))


def everything(image: np.ndarray, rng: Generator) -> np.ndarray:
    for change in ALONE:
        image = change(np.ascontiguousarray(image), rng)
    return image


ALONE: tuple[Alteration, ...] = (mirror, rotate, zoom, shift, crop, gamma, brightness, noise, jpeg)


def alter(images: np.ndarray, change: Alteration, rng: Generator) -> np.ndarray:
    return np.stack([change(np.ascontiguousarray(image), rng) for image in images])


def measure(images: np.ndarray, subjects: np.ndarray, change: Alteration, seed: int, whole: bool) -> list[float]:
    """Shares of queries, and seconds of the processor: found, false, same subject, copy, and seconds a query."""
    rng = default_rng([seed, 1])
    held = np.isin(subjects, rng.choice(np.unique(subjects), HELD_OUT, replace=False))
    own = rng.choice(np.flatnonzero(~held), QUERIES, replace=False)
    strange = rng.choice(np.flatnonzero(held), QUERIES, replace=False)
    known = np.flatnonzero(~held) if whole else np.setdiff1d(np.flatnonzero(~held), own)
    queries = alter(images[np.concatenate([own, strange])], change, rng)
    began = time.process_time()
    found: Copies = find_copies(queries, images[known])
    seconds = time.process_time() - began
    first, certain = known[found.origin], found.certain
    same = certain[:QUERIES] & (subjects[first[:QUERIES]] == subjects[own])
    false = np.concatenate([certain[:QUERIES] & ~same, certain[QUERIES:]])
    exact = certain[:QUERIES] & (first[:QUERIES] == own)
    return [exact.mean(), false.mean(), same.mean(), found.copy[:QUERIES].mean(), seconds / len(queries)]


def main() -> None:
    changes = [change for change in (*ALONE, everything) if change.__name__ in sys.argv[1:] or len(sys.argv) == 1]
    images = read(os.environ["MRISCOPE_DATA"]).images
    subjects = recover_subjects(images).subjects
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; {QUERIES} + {QUERIES} queries, {SEEDS} seeds")
    for whole in (True, False):
        print(f"\n{'Origins among' if whole else 'Origins taken out of'} the references\n")
        print("| alteration | origin found % | false origin % | same subject % | called a copy % | s per slice |")
        print("|--|--|--|--|--|--|", flush=True)
        for change in changes:
            runs = [measure(images, subjects, change, seed, whole) for seed in range(SEEDS)]
            *shares, seconds = np.mean(runs, axis=0)
            cells = " | ".join(f"{100 * share:.2f}" for share in shares)
            print(f"| {change.__name__} | {cells} | {seconds:.4f} |", flush=True)


if __name__ == "__main__":
    main()
