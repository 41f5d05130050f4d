import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mriscope.data.slices import CLASS_NAMES, SEVERITY
from mriscope.errors import DataError, UnknownNameError
from mriscope.evaluation.metrics import quadratic_kappa, severity_error
from mriscope.evaluation.pooling import pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.tasks import TASKS, to_task

# Mild, Moderate, Non, Very mild
FOUR = [[0.1, 0.2, 0.3, 0.4], [0.25, 0.3, 0.4, 0.05], [0, 0, 1, 0], [0.5, 0.1, 0.1, 0.3]]
LABELS = [3, 1, 2, 0]


def test_three_classes_by_hand() -> None:
    found = to_task(Predictions.of(LABELS, FOUR, subjects=[1, 2, 3, 4]), "three_classes")
    assert found.class_names == ("Non_Demented", "Very_Mild_Demented", "Mild_or_Moderate_Demented")
    np.testing.assert_allclose(found.probabilities, [[0.3, 0.4, 0.3], [0.4, 0.05, 0.55], [1, 0, 0], [0.1, 0.3, 0.6]])
    assert found.labels.tolist() == [1, 2, 0, 2]
    assert found.predicted.tolist() == [1, 2, 0, 2]  # the second was Non of four
    assert found.subjects.tolist() == [1, 2, 3, 4]


def test_non_vs_demented_by_hand() -> None:
    found = to_task(Predictions.of(LABELS, FOUR), "non_vs_demented")
    assert found.class_names == ("Non_Demented", "Demented")
    np.testing.assert_allclose(found.probabilities[:, 1], [0.7, 0.6, 0, 0.9], atol=1e-6)
    assert found.labels.tolist() == [1, 1, 0, 1]


def test_four_classes_are_as_they_were() -> None:
    p = Predictions.of(LABELS, FOUR)
    found = to_task(p, "four_classes")
    assert found.class_names == CLASS_NAMES
    assert found.labels.tolist() == LABELS
    np.testing.assert_array_equal(found.probabilities, p.probabilities)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(TASKS)))
def test_the_order_of_classes_does_not_matter_and_means_pool_as_well_before_as_after(seed: int, task: str) -> None:
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(4), 12)
    labels, subjects, order = random.integers(4, size=12), random.integers(4, size=12), random.permutation(4)
    p = Predictions.of(labels, scores, subjects=subjects)
    turned = Predictions.of(
        np.argsort(order)[labels],
        scores[:, order],
        subjects=subjects,
        class_names=[CLASS_NAMES[row] for row in order],
    )
    found = to_task(p, task)
    assert found.labels.tolist() == to_task(turned, task).labels.tolist()
    np.testing.assert_allclose(found.probabilities, to_task(turned, task).probabilities, atol=1e-6)
    np.testing.assert_allclose(
        pool_by_subject(found, "mean_probability").probabilities,
        to_task(pool_by_subject(p, "mean_probability"), task).probabilities,
        atol=1e-6,
    )


def test_the_classes_of_a_task_rise_in_severity() -> None:
    """Steps of severity, and so kappa, hold after joining."""
    certain = np.eye(4)[[CLASS_NAMES.index(name) for name in reversed(SEVERITY)]]
    p = Predictions.of([CLASS_NAMES.index(name) for name in SEVERITY], certain)
    assert severity_error(p) == (3 + 1 + 1 + 3) / 4
    assert quadratic_kappa(p) == pytest.approx(-1)
    three = to_task(p, "three_classes")  # Non and Moderate change places, and Very mild and Mild
    assert severity_error(three) == (2 + 1 + 1 + 2) / 4


def test_what_has_no_such_task_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="there is no task 'three'; did you mean three_classes"):
        to_task(Predictions.of(LABELS, FOUR), "three")
    stages = Predictions.of([0], [[0.5, 0.5]], class_names=("CN", "AD"))
    with pytest.raises(DataError, match=r"the task non_vs_demented is made of .* have CN, AD; evaluate them in"):
        to_task(stages, "non_vs_demented")
