"""Pieces of brains whose heights are known, so that joining alone is judged."""

from dataclasses import dataclass

import numpy as np
import pytest
from audit_sets import strangers

from mriscope.audit.heights import Heights
from mriscope.audit.joining import join_pieces
from mriscope.audit.similarity import standardised
from mriscope.data.slices import SliceSet


@dataclass(frozen=True, eq=False)
class Pieces:
    """Brains cut in two, with the links within the pieces, and true heights."""

    slices: SliceSet
    groups: np.ndarray
    pairs: np.ndarray

    def joined(self, images: np.ndarray, *, proven: bool) -> np.ndarray:
        heights = Heights(self.slices.positions.astype(float), 1.5, np.zeros(len(self.slices), np.int64))
        return join_pieces(standardised(images), self.groups, self.pairs, heights, proven=proven)


def cut(slices: SliceSet, first: int, width: int) -> Pieces:
    kept = slices[(slices.positions < first) | (slices.positions >= first + width)]
    groups = 2 * kept.subjects + (kept.positions >= first)
    groups = np.unique(groups, return_inverse=True)[1]
    rows = np.flatnonzero(np.diff(groups, append=-1) == 0)
    return Pieces(kept, groups, np.stack([rows, rows + 1], axis=1))


@pytest.mark.parametrize("proven", [True, False])
def test_pieces_are_joined_with_those_of_their_own_brain_alone(phantom_brains: SliceSet, proven: bool) -> None:
    pieces = cut(phantom_brains, 14, 1)
    groups = pieces.joined(pieces.slices.images, proven=proven)
    assert strangers(pieces.slices.subjects, groups) == 0
    assert len(np.unique(groups)) < (48 if proven else 36)


def test_pieces_of_noise_are_not_joined(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 2)
    images = np.random.default_rng(0).integers(0, 256, (len(pieces.groups), 32, 32), np.uint8)
    assert pieces.joined(images, proven=True).tolist() == pieces.groups.tolist()


def test_whole_brains_have_nothing_to_be_joined_with(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 0)
    whole = Pieces(pieces.slices, pieces.slices.subjects, np.stack([rows := np.arange(767), rows + 1], axis=1))
    linked = whole.slices.subjects[whole.pairs]
    whole = Pieces(whole.slices, whole.groups, whole.pairs[linked[:, 0] == linked[:, 1]])
    assert whole.joined(whole.slices.images, proven=False).tolist() == whole.groups.tolist()


def test_without_heights_nothing_is_joined(phantom_brains: SliceSet):
    pieces = cut(phantom_brains, 14, 1)
    unknown = Heights(np.full(len(pieces.groups), np.nan), np.inf, np.full(len(pieces.groups), -1))
    rows = standardised(pieces.slices.images)
    found = join_pieces(rows, pieces.groups, pieces.pairs, unknown, proven=False)
    assert found.tolist() == pieces.groups.tolist()
