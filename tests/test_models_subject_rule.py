from dataclasses import replace

import numpy as np
import pytest
from phantom_subjects import ILL, WELL, brains
from sklearn.metrics import roc_auc_score

from mriscope.data.slices import SliceSet
from mriscope.errors import DataError
from mriscope.models.ridge import fit_classes
from mriscope.models.subject_rule import SubjectRule, describe_each, keeping_descriptions, memoize_by_content
from mriscope.models.tissue_histograms import tissue_histograms

KNOWN, ASKED = brains(0, 24), brains(24, 40)


def fitted(slices=KNOWN, seed=0):
    model = tissue_histograms(classes=4)
    model.fit(slices, seed)
    return model


def test_it_tells_ill_brains_from_well_ones():
    probabilities = fitted().predict_probabilities(ASKED)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert roc_auc_score(ASKED.labels == ILL, probabilities[:, ILL]) > 0.9


def test_every_slice_has_its_subjects_probabilities_in_whatever_order_they_come():
    model, order = fitted(), np.random.default_rng(0).permutation(len(ASKED))
    straight, shuffled = model.predict_probabilities(ASKED), model.predict_probabilities(ASKED[order])
    np.testing.assert_array_equal(straight[order], shuffled)
    for subject in np.unique(ASKED.subjects):
        assert len(np.unique(straight[ASKED.subjects == subject], axis=0)) == 1


def test_two_fits_are_equal_and_the_seed_is_of_no_matter():
    one, other = (fitted(seed=seed).state_dict() for seed in (0, 1))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_subject_is_described_once_and_anew_when_a_pixel_changes():
    described = []

    def describe(images):
        described.append(1)
        return images[:, 32, 32].astype(np.float32)

    kept = memoize_by_content(describe)

    def rule(describe=kept):
        return SubjectRule(4, 6, describe, lambda features, ranks, classes: fit_classes(features, [6], ranks, classes))

    numbers, first = rule().describe_subjects(ASKED)
    np.testing.assert_array_equal(rule().describe_subjects(ASKED[ASKED.subjects > 30])[1], first[numbers > 30])
    assert len(described) == len(numbers) == 16
    images = ASKED.images.copy()
    images[0, 32, 32] ^= 128
    changed = rule().describe_subjects(replace(ASKED, images=images))[1]
    assert len(described) == 17
    assert (changed != first).any(axis=1).tolist() == [True] + [False] * 15


def test_the_oldest_descriptions_go_where_they_take_too_much_memory():
    described = []

    def describe(images):
        described.append(images[0, 0, 0])
        return np.zeros(6, np.float32)

    kept = memoize_by_content(describe, most_bytes=2 * 24)  # two descriptions of 6 values of 4 bytes
    one, two, three = (np.full((1, 2, 2), value, np.uint8) for value in (1, 2, 3))
    for images in (one, two, one, three, two, one):
        kept(images)
    assert described == [1, 2, 3, 1]


def test_descriptions_are_shared_with_other_processes_within_the_block_alone():
    made, kept = [], {}

    def keep(key, make):
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def describe(images):
        made.append(int(images[0, 0, 0]))
        return images[0, 0, :2].astype(np.float32)

    here, there, newer = (memoize_by_content(describe, kept_as=name) for name in ("sum-1", "sum-1", "sum-2"))
    one, two = (np.full((1, 2, 2), value, np.uint8) for value in (1, 2))
    here(two)
    assert not kept, "nothing is written down of slices that a model is merely asked about"
    with keeping_descriptions(keep):
        for memoized in (here, there, newer):
            np.testing.assert_array_equal(memoized(one), [1, 1])
        memoize_by_content(describe)(two)
    assert made == [2, 1, 1, 2]  # of `one`, once for each version of the description
    assert [key.rpartition("-")[0] for key in kept] == ["sum-1", "sum-2"]


def test_subjects_are_described_in_any_order_and_told_in_theirs():
    images, rows = np.arange(10, dtype=np.uint8)[:, None, None], [np.array([at, 9 - at]) for at in range(5)]
    found = describe_each(lambda stack: stack.ravel().astype(np.float32), images, rows)
    np.testing.assert_array_equal(found, rows)


def test_classes_that_no_subject_has_are_not_expected():
    assert fitted().predict_probabilities(ASKED)[:, [1, 3]].max() < 1e-6


def test_an_empty_model_is_filled_from_another_ones_state():
    model, other = fitted(), tissue_histograms(classes=4)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.predict_probabilities(ASKED), model.predict_probabilities(ASKED))


def test_slices_without_subjects_say_what_to_do():
    with pytest.raises(DataError, match="some slices name no subject or position"):
        fitted(SliceSet.of(KNOWN.images, KNOWN.labels))


@pytest.mark.parametrize(
    ("labels", "subjects", "message"),
    [([WELL, WELL], [7, 8], "of one class"), ([WELL, ILL], [7, 7], "subject 7 has slices of several classes")],
)
def test_subjects_that_teach_nothing_say_why(labels, subjects, message):
    with pytest.raises(DataError, match=message):
        fitted(SliceSet.of(KNOWN.images[:2], labels, subjects=subjects, positions=[0, 1]))
