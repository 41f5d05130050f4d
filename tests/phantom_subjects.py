"""Phantom subjects for the tests of models that look at whole subjects."""

import numpy as np

from mriscope.data.phantom import make_brain
from mriscope.data.slices import SliceSet

WELL, ILL = 2, 0  # Non_Demented, Mild_Demented


def brains(first: int, count: int, slices: int = 6, size: int = 64) -> SliceSet:
    """Brains of which every second one is ill."""
    images = [make_brain(subject, severity=subject % 2, slices=slices, size=size)[0] for subject in range(first, count)]
    subjects = np.arange(first, count).repeat(slices)
    labels = np.where(subjects % 2, ILL, WELL)
    return SliceSet.of(np.concatenate(images), labels, subjects=subjects, positions=np.tile(range(slices), len(images)))
