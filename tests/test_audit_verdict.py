"""What is proven of test slices, what is excluded and what stays open, in cases written down by hand."""

from dataclasses import replace

import numpy as np
import pytest
from audit_sets import nothing_found, some_brains
from PIL import Image

from mriscope.audit import verdict
from mriscope.audit.copies import Copies, Pose
from mriscope.audit.subjects import RecoveredSubjects, recover_subjects
from mriscope.audit.verdict import (
    CopySearch,
    Evidence,
    Power,
    choose_queries,
    proven_shared,
    search_copies,
    settle,
    weigh,
    with_copies,
)
from mriscope.data.slices import SliceSet

FEW = 3


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def stacks(*heights: list[float]) -> RecoveredSubjects:
    """Groups of slices at these heights, each slice linked to the next of its group."""
    groups = np.repeat(np.arange(len(heights)), [len(one) for one in heights])
    first = np.flatnonzero(np.diff(groups, append=-1) == 0)
    one_family = np.zeros(len(groups), np.int64)
    found = replace(nothing_found(len(groups)), groups=groups, proven=groups, margin=0.5, families=one_family)
    return replace(found, heights=np.concatenate(heights), pairs=np.stack([first, first + 1], axis=1))


def searched(queries: np.ndarray, references: np.ndarray, origin: np.ndarray, proven: bool) -> CopySearch:
    pose = Pose(mirrored=False, angle=0.0, zoom=1.0, shift=(0.0, 0.0))
    score = np.ones(len(queries), np.float32)
    copies = Copies(origin, origin, score, (pose,) * len(queries), origin >= 0, 0.9, 0.001)
    return CopySearch(queries, references, copies, proven)


def test_no_doubt_is_needed_for_leaky_and_none_is_left_for_not_leaky():
    assert Power(shared=1, settled=0, open=9, altered=0, searched=0).leaky is True
    assert Power(shared=0, settled=9, open=1, altered=0, searched=0).leaky is None
    assert Power(shared=0, settled=9, open=0, altered=0, searched=0).leaky is False


def test_test_slices_of_a_proven_group_on_both_sides_are_shared():
    assert proven_shared(rows(0, 0, 1, 2, 1), rows(1, 3, 4), rows(0, 2)).tolist() == [True, False, True]


def test_only_slices_proven_to_be_of_none_of_the_other_brains_are_settled():
    #               rows 0 to 8            9 to 10      11 to 12       13
    found = stacks(list(np.arange(9.0)), [3.0, 4.0], [11.0, 12.0], [6.0])
    learned = np.arange(9)
    assert settle(found, np.arange(9, 14), learned).tolist() == [True, True, False, False, True]
    # a slice that links to nobody among the learned ones may be of the brain above it
    assert settle(found, rows(9, 11), np.append(learned, 13)).tolist() == [False, False]
    # nothing is excluded of a slice whose own group is there
    assert settle(found, rows(8), np.arange(8)).tolist() == [False]


def test_a_cut_at_a_hole_settles_nothing():
    found = stacks([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [6.0, 7.0, 8.0], [6.0, 7.0, 8.0])
    assert not settle(found, np.arange(6, 12), np.arange(6)).any()
    evidence = weigh(None, found, None, np.arange(6, 12), np.arange(6), np.zeros(6, bool))
    assert evidence.power == Power(shared=0, settled=0, open=6, altered=0, searched=0)


def test_each_kind_of_proof_counts_and_no_slice_counts_twice():
    found = replace(nothing_found(8), proven=rows(0, 1, 2, 3, 0, 5, 6, 7))
    search = searched(rows(5, 6, 7), rows(0, 1, 2, 3), rows(1, -1, -1), proven=True)
    test, learned = np.arange(4, 8), np.arange(4)
    evidence = weigh(None, found, search, test, learned, np.array([True, False, True, False]))
    assert evidence.shared.tolist() == [True, True, True, False]  # by link and copy, altered copy, copy
    assert evidence.altered.tolist() == [False, True, False, False]
    assert evidence.power == Power(shared=3, settled=0, open=1, altered=1, searched=3)
    chance = replace(search, proven=False)
    assert not weigh(None, found, chance, test, learned, np.zeros(4, bool)).altered.any()


@pytest.mark.parametrize(
    ("named", "shared", "settled"),
    [
        ([0, 1, 2, 0], [False, True], [True, False]),
        ([0, 1, -1, 0], [False, True], [False, False]),  # who is not named may be anybody
        ([0, -1, 2, 0], [False, True], [False, False]),  # and so may one of the training part
    ],
)
def test_names_settle_what_they_name(named: list[int], shared: list[bool], settled: list[bool]) -> None:
    found, search = nothing_found(4), None
    evidence = weigh(np.array(named), found, search, rows(2, 3), rows(0, 1), np.zeros(2, bool))
    assert (evidence.shared.tolist(), evidence.settled.tolist()) == (shared, settled)


def test_copies_come_to_the_brain_of_their_origin():
    found = replace(nothing_found(5), subjects=rows(0, 0, 1, -1, -1), positions=rows(0, 1, 0, -1, -1))
    found = replace(found, groups=rows(0, 0, 1, 2, 3), proven=rows(0, 0, 1, 2, 3))
    search = searched(rows(3, 4), rows(0, 1, 2), rows(1, -1), proven=True)
    joined = with_copies(found, search)
    assert joined.subjects.tolist() == [0, 0, 1, 0, -1]
    assert joined.positions.tolist() == [0, 1, 0, 1, -1]
    for groups in (joined.groups, joined.proven):
        assert groups.tolist() == [0, 0, 1, 0, 2]
    assert with_copies(found, replace(search, proven=False)) is found
    assert with_copies(found, searched(rows(3, 4), rows(0, 1, 2), rows(-1, -1), proven=True)) is found


def test_many_queries_are_drawn_from_as_many_groups_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "SEARCHED", FEW)
    groups = np.array([0] * 10 + [1] * 3 + [2])
    chosen = choose_queries(groups, np.arange(14))
    assert sorted(groups[chosen]) == [0, 1, 2]
    assert choose_queries(groups, np.arange(14)).tolist() == chosen.tolist()
    assert sorted(groups[choose_queries(groups, np.arange(13))]) in ([0, 0, 1], [0, 1, 1])
    assert choose_queries(groups, rows(5, 2, 9)).tolist() == [5, 2, 9]


