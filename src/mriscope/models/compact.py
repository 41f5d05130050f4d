"""Small networks for a CPU: one for the folds of subject-disjoint evaluation, one for the published split."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mriscope.errors import DataError, RecipeError
from mriscope.models.registration import register

if TYPE_CHECKING:
    from mriscope.data.slices import SliceSet


def conv_block(before: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution (without bias, as batch norm has one), batch norm and ReLU; the stride alone downsamples."""
    convolution = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class CompactCNN(nn.Module):
    """Strided convolutions down to a sixteenth of the side, global average pooling, and one linear layer.

    Args:
        classes: number of outputs.
        dropout: share of the pooled channels dropped before the output.
    """

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, 16, 7, 4),  # most of a small network's time goes into its first, large maps
            conv_block(16, 32, 3, 2),
            conv_block(32, 64, 3, 2),
            conv_block(64, 64, 3, 1),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(64, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, H, W)."""
        return self.head(self.pool(self.features(images)))


@register
def compact_cnn(*, classes: int = 4, size: int = 128, dropout: float = 0.3) -> nn.Module:
    """Four strided convolutions with batch norm, global average pooling and dropout: 61 thousand weights."""
    return CompactCNN(classes, dropout)


class PlaceCNN(nn.Module):
    """Convolutions, and one linear layer that reads their map by place.

    Slices that are registered show the same anatomy at the same place, so that the head keeps places apart where
    `places` is above 1.

    Args:
        features: from float32 (B, 1, H, W) to maps (B, channels, h, w).
        channels: of those maps.
        classes: number of outputs.
        places: side of the map that the head reads; 1 is the mean over all places.
        dropout: share of the head's inputs dropped.
        mirror: in evaluation, predict with the mean of the logits of a slice and of its mirror image.
    """

    def __init__(
        self, features: nn.Module, channels: int, classes: int, places: int, dropout: float, mirror: bool
    ) -> None:
        super().__init__()
        self.mirror = mirror
        self.features = features
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(places), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels * places**2, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, H, W)."""
        logits = self._logits(images)
        return (logits + self._logits(images.flip(-1))) / 2 if self.mirror and not self.training else logits

    def _logits(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.features(images)))


class StridedCNN(PlaceCNN):
    """Three strided convolutions down to a sixteenth of the side, and a head that reads by place.

    That tells one brain from another better than a mean over the map does, which is all that the published split asks
    for.

    Args:
        classes: number of outputs.
        width: channels of the first convolution; the last has four times as many.
        places: as of PlaceCNN; so are dropout and mirror.
    """

    def __init__(self, classes: int, width: int, places: int, dropout: float, mirror: bool) -> None:
        features = nn.Sequential(
            conv_block(1, width, 7, 4), conv_block(width, 2 * width, 3, 2), conv_block(2 * width, 4 * width, 3, 2)
        )
        super().__init__(features, 4 * width, classes, places, dropout, mirror)


@register
def strided_cnn(
    *, classes: int = 4, size: int = 128, width: int = 32, places: int = 8, dropout: float = 0.2, mirror: bool = False
) -> nn.Module:
    """Three strided convolutions whose head reads 8×8 places: the published split in seconds on a CPU."""
    return StridedCNN(classes, width, places, dropout, mirror)


class SubjectCNN(StridedCNN):
    """A strided network that learns whose brain a slice shows, and gives the class of that subject.

    It has an output for each subject of the training part, and trains on nothing but who that is. The logit of a class
    is the log-sum-exp over the outputs of its subjects, so that its probabilities are those of the subjects, summed.

    Args:
        classes: number of classes.
        subjects: number of outputs, at least as many as the training part has subjects.
        width: as of StridedCNN; so are places, dropout and mirror.
    """

    class_of_subject: Tensor
    """int64 (subjects,), kept with the weights; `classes` marks an output that stands for no subject."""

    def __init__(self, classes: int, subjects: int, width: int, places: int, dropout: float, mirror: bool) -> None:
        super().__init__(subjects, width, places, dropout, mirror)
        self.classes, self.names_subjects = classes, False
        self.register_buffer("class_of_subject", torch.arange(subjects) % classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), of float32 (B, 1, H, W); of subjects within `learning_subjects`."""
        logits = super().forward(images)
        if self.names_subjects:
            return logits
        least = torch.finfo(logits.dtype).min
        others = self.class_of_subject != torch.arange(self.classes, device=logits.device)[:, None]
        return logits[:, None].masked_fill(others, least).logsumexp(dim=2)

    @contextmanager
    def learning_subjects(
        self, slices: "SliceSet", training: np.ndarray, validation: np.ndarray
    ) -> Iterator["SliceSet"]:
        """Let the network name subjects within a block, and give the slices with the subjects as their classes.

        Args:
            slices: of the run; a subject of two classes counts as one for each.
            training: int64, the training rows; their subjects are learned.
            validation: int64, rows of the same subjects.

        Raises:
            DataError: subjects are unknown, or those of the validation rows are not in training.
            RecipeError: there are more subjects than outputs.
        """
        if (slices.subjects[training] < 0).any():
            raise DataError("subject_cnn learns subjects, and some slices have none; name them in a manifest")
        codes = slices.subjects * self.classes + slices.labels
        known, outputs = np.unique(codes[training]), len(self.class_of_subject)
        if len(known) > outputs:
            problem = f"is {outputs}, and the training part has {len(known)} subjects; raise it"
            raise RecipeError("model_options.subjects", [problem])
        if not np.isin(codes[validation], known).all():
            problem = "subject_cnn learns whose brain a slice shows, and validation has subjects that training lacks"
            raise DataError(f"{problem}; take a split by slice")
        owners = torch.full((outputs,), self.classes)
        owners[: len(known)] = torch.from_numpy(known % self.classes)
        self.class_of_subject.copy_(owners)
        self.names_subjects = True
        try:
            # Rows of other subjects, which get any label, are never looked at.
            labels = np.searchsorted(known, codes).clip(max=len(known) - 1)
            yield replace(slices, labels=labels, class_names=tuple(map(str, range(len(known)))))
        finally:
            self.names_subjects = False


@register
def subject_cnn(
    *,
    classes: int = 4,
    size: int = 128,
    subjects: int = 200,
    width: int = 32,
    places: int = 8,
    dropout: float = 0.3,
    mirror: bool = False,
) -> nn.Module:
    """Three strided convolutions that learn whose brain it is, and give that subject's class."""
    return SubjectCNN(classes, subjects, width, places, dropout, mirror)
