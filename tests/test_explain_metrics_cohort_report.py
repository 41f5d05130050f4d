"""mriscope.explain.metrics.cohort_report: which slices are averaged together, their records and what is drawn."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mriscope.data.slices import CLASS_NAMES, UNKNOWN, SliceSet
from mriscope.explain.metrics.cohort_report import describe_cohort, position_thirds
from mriscope.explain.metrics.recommendation import MethodScores
from mriscope.explain.overlays import overlay

MILD, NON = CLASS_NAMES.index("Mild_Demented"), CLASS_NAMES.index("Non_Demented")
CLASSES = np.array([MILD, MILD, MILD, NON, NON, NON])
VALUES = (0.2, 0.2, 0.8, 0.1, 0.3, 0.5)
POSITIONS = np.array([0, 1, 2, 6, 7, 8])
SUBJECTS = np.array([1, 1, 2, 3, 3, 3])


def measured(name: str, values: tuple[float, ...] = VALUES) -> MethodScores:
    maps = torch.tensor(values)[:, None, None].expand(-1, 64, 64)
    return MethodScores(name, name.title(), False, {}, maps)


def some_slices(positions: np.ndarray = POSITIONS, subjects: np.ndarray = SUBJECTS) -> SliceSet:
    images = np.repeat(np.arange(10, 70, 10), 64 * 64).reshape(6, 64, 64).astype(np.uint8)
    return SliceSet.of(images, np.zeros(6, int), subjects=subjects, positions=positions)


def test_thirds_by_hand() -> None:
    assert position_thirds(np.array([8, 0, 2, 3, 5, 6])).tolist() == [2, 0, 0, 1, 1, 2]
    assert position_thirds(np.array([10, 11, 12, 13])).tolist() == [0, 0, 1, 2]
    assert position_thirds(np.array([7, 7])).tolist() == [0, 0]
    assert position_thirds(np.array([0, 5, np.nan])).tolist() == [UNKNOWN] * 3


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(0, 50))
def test_thirds_rise_with_positions_wherever_they_begin(positions: list[int], shift: int) -> None:
    places = np.sort(np.array(positions))
    thirds = position_thirds(places)
    assert thirds[0] == 0
    assert thirds[-1] <= 2
    assert (np.diff(thirds) >= 0).all()
    assert np.array_equal(position_thirds(places + shift), thirds)


def test_groups_say_whom_they_hold_and_one_subject_is_not_drawn() -> None:
    facts, picture = describe_cohort([measured("gradcam")], None, some_slices(), CLASSES, CLASS_NAMES)
    low, high = facts.groups
    # Resamples of the two subjects have means 0.2 (twice the first), 0.4 (three slices) and 0.8 (twice the second).
    assert low.width == pytest.approx(0.6)
    assert (low.class_name, low.third, low.positions, low.n_slices, low.n_subjects) == ("Mild", "low", (0, 2), 3, 2)
    assert (high.class_name, high.third, high.positions) == ("Non-demented", "high", (6, 8))
    assert (high.n_slices, high.n_subjects, high.width) == (3, 1, None)
    assert facts.file == "cohort.png"
    assert picture is not None
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    colours = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    mean_slice = np.full((1, 1), 20, np.uint8)  # of 10, 20 and 30
    for value in (0.4, 0.6):  # the mean map, and its width
        assert tuple(overlay(mean_slice, np.full((1, 1), value, np.float32))[0, 0].tolist()) in colours
    assert (20, 20, 20) in colours


def test_rows_go_from_low_to_high_and_from_mild_to_severe() -> None:
    classes, places = np.array([MILD, NON, MILD, NON, MILD, NON]), np.array([8, 8, 4, 4, 0, 0])
    facts, picture = describe_cohort([measured("gradcam")], None, some_slices(places), classes, CLASS_NAMES)
    assert [(one.third, one.class_name) for one in facts.groups] == [
        (third, name) for third in ("low", "middle", "high") for name in ("Non-demented", "Mild")
    ]
    assert picture is None  # a single slice each
    assert facts.file is None


def test_what_is_unknown_is_said() -> None:
    unknown = np.full(6, UNKNOWN)
    facts, picture = describe_cohort([measured("gradcam")], None, some_slices(unknown, unknown), CLASSES, CLASS_NAMES)
    assert "Positions are unknown" in facts.note
    assert [(one.third, one.positions, one.n_subjects) for one in facts.groups] == [(None, None, None)] * 2
    assert all(one.width is not None and one.width > 0 for one in facts.groups)
    assert picture is not None
    partly, _ = describe_cohort(
        [measured("gradcam")], None, some_slices(subjects=np.array([1, 1, 2, 3, 3, UNKNOWN])), CLASSES, CLASS_NAMES
    )
    assert [one.n_subjects for one in partly.groups] == [None, None]  # as everywhere else on the page


@pytest.mark.parametrize(
    ("names", "recommended", "shown"),
    [
        (("layercam", "gradcam"), "layercam", "layercam"),
        (("layercam", "gradcam"), None, "gradcam"),
        (("layercam", "eigencam"), None, "layercam"),
    ],
)
def test_whose_maps_are_shown(names: tuple[str, ...], recommended: str | None, shown: str) -> None:
    facts, _ = describe_cohort([measured(name) for name in names], recommended, some_slices(), CLASSES, CLASS_NAMES)
    assert facts.method == shown
    assert facts.why == ("the method recommended" if recommended else "no method is recommended")
