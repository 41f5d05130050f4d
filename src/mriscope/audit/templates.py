"""One pose for all slices, found from the slices themselves: that of templates which they are registered to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mriscope.audit.registration import Similarity, correlation, register, sample
from mriscope.audit.similarity import unit

if TYPE_CHECKING:
    from torch import Tensor

COARSE = 32
"""Pixels along the longer side at which slices are registered to templates."""
BLOCK = 256
"""Slices at once."""
_ANGLES = tuple(range(-18, 19, 6))  # degrees
_ZOOMS = tuple(1.1**step for step in range(-2, 5))  # 0.83 to 1.46; a crop to 80 % enlarges 1.25 times
_SHIFTS = tuple(step / 16 for step in range(-3, 4))  # of the longer side
_TEMPLATES = (1, 1, 4, 16)  # of each round
_TEMPLATE_DIMENSIONS = 96


@dataclass(frozen=True, eq=False)
class Atlas:
    """Templates, each in all poses, as rows of few dimensions."""

    templates: "Tensor"  # float32 (K, h, w)
    poses: Similarity  # P
    directions: "Tensor"  # float32 (h · w, D)
    rows: "Tensor"  # float32 (K · P, D), unit length

    def locate(self, images: "Tensor") -> Similarity:
        """Find where each image lies in the template it resembles most; images float32 (B, h, w)."""
        import torch

        count = len(self.poses.turn)
        best = (unit_rows(images) @ self.directions @ self.rows.T).argmax(1)
        start, template = self.poses[best % count], self.templates[best // count]
        found = register(images, template, start)
        better = correlation(images, template, found) > correlation(images, template, start)
        turn, move = torch.where(better, found.turn, start.turn), torch.where(better, found.move, start.move)
        return Similarity(turn, move)


def build_atlas(images: "Tensor") -> Atlas:
    """Find templates in one common pose: means of clusters of the images, which are brought to those of the last round.

    The first template is one image, the next their mean, sharper each time (congealing; Learned-Miller, 2006).
    """
    import torch
    from sklearn.cluster import MiniBatchKMeans

    rows = unit_rows(images)
    atlas = _pose_templates(images[(rows @ rows.mean(0)).argmax()][None])
    for most in _TEMPLATES:
        located = torch.cat([sample(some, atlas.locate(some).inverse())[0] for some in images.split(BLOCK)])
        count = min(most, max(1, len(images) // 8))
        clusters = MiniBatchKMeans(count, n_init="auto", batch_size=1500, max_iter=10, random_state=0)
        labels = torch.from_numpy(clusters.fit_predict(unit_rows(located).cpu().numpy())).long().to(images.device)
        atlas = _pose_templates(torch.stack([located[labels == one].mean(0) for one in labels.unique()]))
    return atlas


def _pose_templates(templates: "Tensor") -> Atlas:
    import torch

    device, side = templates.device, max(templates.shape[1:])
    angles, zooms, shifts = (
        torch.tensor(grid, dtype=torch.float32, device=device) for grid in (_ANGLES, _ZOOMS, _SHIFTS)
    )
    angle, zoom, down, right = (one.flatten() for one in torch.meshgrid(angles, zooms, shifts, shifts, indexing="ij"))
    turn = torch.polar(1 / zoom, torch.deg2rad(angle))
    poses = Similarity(turn, -turn * torch.complex(right, down) * side)
    count = len(turn)
    posed = [unit_rows(sample(one.expand(count, -1, -1), poses)[0]) for one in templates]
    if len(templates) == 1:  # so few rows need no reduction
        return Atlas(templates, poses, torch.eye(posed[0].shape[1], device=device), posed[0])
    some = torch.cat([one[i % 10 :: 10] for i, one in enumerate(posed)])
    directions = torch.linalg.eigh(some.T @ some)[1][:, -_TEMPLATE_DIMENSIONS:]
    return Atlas(templates, poses, directions, unit(torch.cat([one @ directions for one in posed])))


def unit_rows(images: "Tensor") -> "Tensor":
    """Return the pixels of each image less their mean, at unit length; float32 (B, h · w)."""
    rows = images.flatten(1)
    return unit(rows - rows.mean(1, keepdim=True))


def coarse(images: "Tensor") -> "Tensor":
    """Return images with at most COARSE pixels along the longer side; float32 (B, h, w)."""
    from torch.nn.functional import adaptive_avg_pool2d

    scale = min(1.0, COARSE / max(images.shape[1:]))
    size = (max(1, round(images.shape[1] * scale)), max(1, round(images.shape[2] * scale)))
    return adaptive_avg_pool2d(images[:, None], size)[:, 0]
