"""1-nearest-neighbour on pixels: the control in every table of subject-disjoint metrics."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.models.registration import register_estimator

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

_ROWS = 512  # slices compared at once; 512 rows of distances to 100,000 slices are 200 MB, or 400
_MOST_BYTES = 2**17  # pixels whose products, of at most 2**14 each, sum up to less than 2**31


class NearestNeighbour(nn.Module):
    """Remember the training slices; predict the label of the nearest by Euclidean distance of pixels.

    Args:
        classes: number of classes.
        size: height and width of a slice in pixels.
    """

    images: Tensor
    labels: Tensor

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("images", torch.zeros(0, size, size, dtype=torch.uint8))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_resize_buffers)

    def fit(self, slices: "SliceSet", seed: int) -> None:
        """Remember every slice; nothing is drawn, so the seed changes nothing."""
        device = self.labels.device
        self.images, self.labels = (torch.from_numpy(np.array(a)).to(device) for a in (slices.images, slices.labels))

    def predict_probabilities(self, slices: "SliceSet") -> np.ndarray:
        """Return float32 (N, K): 1 for the label of the nearest training slice, the first of several as near."""
        nearest = self.find_nearest(slices.images)
        return np.eye(self.classes, dtype=np.float32)[self.labels[nearest].cpu().numpy()]

    def find_nearest(self, images: np.ndarray) -> Tensor:
        """Return int64 (N,), the row of the training slice nearest to each of uint8 (N, H, W)."""
        remembered = self.images.flatten(1)
        seen = remembered.amax(dim=0).nonzero()[:, 0]  # what is black in every remembered slice is as far from all
        known = remembered.index_select(1, seen)
        rank = _rank_by_bytes(known) if _multiplies_bytes(known) else _rank_by_floats(known)
        found = []
        for start in range(0, len(images), _ROWS):
            rows = torch.from_numpy(np.array(images[start : start + _ROWS])).to(known.device)
            found.append(rank(rows.flatten(1).index_select(1, seen)).argmin(dim=1))
        return torch.cat(found)


def _multiplies_bytes(known: Tensor) -> bool:
    """Return whether products of bytes have instructions of their own, and sums of them fit 32 bits."""
    fast = any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_vnni", "amx_int8"))
    return fast and known.device.type == "cpu" and 0 < known.shape[1] < _MOST_BYTES


def _rank_by_bytes(known: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what computes squared distances to known slices less the length of a query, exactly; int64 (B, N)."""
    near = _centred(known)
    lengths = torch.from_numpy(np.einsum("np,np->n", near.numpy(), near.numpy(), dtype=np.int32)).long()

    def rank(queries: Tensor) -> Tensor:
        return lengths - 2 * torch.ops.aten._int_mm(_centred(queries), near.T).long()

    return rank


def _rank_by_floats(known: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what computes half the squared distances to known slices less the length of a query; float32 (B, N)."""
    near = known.float() / 255
    halves = near.square().sum(dim=1) / 2
    return lambda queries: halves - (queries.float() / 255) @ near.T


def _centred(pixels: Tensor) -> Tensor:
    """Return uint8 less 128, as int8: distances stay what they are."""
    return (pixels ^ 128).view(torch.int8)


@register_estimator
def nearest_neighbour(*, classes: int = 4, size: int = 128) -> nn.Module:
    """1-nearest-neighbour on raw pixels: no training, and all but perfect where a split shares subjects."""
    return NearestNeighbour(classes, size)


def _resize_buffers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Resize the buffers to those of a state, as only the state has the number of remembered slices."""
    for name in ("images", "labels"):
        own, given = module.get_buffer(name), state.get(prefix + name)
        if given is not None and given.shape[1:] == own.shape[1:]:
            setattr(module, name, torch.empty_like(given, device=own.device))
