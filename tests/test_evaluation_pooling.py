import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mriscope.errors import DataError, UnknownNameError
from mriscope.evaluation.metrics import LEAST_PROBABILITY, log_loss
from mriscope.evaluation.pooling import POOLINGS, choose_pooling, divided_labels, pool_by_subject
from mriscope.evaluation.predictions import Predictions

TWO = ("a", "b")
several = settings(max_examples=40)


@st.composite
def slices(draw: st.DrawFn) -> Predictions:
    """Slices of subjects with numbers that have gaps, in any order."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, classes = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    scores = random.gamma(0.5, size=(count, classes)) + 1e-6
    return Predictions.of(
        random.integers(classes, size=count),
        scores / scores.sum(axis=1, keepdims=True),
        subjects=7 * random.integers(8, size=count),
        class_names="abcd"[:classes],
    )


def by_hand() -> Predictions:
    return Predictions.of(
        [1, 0, 1, 0, 1],
        [[0.8, 0.2], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.45, 0.55]],
        subjects=[9, 4, 9, 4, 4],
        parts=["test"] * 5,
        class_names=TWO,
    )


@pytest.mark.parametrize(
    ("how", "of_subject_4", "of_subject_9"),
    [
        ("mean_probability", (0.9 + 0.4 + 0.45) / 3, 0.5),
        ("mean_logit", 0.162 ** (1 / 3) / (0.162 ** (1 / 3) + 0.033 ** (1 / 3)), 0.5),  # 0.9·0.4·0.45, 0.1·0.6·0.55
        ("majority", 1 / 3, 0.5),
    ],
)
def test_two_subjects_by_hand(how: str, of_subject_4: float, of_subject_9: float) -> None:
    pooled = pool_by_subject(by_hand(), how)
    assert pooled.probabilities[:, 0] == pytest.approx([of_subject_4, of_subject_9], abs=1e-6)
    assert pooled.subjects.tolist() == [4, 9]
    assert pooled.paths.tolist() == ["subject-4", "subject-9"]
    assert pooled.parts.tolist() == ["test", "test"]
    assert pooled.labels.tolist() == [0, 1]  # most of the three slices of 4; both of 9
    assert pooled.class_names == TWO


def test_votes_that_tie_go_to_the_first_class() -> None:
    p = Predictions.of([1, 0], [[0.1, 0.9], [0.6, 0.4]], subjects=[1, 1], class_names=TWO)
    pooled = pool_by_subject(p, "majority")
    assert pooled.probabilities.tolist() == [[0.5, 0.5]]
    assert pooled.predicted.tolist() == [0]
    assert pooled.labels.tolist() == [0]  # so do labels
    assert divided_labels(p) == 1
    assert divided_labels(pooled) == 0


@pytest.mark.parametrize("how", POOLINGS)
@several
@given(slices(), st.integers(1, 5))
def test_equal_slices_of_a_subject_pool_to_what_each_of_them_says(how: str, p: Predictions, times: int) -> None:
    one_each = np.arange(len(p))
    p = Predictions.of(p.labels, p.probabilities, subjects=one_each, class_names=p.class_names)
    repeated = Predictions.of(
        *(np.tile(p.labels, times), np.tile(p.probabilities, (times, 1))),
        subjects=np.tile(one_each, times),
        class_names=p.class_names,
    )
    pooled = pool_by_subject(repeated, how)
    assert pooled.labels.tolist() == p.labels.tolist()
    if how == "majority":
        assert pooled.probabilities.tolist() == np.eye(len(p.class_names))[p.predicted].tolist()
    else:
        np.testing.assert_allclose(pooled.probabilities, p.probabilities, atol=1e-5)


@pytest.mark.parametrize("how", POOLINGS)
@several
@given(slices(), st.integers(0, 2**32 - 1))
def test_the_order_of_slices_does_not_matter(how: str, p: Predictions, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p))
    turned = Predictions.of(
        p.labels[order], p.probabilities[order], subjects=p.subjects[order], class_names=p.class_names
    )
    one, other = pool_by_subject(p, how), pool_by_subject(turned, how)
    assert one.subjects.tolist() == other.subjects.tolist() == np.unique(p.subjects).tolist()
    assert one.labels.tolist() == other.labels.tolist()
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_one_certain_slice_has_no_veto() -> None:
    p = Predictions.of([0] * 3, [[0, 1], [0.9, 0.1], [0.9, 0.1]], subjects=[0] * 3, class_names=TWO)
    pooled = pool_by_subject(p, "mean_logit").probabilities[0, 0]
    first, second = (LEAST_PROBABILITY * 0.9**2) ** (1 / 3), (1 * 0.1**2) ** (1 / 3)
    assert pooled == pytest.approx(first / (first + second), rel=1e-5)
    assert pooled > 0


def test_the_way_with_the_least_log_loss_is_chosen() -> None:
    sure_once = Predictions.of([0] * 3, [[0.98, 0.02], [0.4, 0.6], [0.4, 0.6]], subjects=[1] * 3, class_names=TWO)
    losses = {how: log_loss(pool_by_subject(sure_once, how)) for how in POOLINGS}
    assert choose_pooling(sure_once) == min(losses, key=losses.__getitem__) == "mean_logit"
    often_right = Predictions.of([0] * 4, [[0.6, 0.4]] * 3 + [[0.1, 0.9]], subjects=[1] * 4, class_names=TWO)
    assert choose_pooling(often_right) == "majority"
    alike = Predictions.of([0, 1], [[0.9, 0.1], [0.7, 0.3]], subjects=[1, 2], class_names=TWO)
    assert choose_pooling(alike) == "mean_probability"  # ties with mean_logit


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (Predictions.of([0, 1], np.eye(2), subjects=[3, -1], class_names=TWO), "the subject of 1 of 2 slices is unkn"),
        (
            Predictions.of([0, 0], np.eye(2), subjects=[3, 3], parts=["validation", "test"], class_names=TWO),
            "subject 3 has slices in validation and in test; pool one part at a time",
        ),
    ],
)
def test_what_cannot_be_pooled_is_refused(p: Predictions, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pool_by_subject(p, "mean_probability")
    with pytest.raises(DataError, match=message):
        choose_pooling(p)


def test_an_unknown_way_names_the_near_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean mean_logit"):
        pool_by_subject(by_hand(), "mean_logits")


def test_nothing_pools_to_nothing_and_chooses_nothing() -> None:
    nothing = Predictions.of([], np.zeros((0, 2)), class_names=TWO)
    assert len(pool_by_subject(nothing, "mean_logit")) == 0
    with pytest.raises(DataError, match="the validation part is empty"):
        choose_pooling(nothing)
