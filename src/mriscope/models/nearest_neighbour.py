"""1-nearest-neighbour on pixels: the control in every table of subject-disjoint metrics."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.models.registration import register_estimator

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet

_ROWS = 512  # slices compared at once; 512 rows of distances to 100,000 slices are 200 MB


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
        seen = self.images.flatten(1).amax(dim=0) > 0  # what is black in every remembered slice is as far from all
        known = self.images.flatten(1)[:, seen].float() / 255
        halves = known.square().sum(dim=1) / 2
        found = []
        for start in range(0, len(images), _ROWS):
            rows = torch.from_numpy(np.array(images[start : start + _ROWS])).to(known.device)
            queries = rows.flatten(1)[:, seen].float() / 255  # the length of a query is the same for all candidates
            found.append((halves - queries @ known.T).argmin(dim=1))
        return torch.cat(found)


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
