"""Three small networks that see all slices of a subject as one volume, and their average with the tissue families.

    python3 run.py bench honest_networks

Reads the source that MRISCOPE_DATA names. Folds are a development draw, as networks were found not worth a look at the
draws of `bench honest`: Non vs demented, one training of each network for each fold, 20 epochs.
"""

import math
import os
import time
from collections.abc import Callable

import honest
import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn import functional

from mriscope.data.slices import SliceSet
from mriscope.evaluation.predictions import Predictions
from mriscope.models.tissue import BINS, normalize_volume
from mriscope.models.tissue_families import TAKEN, sort_families
from mriscope.recipe import make_recipe
from mriscope.workflows._load import load

DRAW = 100
TRAININGS, EPOCHS, BATCH, RATE, DECAY = 1, 20, 16, 3e-3, 0.1
CELLS = (8, 16, 16)
VERSIONS = 8  # of each subject: as it is, and seven turned, shifted, scaled and re-exposed
STEPS = torch.tensor([1.0, 0.5, 0.1])  # what "worse than Non", than Very mild and than Mild weigh in the loss


def block(
    kind: Callable[..., nn.Module], before: int, width: int, kernel: int, stride: int | tuple[int, ...]
) -> nn.Sequential:
    """Convolution in two or three dimensions, batch norm, ReLU."""
    norm = nn.BatchNorm2d if kind is nn.Conv2d else nn.BatchNorm3d
    convolution = kind(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, norm(width), nn.ReLU(inplace=True))


