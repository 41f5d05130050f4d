import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from mriscope.errors import DataError
from mriscope.evaluation.calibration import (
    TEMPERATURES,
    By,
    calibration_error,
    calibration_summary,
    consistency_test,
    fit_temperature,
    reliability_curve,
    with_temperature,
)
from mriscope.evaluation.metrics import auroc, brier_score, log_loss
from mriscope.evaluation.predictions import Predictions
from mriscope.results import Calibration

TWO = ("a", "b")
several = settings(max_examples=20)


def drawn(seed: int, count: int = 300, classes: int = 3, temperature: float = 1, subjects: int = 0) -> Predictions:
    """Probabilities that were calibrated before their logarithms were divided by the temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, classes))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.random(count)[:, None] > honest.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    said = np.exp(logits / temperature)
    return Predictions.of(
        labels,
        said / said.sum(axis=1, keepdims=True),
        subjects=random.integers(subjects, size=count) if subjects else None,
        class_names="abcdef"[:classes],
    )


def sure(confidences: list[float], right: list[bool], subjects: list[int] | None = None) -> Predictions:
    """Answers of class a with these confidences."""
    labels = np.where(right, 0, 1)
    return Predictions.of(labels, [[c, 1 - c] for c in confidences], subjects=subjects, class_names=TWO)


def test_the_error_by_hand() -> None:
    p = sure([0.75, 0.75, 0.95, 0.95, 0.95], [True, False, True, True, False])
    assert calibration_error(p) == pytest.approx((2 * 0.25 + 3 * abs(0.95 - 2 / 3)) / 5)
    assert calibration_error(p, np.array([1, 0, 1, 1, 0])) == pytest.approx((0.25 + 2 * 0.05) / 3)
    assert calibration_error(p, bins=1) == pytest.approx(0.87 - 0.6)
    assert np.isnan(calibration_error(sure([], [])))


def test_bins_of_equal_mass_by_hand() -> None:
    p = sure([0.6, 0.7, 0.8, 0.9], [False, True, True, True])  # the median is 0.75
    assert calibration_error(p, bins=2, by="mass") == pytest.approx((abs(0.65 - 0.5) + abs(0.85 - 1)) / 2)
    assert reliability_curve(p, bins=2, by="mass", resamples=20).counts.tolist() == [2, 2]


@several
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 10]), st.integers(2, 4))
def test_the_curve_agrees_with_scikit_learn(seed: int, bins: int, classes: int) -> None:
    p = drawn(seed, 60, classes)
    same: dict[By, str] = {"width": "uniform", "mass": "quantile"}
    for by, strategy in same.items():
        ours = reliability_curve(p, bins=bins, by=by, resamples=5)
        confidence = p.probabilities.max(axis=1).astype(np.float64)
        accuracy, mean = calibration_curve(p.predicted == p.labels, confidence, n_bins=bins, strategy=strategy)
        np.testing.assert_allclose(ours.accuracy, accuracy)
        np.testing.assert_allclose(ours.confidence, mean)
        assert ours.counts.sum() == 60
        error = calibration_error(p, bins=bins, by=by)
        assert error == pytest.approx(ours.counts @ np.abs(accuracy - mean) / 60)
        assert 0 <= error <= 1


def test_a_point_of_one_subject_has_no_interval_and_others_hold_their_value() -> None:
    p = sure([0.75] * 4 + [0.95] * 2, [True, False, True, True, True, False], [1, 2, 3, 4, 5, 5])
    curve = reliability_curve(p, resamples=300)
    assert curve.accuracy.tolist() == [0.75, 0.5]
    assert curve.low[0] < 0.75 <= curve.high[0]
    assert np.isnan([curve.low[1], curve.high[1]]).all()


def test_the_consistency_test_keeps_its_level_and_finds_what_is_not_calibrated() -> None:
    calibrated = [consistency_test(drawn(seed, 200, 2), resamples=99, seed=seed).p for seed in range(60)]
    assert np.mean(np.array(calibrated) <= 0.05) <= 0.15  # 3 of 60 expected; more than 9 in fewer than 1 of 1,000
    assert 0.35 < np.mean(calibrated) < 0.65
    spoilt = [consistency_test(drawn(seed, 200, 2, 0.4), resamples=99, seed=seed).p for seed in range(20)]
    assert np.mean(np.array(spoilt) <= 0.05) >= 0.7


def test_the_range_of_a_calibrated_model_by_hand() -> None:
    """One row of confidence 0.75 is right or wrong: its error is 0.25 or 0.75, the latter in a quarter of the draws."""
    wrong, right = (consistency_test(sure([0.75], [is_right], [1]), resamples=3999) for is_right in (False, True))
    assert (wrong.low, wrong.high) == (right.low, right.high) == (0.25, 0.75)
    assert wrong.p == pytest.approx(0.25, abs=0.03)
    assert right.p == 1


def test_few_rows_of_a_calibrated_model_make_an_error() -> None:
    for count, expected in ((200, 0.05), (1280, 0.02)):
        errors = [calibration_error(drawn(seed, count, 2)) for seed in range(60)]
        assert np.mean(errors) == pytest.approx(expected, rel=0.2)


def test_slices_of_a_subject_share_one_draw() -> None:
    right = np.repeat(np.arange(20) < 12, 30)
    by_subject = consistency_test(sure([0.9] * 600, right.tolist(), np.repeat(np.arange(20), 30).tolist()))
    by_slice = consistency_test(sure([0.9] * 600, right.tolist()))
    assert by_subject.high > 3 * by_slice.high
    assert by_subject.p > by_slice.p


@several
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.floats(0.4, 10))
def test_a_temperature_changes_confidence_and_no_answer(seed: int, classes: int, temperature: float) -> None:
    p = drawn(seed, 50, classes)
    found = with_temperature(p, temperature)
    assert (found.predicted == p.predicted).all()
    ahead = found.probabilities.max(axis=1) - p.probabilities.max(axis=1)
    assert (ahead * np.sign(1 - temperature) >= -1e-6).all()
    np.testing.assert_allclose(with_temperature(p, 1).probabilities, p.probabilities, atol=1e-6)
    back = with_temperature(with_temperature(p, 1.5), 1 / 1.5)
    np.testing.assert_allclose(back.probabilities, p.probabilities, atol=1e-4)
    if classes == 2:
        assert auroc(found) == pytest.approx(auroc(p), abs=2e-3)  # but for rows that float32 cannot tell apart


@several
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 4))
def test_the_fitted_temperature_is_the_best_of_a_grid(seed: int, temperature: float) -> None:
    p = drawn(seed, 80, temperature=temperature)
    fitted = fit_temperature(p)
    grid = np.geomspace(*TEMPERATURES, 40)
    least = min(log_loss(with_temperature(p, one)) for one in grid)
    assert log_loss(with_temperature(p, fitted)) <= least + 1e-6


def test_it_finds_the_temperature_that_was_taken_away() -> None:
    for temperature in (0.4, 1, 2.5):
        spoilt = drawn(0, 40_000, temperature=temperature)
        assert fit_temperature(spoilt) == pytest.approx(1 / temperature, rel=0.03)


def test_a_part_without_a_mistake_has_the_least_temperature() -> None:
    assert fit_temperature(sure([0.7, 0.8], [True, True])) == pytest.approx(TEMPERATURES[0], rel=0.01)
    with pytest.raises(DataError, match="the validation part is empty"):
        fit_temperature(sure([], []))


def test_the_summary_is_ready_for_json_and_better_after() -> None:
    test, validation = (drawn(seed, 400, temperature=0.4, subjects=40) for seed in (1, 2))
    found = calibration_summary(test, validation, resamples=50)
    assert Calibration.model_validate_json(found.model_dump_json()) == found
    assert found.temperature == fit_temperature(validation)
    assert found.before["log_loss"].value == log_loss(test)
    assert found.before["brier_score"].value == brier_score(test)
    for name, before in found.before.items():
        assert found.after is not None
        assert found.after[name].value < before.value
    for nothing in (None, test.of_part("validation")):
        found = calibration_summary(test, nothing, resamples=5)
        assert found.temperature is found.after is None
