"""How well the origins of altered slices are found among the references, one alteration at a time and all together.

    MRISCOPE_DATA=folder python3 run.py bench copies

Of the 200 subjects of the public set 180 are references and 20, drawn anew by each seed, are held out: every alteration
is made of slices of both, by Pillow and numpy. An origin is found where it is the very slice that was altered; it is
false where a slice of a held-out subject gets one, or another subject's slice is given. In the second table the slices
that were altered are no references, only their neighbours are: an origin should then be of the same subject, and should
not be called a copy. The method was built on slices of the same subjects, with other draws. Each draw is kept in
runs/bench/ as soon as it is measured, so that the command goes on where it was cut off.
"""

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from keeping import Kept
from numpy.random import Generator, default_rng
from PIL import Image

from mriscope.audit.copies import find_copies
from mriscope.audit.subjects import recover_subjects
from mriscope.data.readers import read

QUERIES, SEEDS, HELD_OUT = 400, 5, 20
HEADER = (
    "\n| alteration | origin found % | false origin % | same subject % | called a copy % | s per slice |\n"
    "|--|--|--|--|--|--|"
)
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


@dataclass(frozen=True, eq=False)
class Truth:
    images: np.ndarray
    subjects: np.ndarray


def measure(queries: np.ndarray, own: np.ndarray, known: np.ndarray, truth: Truth) -> list[float]:
    """Percentages of queries, and seconds of the processor a query: found, false, same subject, copy, seconds.

    Args:
        queries: uint8 (Q, H, W), altered slices.
        own: int64 (Q,), the slice that each was made of.
        known: int64 (R,), slices that are references.
        truth: all slices, and their subjects.
    """
    began = time.process_time()
    found = find_copies(queries, truth.images[known])
    seconds = time.process_time() - began
    first, certain = known[found.origin], found.certain
    shared = np.isin(truth.subjects[own], truth.subjects[known])
    same = certain & (truth.subjects[first] == truth.subjects[own])
    right = (certain & (first == own))[shared].mean()
    shares = [right, (certain & ~same).mean(), same[shared].mean(), found.copy[shared].mean()]
    return [*(100 * float(share) for share in shares), seconds / len(queries)]


def run(truth: Truth, change: Alteration, seed: int, queries: int, references: int | None, whole: bool) -> list[float]:
    """Alter slices of references and of held-out subjects, as many of each, and look for their origins."""
    rng = default_rng([seed, 1])
    held = np.isin(truth.subjects, rng.choice(np.unique(truth.subjects), HELD_OUT, replace=False))
    known = rng.permutation(np.flatnonzero(~held))[:references]
    own, strange = rng.choice(known, queries, replace=False), rng.choice(np.flatnonzero(held), queries, replace=False)
    made_of = np.concatenate([own, strange])
    altered = alter(truth.images[made_of], change, rng)
    return measure(altered, made_of, known if whole else np.setdiff1d(known, own), truth)


def main() -> None:
    images = read(os.environ["MRISCOPE_DATA"]).images
    truth, kept = Truth(images, recover_subjects(images).subjects), Kept("copies")
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, commit {kept.commit}; "
        f"{QUERIES} + {QUERIES} queries, {SEEDS} seeds"
    )

    def show(title: str, changes: tuple[Alteration, ...], queries: int, references: int | None, whole: bool) -> None:
        print(f"\n{title}\n{HEADER}", flush=True)
        for change in changes:
            seeds = {f"{title}, {change.__name__}, seed {seed}": seed for seed in range(SEEDS)}
            draws = [
                kept.get(key, partial(run, truth, change, seed, queries, references, whole))
                for key, seed in seeds.items()
            ]
            print_row(change.__name__, draws)

    show("Origins among the references", (*ALONE, everything), QUERIES, None, True)
    title = "Origins taken out of the references, which hold their neighbours"
    show(title, (rotate, everything), QUERIES, None, False)
    show("200 copies of 200 references, and 200 slices of held-out subjects", (everything,), 200, 200, True)
    title, every = "Copies of all slices, and all slices as references", np.arange(len(images))
    print(f"\n{title}\n{HEADER}", flush=True)
    copies = alter(images, everything, default_rng(0))
    print_row("everything", [kept.get(title, lambda: measure(copies, every, every, truth))])


def print_row(name: str, draws: list[list[float]]) -> None:
    *shares, seconds = np.mean(draws, axis=0)
    print(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} | {seconds:.4f} |", flush=True)


if __name__ == "__main__":
    main()