def test_a_search_for_nothing_finds_nothing():
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32), np.uint8)
    for queries, references in ((np.arange(0), np.arange(40)), (np.arange(20), np.arange(20, 40))):
        search = search_copies(images, queries, references)
        assert not search.proven
        assert search.pairs.shape == (0, 2)


# --- whole sets ---------------------------------------------------------------------------------------------------


def judged(train: SliceSet, test: SliceSet, search: int | None = None) -> Evidence:
    """What is known of a test part when nobody names a subject; altered copies are sought of its first slices."""
    images = np.concatenate([train.images, test.images])
    learned, tested = np.arange(len(train)), len(train) + np.arange(len(test))
    found = recover_subjects(images)
    copies = search_copies(images, tested[:search], learned) if search else None
    evidence = weigh(None, found, copies, tested, learned, np.zeros(len(test), bool))
    truly = np.isin(test.subjects, train.subjects)
    assert not (evidence.settled & truly).any()
    assert not (evidence.shared & ~truly).any()
    return evidence


def by_brain(slices: SliceSet, test: int) -> tuple[SliceSet, SliceSet]:
    """The last so many brains, and those before them."""
    last = slices.subjects > slices.subjects.max() - test
    return slices[~last], slices[last]


def turned(slices: SliceSet, seed: int) -> SliceSet:
    """Each slice mirrored, and turned by 3 to 12 degrees."""
    random = np.random.default_rng(seed)
    angles = random.uniform(3, 12, len(slices)) * random.choice([-1, 1], len(slices))
    images = [Image.fromarray(one[:, ::-1]) for one in slices.images]
    altered = [
        np.asarray(one.rotate(angle, Image.Resampling.BILINEAR)) for one, angle in zip(images, angles, strict=True)
    ]
    return replace(slices, images=np.stack(altered))


def test_whole_phantom_brains_of_other_subjects_are_not_leaky(phantom_brains: SliceSet):
    power = judged(*by_brain(phantom_brains, 6), search=16).power
    assert power == Power(shared=0, settled=192, open=0, altered=0, searched=16)
    assert power.leaky is False


def test_phantom_brains_cut_at_a_hole_of_one_slice_are_leaky(phantom_brains: SliceSet):
    lower, upper = phantom_brains.positions < 15, phantom_brains.positions > 15
    assert judged(phantom_brains[lower], phantom_brains[upper]).power.leaky is True


@pytest.mark.parametrize(("first", "width"), [(13, 2), (8, 3), (13, 6)])
def test_phantom_brains_cut_at_a_wider_hole_are_never_said_to_be_apart(
    phantom_brains: SliceSet, first: int, width: int
) -> None:
    lower, upper = phantom_brains.positions < first, phantom_brains.positions >= first + width
    assert judged(phantom_brains[lower], phantom_brains[upper]).power.leaky is not False


@pytest.fixture(scope="session")
def few(real_slices: SliceSet) -> SliceSet:
    return some_brains(real_slices, 40)


@pytest.mark.parametrize("count", [24, 40])
def test_whole_real_brains_of_other_subjects_are_not_leaky(real_slices: SliceSet, count: int) -> None:
    assert judged(*by_brain(some_brains(real_slices, count), 6), search=32).power.leaky is False


@pytest.mark.parametrize(("width", "leaky"), [(1, {True}), (6, {True, None})])
def test_real_brains_cut_at_a_hole_are_never_said_to_be_apart(
    real_slices: SliceSet, width: int, leaky: set[bool | None]
) -> None:
    slices = some_brains(real_slices, 40)
    lower, upper = slices.positions < 14, slices.positions >= 14 + width
    assert judged(slices[lower], slices[upper]).power.leaky in leaky


@pytest.mark.parametrize(("step", "kept"), [(5, 2), (3, 1), (4, 1)])
def test_thinned_real_brains_on_both_sides_are_never_said_to_be_apart(few: SliceSet, step: int, kept: int) -> None:
    slices = few[few.positions % step < kept]
    train = slices.positions % step == 0 if kept == 2 else slices.positions // step % 2 == 0
    assert judged(slices[train], slices[~train]).power.leaky is not False


def test_an_altered_copy_of_each_test_slice_in_train_is_leaky(few: SliceSet) -> None:
    base = few[::12]
    power = judged(turned(base, seed=0), base, search=len(base)).power
    assert power.leaky is True
    assert power.altered >= 0.95 * len(base)


def test_an_augmented_training_part_is_not_leaky_for_other_subjects(few: SliceSet) -> None:
    train, test = by_brain(few, 6)
    origins = np.repeat(np.arange(0, len(train), 4), 4)
    images = np.concatenate([train.images, turned(train[origins], seed=1).images])
    augmented = replace(train[np.concatenate([np.arange(len(train)), origins])], images=images)
    assert judged(augmented, test[::4], search=48).power.leaky is not True