def flat_network() -> nn.Module:
    """2.5-D: 16 slices of 64×64 are the channels of one image."""
    blocks = [block(nn.Conv2d, 16, 32, 5, 2), block(nn.Conv2d, 32, 64, 3, 2), block(nn.Conv2d, 64, 64, 3, 2)]
    return nn.Sequential(nn.Flatten(1, 2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head(64))


def volume_network() -> nn.Module:
    """3-D: 16×64×64 grey values."""
    blocks = [
        block(nn.Conv3d, 1, 8, 5, (2, 4, 4)),
        block(nn.Conv3d, 8, 32, 3, (1, 2, 2)),
        block(nn.Conv3d, 32, 64, 3, 2),
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool3d(1), nn.Flatten(), *head(64))


def cell_network() -> nn.Module:
    """3-D: the histogram of grey values in each of 8×16×16 cells."""
    blocks = [block(nn.Conv3d, BINS, 16, 1, 1), block(nn.Conv3d, 16, 32, 3, (1, 2, 2)), block(nn.Conv3d, 32, 64, 3, 2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool3d((2, 2, 1)), nn.Flatten(), *head(256))


def head(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.Dropout(0.5), nn.Linear(width, len(STEPS))


NETWORKS = {
    "2.5-D": (flat_network, "grey"),
    "3-D": (volume_network, "grey"),
    "3-D on histograms": (cell_network, "cells"),
}


def versions(slices: SliceSet) -> dict[str, Tensor]:
    """Float16 (VERSIONS, n, C, D, H, W) of every subject: grey values and histograms of cells."""
    generator = torch.Generator().manual_seed(0)
    grey, cells = [], []
    for subject in np.unique(slices.subjects):
        rows = np.flatnonzero(slices.subjects == subject)
        volume = torch.from_numpy(normalize_volume(slices.images[rows[np.argsort(slices.positions[rows])]])).clamp(
            0, 1.3
        )
        seen = [volume] + [turned(volume, generator) for _ in range(VERSIONS - 1)]
        grey.append(torch.stack([functional.avg_pool3d(one[None], 2) - 0.4 for one in seen]).half())
        cells.append(torch.stack([histograms(one) - 0.15 for one in seen]).half())
    return {"grey": torch.stack(grey, dim=1), "cells": torch.stack(cells, dim=1)}


def turned(volume: Tensor, generator: torch.Generator) -> Tensor:
    """Up to 8 degrees, 3 % of the side, 6 % in scale (9 % along one axis), 3 % in gain and a tenth in gamma."""
    a, s, r, x, y, gain, gamma = (torch.rand(7, generator=generator) * 2 - 1).tolist()
    angle, across, along = np.deg2rad(8 * a), 1 + 0.06 * s, (1 + 0.06 * s) * (1 + 0.03 * r)
    matrix = [
        [np.cos(angle) * across, -np.sin(angle) * along, 0.06 * x],
        [np.sin(angle) * across, np.cos(angle) * along, 0.06 * y],
    ]
    grid = functional.affine_grid(torch.tensor([matrix]).float(), [1, *volume.shape], align_corners=False)
    moved = functional.grid_sample(volume[None], grid, align_corners=False)[0]
    return (moved * (1 + 0.03 * gain)).clamp(min=0) ** (1 + 0.1 * gamma)


def histograms(volume: Tensor) -> Tensor:
    """Square roots of the share of each grey value in each of 8×16×16 cells: (BINS, 8, 16, 16)."""
    codes = (volume * 10).long().clamp(0, BINS - 1)
    sides = zip(volume.shape, CELLS, strict=True)
    parts = (torch.arange(cells).repeat_interleave(side // cells) for side, cells in sides)
    z, y, x = torch.meshgrid(*parts, indexing="ij")
    cell = (z * CELLS[1] + y) * CELLS[2] + x
    counts = torch.bincount((codes * math.prod(CELLS) + cell).ravel(), minlength=BINS * math.prod(CELLS))
    return (counts * math.prod(CELLS) / volume.numel()).sqrt().reshape(BINS, *CELLS)


def train(make: Callable[[], nn.Module], seen: Tensor, severity: np.ndarray, rows: np.ndarray, seed: int) -> nn.Module:
    """Ordinal steps, AdamW, one cycle; a running mean of the weights is what is kept."""
    torch.manual_seed(seed)
    draw, network = np.random.default_rng(seed), make()
    decay = [
        {"params": [w for w in network.parameters() if (w.ndim > 1) == many], "weight_decay": DECAY * many}
        for many in (True, False)
    ]
    optimizer = torch.optim.AdamW(decay, lr=RATE)
    batches = len(rows) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=batches * EPOCHS)
    running = torch.optim.swa_utils.get_ema_multi_avg_fn(0.98)
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=running, use_buffers=True)
    worse = torch.from_numpy((severity[:, None] > np.arange(len(STEPS))).astype(np.float32)) * 0.95 + 0.025
    for _ in range(EPOCHS):
        for chosen in draw.permutation(rows)[: batches * BATCH].reshape(batches, BATCH):
            given = seen[draw.integers(0, VERSIONS, BATCH), chosen].float()
            mirrored = torch.from_numpy(draw.random(BATCH) < 0.5)
            given[mirrored] = given[mirrored].flip(-1)
            loss = functional.binary_cross_entropy_with_logits(network(given), worse[chosen], STEPS.expand(BATCH, -1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(network)
    return mean.module.eval()


@torch.no_grad()
def judge(network: nn.Module, seen: Tensor) -> np.ndarray:
    """Logits of "worse than Non", of each volume and its mirror image averaged."""
    volumes = seen[0].float()
    return ((network(volumes) + network(volumes.flip(-1)))[:, 0] / 2).numpy()


def cross_validate(severity: np.ndarray, described: np.ndarray, seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Scores of every subject by each network and by the average of the five best families."""
    found = {name: np.zeros(len(severity)) for name in (*NETWORKS, "families")}
    folds = StratifiedKFold(honest.FOLDS, shuffle=True, random_state=DRAW).split(severity, np.minimum(severity, 2))
    for fold, (rows, test) in enumerate(folds):
        ill = (severity[rows] > 0).astype(int)
        known, asked = honest.fit_families(described[rows], described[test], ill, 2)
        found["families"][test] = honest.averaged(asked, sort_families(known, ill)[:TAKEN]) @ [-1, 1]
        for name, (make, kind) in NETWORKS.items():
            for seed in range(TRAININGS):
                network = train(make, seen[kind], severity, rows, 1000 * fold + seed)
                found[name][test] += judge(network, seen[kind][:, test]) / TRAININGS
        print(f"fold {fold + 1} of {honest.FOLDS} done", flush=True)
    return found


def with_averages(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Beside each score, standardised over all subjects, averages of equal weights."""
    alike = {name: (score - score.mean()) / score.std() for name, score in found.items()}
    networks = np.mean([alike[name] for name in NETWORKS], axis=0)
    both = {f"{name} + families": alike[name] + alike["families"] for name in NETWORKS}
    return {**alike, "networks": networks, **both, "networks + families": networks / networks.std() + alike["families"]}


def main() -> None:
    started = time.perf_counter()
    source = os.environ.get("MRISCOPE_DATA", "../shared/data/alzheimer_mri")
    slices = load(source, recipe=make_recipe({"model": "tissue_families"})).slices
    severity, described = honest.describe_subjects(slices)
    seen = versions(slices)
    print(f"subjects described after {time.perf_counter() - started:.0f} s", flush=True)
    found = with_averages(cross_validate(severity, described, seen))
    ill, subjects = (severity > 0).astype(int), np.arange(len(severity))
    for name, score in found.items():
        likely = 1 / (1 + np.exp(-score))
        judged = np.stack([1 - likely, likely], axis=1)
        close = np.corrcoef(score, found["families"])[0, 1]
        honest.show(name, f"r {close:.2f}", [Predictions.of(ill, judged, subjects=subjects, class_names=["0", "1"])])
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
