from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mriscope.errors import DataError, MriscopeError
from mriscope.evaluation.calibration import fit_temperature, with_temperature
from mriscope.evaluation.delong import delong_interval
from mriscope.evaluation.intervals import FEW_NOTE, SLICE_NOTE
from mriscope.evaluation.metrics import HEADLINE, severity_error
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.scoring import EvaluationConfig, aggregate, evaluate, score
from mriscope.evaluation.tasks import to_task
from mriscope.results import Interval, Pooling, Scores


def slices(seed: int, subjects: int = 20, known: bool = True) -> Predictions:
    """Five slices of each subject, of all four classes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.permutation(np.arange(subjects) % 4), 5)
    scores = np.exp(random.normal(size=(5 * subjects, 4)) + 1.5 * np.eye(4)[labels])
    numbers = np.repeat(np.arange(subjects), 5) if known else None
    return Predictions.of(labels, scores / scores.sum(axis=1, keepdims=True), subjects=numbers)


def test_slices_in_their_own_classes_are_scored_as_they_are() -> None:
    p = slices(0, known=False)
    given = aggregate(EvaluationConfig(), p, slices(1, known=False))
    assert given.rows is p
    assert given.pooling is None
    found = evaluate(EvaluationConfig(), given, resamples=20)
    added = {"severity", "calibration"}
    assert found.model_dump(exclude=added) == score(p, resamples=20).model_dump(exclude=added)
    assert (found.level, found.task, found.pooling) == ("slice", None, None)
    assert found.severity is not None
    assert found.severity["severity_error"].value == severity_error(p)
    assert found.calibration is not None
    assert found.calibration.temperature == fit_temperature(slices(1))


@pytest.mark.parametrize("task", [None, "three_classes", "non_vs_demented"])
def test_subjects_are_pooled_in_the_classes_of_the_task_as_validation_says(task: str | None) -> None:
    p, validation = slices(0), slices(1)
    config = EvaluationConfig("subject", task)
    given = aggregate(config, p, validation)
    tested, held = (to_task(one, task) if task else one for one in (p, validation))
    how = choose_pooling(held)
    assert given.pooling == how
    expected = pool_by_subject(tested, how)
    np.testing.assert_array_equal(given.rows.probabilities, expected.probabilities)
    found = evaluate(config, given, resamples=20)
    assert Scores.model_validate_json(found.model_dump_json()) == found
    assert (found.level, found.n_slices, found.n_subjects, found.interval.unit) == ("subject", 100, 20, "subject")
    assert sum(one.n_slices for one in found.classes.values()) == 100
    assert sum(one.n_subjects or 0 for one in found.classes.values()) == 20
    row = expected.class_names.index("Non_Demented")
    ours, by_delong = found.classes["Non_Demented"].auroc, delong_interval(expected, row)
    assert (ours.value, ours.low, ours.high) == pytest.approx((by_delong.value, by_delong.low, by_delong.high))
    assert found.calibration is not None
    assert found.calibration.temperature == fit_temperature(pool_by_subject(held, how))
    assert (found.severity is None) == (task == "non_vs_demented")


def test_a_way_that_is_named_needs_no_validation() -> None:
    config = EvaluationConfig("subject", pooling="majority")
    for validation in (None, slices(1).of_part("validation"), slices(1, known=False)):
        given = aggregate(config, slices(0), validation)
        assert given.pooling == "majority"
        assert given.validation is None
        found = evaluate(config, given, resamples=5)
        assert found.pooling == Pooling(how="majority", chosen=False, divided_subjects=0)
        assert found.calibration is not None
        assert found.calibration.after is None
        for choosing in (EvaluationConfig("subject"), EvaluationConfig("subject", pooling="chosen")):
            with pytest.raises(
                DataError, match=r"no validation part with known subjects.* name it with --pooling: mean"
            ):
                aggregate(choosing, slices(0), validation)


def test_subjects_must_be_known() -> None:
    with pytest.raises(DataError, match="the subject of 100 of 100 slices is unknown"):
        aggregate(EvaluationConfig("subject"), slices(0, known=False), slices(1, known=False))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"level": "brain"}, "there is no level 'brain'"),
        ({"task": "two"}, "there is no task 'two'"),
        ({"level": "subject", "pooling": "median"}, "there is no way of pooling 'median'"),
        ({"pooling": "majority"}, "--pooling majority goes with --level subject"),
    ],
)
def test_an_unfit_configuration_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        EvaluationConfig(**words)


# Scores of predictions as they are


def right_or_wrong(right: np.ndarray, subjects: np.ndarray | None = None) -> Predictions:
    """Slices of two classes in turn; each is predicted rightly or not."""
    labels = np.arange(len(right)) % 2
    called = np.eye(2)[np.where(right, labels, 1 - labels)]
    return Predictions.of(labels, called, subjects=subjects, class_names=("a", "b"))


def test_scores_count_slices_and_subjects_and_hold_every_metric() -> None:
    p = Predictions.of([0, 0, 2, 2, 2, 2], np.eye(4)[[0, 2, 2, 2, 2, 0]], subjects=[4, 5, 6, 6, 7, 8])
    found = score(p, resamples=60, seed=3)
    assert (found.n_slices, found.n_subjects) == (6, 5)
    assert found.interval == Interval(level=0.95, unit="subject", resamples=60, note=FEW_NOTE)
    assert found.confusion_matrix == [[1, 0, 1, 0], [0] * 4, [1, 0, 3, 0], [0] * 4]
    assert list(found.metrics) == list(HEADLINE)
    assert found.omitted is None
    assert found.metrics["accuracy"].value == pytest.approx(4 / 6)
    non = found.classes["Non_Demented"]
    assert (non.n_slices, non.n_subjects) == (4, 3)
    assert non.recall.value == 0.75
    assert non.recall.low <= 0.75 <= non.recall.high
    absent = found.classes["Moderate_Demented"]
    assert (absent.n_slices, absent.n_subjects) == (0, 0)
    assert not any(one.is_defined for one in absent.estimates().values())
    assert list(absent.estimates()) == ["precision", "recall", "f1", "auroc"]


def test_scores_of_unknown_subjects_say_so() -> None:
    found = score(slices(0, known=False), resamples=20)
    assert found.n_subjects is None
    assert found.classes["Non_Demented"].n_subjects is None
    assert (found.interval.unit, found.interval.note) == ("slice", SLICE_NOTE)


def test_scores_of_a_perfect_model_own_their_ignorance() -> None:
    found = score(right_or_wrong(np.ones(60), np.repeat(np.arange(30), 2)), resamples=20)
    one = found.metrics["accuracy"]
    assert (one.value, one.high) == (1, 1)
    assert one.low == pytest.approx(1 / (1 + 1.959964**2 / 30))  # Wilson's bound of 30 of 30


def test_scores_of_nothing_are_empty_and_valid_json() -> None:
    found = score(right_or_wrong(np.ones(0)), resamples=20)
    assert '"accuracy":{"value":null,"low":null,"high":null,"method":null,"reliable":false}' in found.model_dump_json()
    assert Scores.model_validate_json(found.model_dump_json()) == found


# Severity of classes with other names


def half_of_the_healthy_called_the_worst(order: tuple[str, ...], names: tuple[str, ...]) -> Predictions:
    """Ten slices of each class, all right but five of the first class in `order`, which are called the last."""
    true = [name for name in order for _ in range(10)]
    called = [order[-1] if row < 5 else name for row, name in enumerate(true)]
    labels, predicted = ([names.index(one) for one in column] for column in (true, called))
    return Predictions.of(labels, np.eye(len(names))[predicted], class_names=names)


@pytest.mark.parametrize(
    "order", [("CN", "MCI", "AD"), ("Normal", "VeryMild", "Mild", "Moderate"), ("No Impairment", "Very Mild", "Mild")]
)
def test_severity_does_not_follow_the_alphabet(order: tuple[str, ...]) -> None:
    by_severity, by_name = (
        score(half_of_the_healthy_called_the_worst(order, names), resamples=5)
        for names in (order, tuple(sorted(order)))
    )
    kappa = by_severity.metrics["quadratic_kappa"].value
    assert by_name.metrics["quadratic_kappa"].value == pytest.approx(kappa)
    if order == ("CN", "MCI", "AD"):
        assert kappa == pytest.approx(0.5)  # 1 - 20 * 30 / 1200, by hand


def test_classes_of_unknown_order_have_no_metric_of_steps_and_the_reason_is_given() -> None:
    p = half_of_the_healthy_called_the_worst(("x", "y", "z"), ("x", "y", "z"))
    found = evaluate(EvaluationConfig(), aggregate(EvaluationConfig(), p, None), resamples=5)
    assert "quadratic_kappa" not in found.metrics
    assert found.severity is None
    assert "nothing says how x, y, z rise in severity" in str(found.omitted)
    assert np.isnan(severity_error(p))
    named = replace(p, severity=("x", "y", "z"))
    known = half_of_the_healthy_called_the_worst(("CN", "MCI", "AD"), ("CN", "MCI", "AD"))
    assert score(named, resamples=5).metrics == score(known, resamples=5).metrics
    with pytest.raises(DataError, match="severity names x, y, and the classes are x, y, z; name each of them once"):
        replace(p, severity=("x", "y"))


def test_the_named_order_stays_with_the_predictions() -> None:
    labels = [0, 1, 2, 2]
    p = Predictions.of(labels, np.eye(3)[labels], subjects=[1, 2, 3, 3], class_names=("x", "y", "z"))
    p = replace(p, severity=("z", "x", "y"))
    for one in (p.of_part("test"), join([p, p]), pool_by_subject(p, "mean_logit"), with_temperature(p, 2.0)):
        assert one.severity == ("z", "x", "y")
        assert one.severity_ranks is not None
        assert one.severity_ranks.tolist() == [1, 2, 0]
