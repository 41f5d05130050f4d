"""Tell slices that are unlike those of training, by their distance in the network's own features.

The distance is that of Mahalanobis (Lee et al., 2018, "A simple unified framework for detecting out-of-distribution
samples"), under a Gaussian of full rank whose directions beyond the leading ones share a single variance (probabilistic
principal components; Tipping and Bishop, 1999). Features keep a coarse grid, as anatomy is recognised by where it lies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mriscope.choices import Scale
from mriscope.data.batches import scaled
from mriscope.data.slices import UNKNOWN
from mriscope.errors import DataError, RunError
from mriscope.evaluation.inference import eval_mode
from mriscope.files import check_file, write_bytes
from mriscope.results import DistanceThreshold

LEVEL = 0.99
_GRIDS = (4, 2, 1)
_MOST_FEATURES = 2048
_COMPONENTS = 64
_MOST_SLICES = 4000
_BATCH = 64
_FEWEST_SUBJECTS = 5


@dataclass(frozen=True)
class FeatureReference:
    """The features of the training slices, summed up.

    Attributes:
        mean: float32 (D,).
        components: float32 (D, C), orthonormal directions of most variance.
        scales: float32 (C,), variance along each.
        residual: float32 (), variance along each direction beyond.
    """

    mean: Tensor
    components: Tensor
    scales: Tensor
    residual: Tensor

    def write(self, path: str | Path) -> None:
        """Write it as a safetensors file, whole or not at all."""
        write_bytes(path, save({name: getattr(self, name).contiguous() for name in self.__dataclass_fields__}))

    @classmethod
    def read(cls, path: str | Path) -> "FeatureReference":
        """Read what `write` wrote.

        Raises:
            RunError: the file is missing, damaged, or holds something else.
        """
        try:
            check_file(path)
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in cls.__dataclass_fields__}
        except Exception as error:  # a damaged header may fail in any way
            raise RunError(f"{path} is missing or damaged; train the run again with --fresh") from error
        if not all(tensor.isfinite().all() for tensor in found.values()):
            raise RunError(f"{path} holds numbers that are not finite; train the run again with --fresh")
        return cls(**found)


def grid_features(maps: Tensor) -> Tensor:
    """Average a network's last maps over a coarse grid.

    Args:
        maps: float (B, C, h, w), or tokens (B, N, C), which are averaged.

    Returns:
        float (B, D), D at most 2,048 where C is.

    Raises:
        DataError: the features have another shape.
    """
    if not isinstance(maps, Tensor) or maps.ndim not in (3, 4):
        found = f"the shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else f"the type {type(maps).__name__}"
        raise DataError(f"the network's features have {found}; maps (B, C, h, w) or tokens (B, N, C) are needed")
    if maps.ndim == 3:
        return maps.mean(dim=1)
    sides = [side for side in _GRIDS if maps.shape[1] * side**2 <= _MOST_FEATURES and _divides(side, maps.shape)]
    return nn.functional.adaptive_avg_pool2d(maps, sides[0] if sides else 1).flatten(1)


def fit_reference(features: np.ndarray) -> FeatureReference:
    """Sum up the features of training slices.

    Args:
        features: float (N, D), N at least 2.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    count, width = centred.shape
    if count < width:  # the smaller of the two matrices that have the same eigenvalues
        values, vectors = np.linalg.eigh(centred @ centred.T / (count - 1))
        directions = centred.T @ vectors / np.sqrt(np.maximum(values * (count - 1), 1e-12))
    else:
        values, directions = np.linalg.eigh(centred.T @ centred / (count - 1))
    kept = min(_COMPONENTS, count - 1, width)
    leading, components = values[::-1][:kept], directions[:, ::-1][:, :kept]
    rest = max(float(np.square(centred).sum() / (count - 1) - leading.sum()), 0.0) / max(width - kept, 1)
    floor = max(rest, 1e-6 * float(leading[0]), 1e-12)  # constant features have no variance at all
    return FeatureReference(
        mean=torch.from_numpy(features.mean(axis=0, dtype=np.float64).astype(np.float32)),
        components=torch.from_numpy(np.ascontiguousarray(components, np.float32)),
        scales=torch.from_numpy(np.maximum(leading, floor).astype(np.float32)),
        residual=torch.tensor(floor, dtype=torch.float32),
    )


def distances(features: Tensor, reference: FeatureReference) -> Tensor:
    """Compute the distance of slices from those of training.

    Args:
        features: float32 (B, D).
        reference: what fit_reference gave, on the same device.

    Returns:
        float32 (B,): the root of the mean over directions of squared deviations in standard deviations; about 1 for
        slices like those of training.
    """
    centred = features - reference.mean
    inside = centred @ reference.components
    beyond = (centred - inside @ reference.components.T).square().sum(dim=1)  # a difference of squares would cancel
    squared = (inside.square() / reference.scales).sum(dim=1) + beyond / reference.residual
    return (squared / features.shape[1]).sqrt()


def fit_threshold(distances: np.ndarray, subjects: np.ndarray, *, level: float = LEVEL) -> DistanceThreshold:
    """Fit the distance from which on a slice is out of distribution.

    Subjects differ more than the slices of one: the 99th percentile of all validation slices would flag 5 % of the
    slices of new ones. So the logarithms of each subject's own percentile are taken for draws of a normal distribution,
    and the threshold is the one-sided prediction bound for a new draw (Hahn and Meeker, 1991, section 4.8).

    Args:
        distances: float (N,), of validation slices; over 0.
        subjects: int64 (N,); -1 where unknown.
        level: share of the slices of a subject, and of subjects, in (0, 1).
    """
    numbers = np.unique(subjects)
    if UNKNOWN in numbers or len(numbers) < _FEWEST_SUBJECTS:
        value = float(np.quantile(distances, level))
        return DistanceThreshold(value=value, level=level, unit="slice", n_units=len(distances))
    from scipy.special import stdtrit

    percentiles = [np.quantile(distances[subjects == number], level) for number in numbers]
    logs = np.log(np.maximum(percentiles, 1e-6))  # features of a network without weights are all equal
    count = len(numbers)
    margin = stdtrit(count - 1, level) * logs.std(ddof=1) * np.sqrt(1 + 1 / count)
    return DistanceThreshold(value=float(np.exp(logs.mean() + margin)), level=level, unit="subject", n_units=count)


def compute_features(network: nn.Module, images: np.ndarray, scale: Scale) -> np.ndarray:
    """Compute the features of slices, in evaluation mode and without gradients.

    Args:
        network: with a part `features`.
        images: uint8 (N, H, W).
        scale: as the network was trained.

    Returns:
        float32 (N, D).
    """
    device = next(network.parameters()).device
    with eval_mode(network), torch.inference_mode():
        return np.concatenate([_features_of(network, batch.to(device), scale) for batch in _batches(images)])


def choose_slices(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows that a reference is fitted on: all, or a random 4,000 of them."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:_MOST_SLICES]
    return rows[np.sort(drawn)]


def _features_of(network: nn.Module, images: Tensor, scale: Scale) -> np.ndarray:
    features = network.get_submodule("features")
    return grid_features(features(scaled(images, scale))).float().cpu().numpy()


def _batches(images: np.ndarray) -> Iterator[Tensor]:
    for start in range(0, len(images), _BATCH):
        yield torch.from_numpy(np.array(images[start : start + _BATCH]))


def _divides(side: int, shape: tuple[int, ...] | torch.Size) -> bool:
    """Tell whether the grid's cells are equal, as ONNX knows no others."""
    return shape[2] % side == 0 and shape[3] % side == 0
