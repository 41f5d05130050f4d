import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mriscope.errors import DataError
from mriscope.evaluation.cohort import OF_CONFUSIONS, Cohort
from mriscope.evaluation.interval_formulas import (
    score_interval_of_area,
    units_of_class_mean,
    widen,
    wilson_interval,
)
from mriscope.evaluation.intervals import (
    bootstrap,
    bootstrap_classes,
    bootstrap_repeats,
    bootstrap_values,
    count_units,
    interval_unit,
    mean_over,
    resample_weights,
    stack_repeats,
    unit_numbers,
    units_of,
)
from mriscope.evaluation.metrics import (
    CLASS_METRICS,
    HEADLINE,
    accuracy,
    auroc,
    brier_score,
    confusion_matrix,
    log_loss,
    quadratic_kappa,
    recall,
    severity_error,
)
from mriscope.evaluation.predictions import Predictions, join
from mriscope.evaluation.scoring import score

TWO = ("a", "b")
ACCURACY = {"accuracy": HEADLINE["accuracy"]}


def right_or_wrong(right: np.ndarray, subjects: np.ndarray | None = None) -> Predictions:
    """Slices of two classes in turn; each is predicted rightly or not."""
    labels = np.arange(len(right)) % 2
    return Predictions.of(labels, np.eye(2)[np.where(right, labels, 1 - labels)], subjects=subjects, class_names=TWO)


def ordinary(seed: int, count: int = 200, subjects: int | None = None) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=count)
    scores = np.exp(random.normal(size=(count, 4)) + 2 * np.eye(4)[labels])
    known = None if subjects is None else random.integers(subjects, size=count)
    return Predictions.of(labels, scores / scores.sum(axis=1, keepdims=True), subjects=known)


def test_twenty_agreeing_subjects_are_twenty_and_not_a_thousand() -> None:
    right, subjects = np.repeat(np.arange(20) < 14, 50), np.repeat(np.arange(20), 50)
    by_subject = bootstrap(right_or_wrong(right, subjects), ACCURACY)["accuracy"]
    by_slice = bootstrap(right_or_wrong(right), ACCURACY)["accuracy"]
    assert by_subject.value == by_slice.value == 0.7
    assert (by_slice.high - by_slice.low) / 2 == pytest.approx(0.028, abs=0.004)
    assert (by_subject.high - by_subject.low) / 2 == pytest.approx(0.20, abs=0.03)


def test_by_slice_it_is_the_binomial_interval() -> None:
    found = bootstrap(right_or_wrong(np.arange(400) < 320), ACCURACY, resamples=4000)["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert found.low == pytest.approx(0.8 - half, abs=0.005)
    assert found.high == pytest.approx(0.8 + half, abs=0.005)
    narrow = bootstrap(right_or_wrong(np.arange(400) < 320), ACCURACY, resamples=4000, level=0.5)["accuracy"]
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * 0.02, abs=0.004)


def test_subjects_bring_all_their_slices() -> None:
    p = right_or_wrong(np.ones(60), np.repeat([3, 900, 7], 20))
    for weights in resample_weights(p, 50, 0):
        assert weights.sum() == 60  # equal subjects: as many slices as before
        by_subject = weights.reshape(3, 20)
        assert (by_subject == by_subject[:, :1]).all()


def test_a_subject_of_one_slice_is_a_slice() -> None:
    one_each = right_or_wrong(np.arange(50) < 30, np.arange(50))
    unknown = right_or_wrong(np.arange(50) < 30)
    known, not_known = (bootstrap(p, resamples=50) for p in (one_each, unknown))
    for name, one in known.items():
        assert (one.low, one.high) == (not_known[name].low, not_known[name].high)
        assert (one.reliable, not_known[name].reliable) == (True, False)


def test_coverage_is_what_it_claims_by_subject_and_not_by_slice() -> None:
    random, held = np.random.default_rng(0), {"subject": 0, "slice": 0}
    runs = 100
    for run in range(runs):
        skill = random.beta(3, 1.5, size=40)  # subjects differ; their mean is 2/3
        subjects = np.repeat(np.arange(40), 10)
        right = random.random(400) < skill[subjects]
        for unit, known in (("subject", subjects), ("slice", None)):
            found = bootstrap(right_or_wrong(right, known), ACCURACY, resamples=200, seed=run)["accuracy"]
            held[unit] += found.low <= 2 / 3 <= found.high
    assert 0.89 <= held["subject"] / runs <= 0.99
    assert held["slice"] / runs < 0.87


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 25]))
def test_the_value_lies_within_its_interval(seed: int, subjects: int | None) -> None:
    for found in bootstrap(ordinary(seed, subjects=subjects), resamples=120).values():
        assert found.low <= found.value <= found.high
        assert found.low < found.high


def test_equal_seeds_give_equal_intervals() -> None:
    p = ordinary(0, subjects=20)
    assert bootstrap(p, resamples=100, seed=1) == bootstrap(p, resamples=100, seed=1)
    assert bootstrap(p, resamples=100, seed=1) != bootstrap(p, resamples=100, seed=2)
    alone = bootstrap(p, ACCURACY, resamples=100, seed=1)["accuracy"]
    assert alone == bootstrap(p, resamples=100, seed=1)["accuracy"]  # resamples do not depend on the metrics


def test_one_unknown_subject_makes_the_slice_the_unit() -> None:
    assert interval_unit(right_or_wrong(np.ones(4), np.array([1, 1, 2, 3]))) == "subject"
    assert interval_unit(right_or_wrong(np.ones(4), np.array([1, 1, 2, -1]))) == "slice"
    assert interval_unit(right_or_wrong(np.ones(4))) == "slice"


def test_resamples_without_a_metric_are_left_out() -> None:
    labels = np.array([0] + [1] * 9)  # a third of all resamples has no slice of class 0, and so no AUROC
    scores = np.linspace(0.9, 0.1, 10)
    p = Predictions.of(labels, np.stack([scores, 1 - scores], axis=1), class_names=TWO)
    found = bootstrap(p, {"own": lambda *given: auroc(*given)}, resamples=200)["own"]
    assert (found.value, found.low, found.high, found.method) == (1, 1, 1, "percentile bootstrap")


def test_a_single_unit_has_a_value_and_no_bounds() -> None:
    found = bootstrap(right_or_wrong(np.arange(10) < 7, np.zeros(10)), resamples=20)["accuracy"]
    assert found.value == 0.7
    assert np.isnan([found.low, found.high]).all()


def test_a_class_of_one_subject_has_values_and_no_bounds() -> None:
    p = Predictions.of([0, 0, 0, 1, 1, 0], np.eye(2)[[0, 1, 0, 1, 0, 0]], subjects=[1, 2, 3, 4, 4, 5], class_names=TWO)
    found = bootstrap_classes(p, resamples=50)
    assert found["b"]["recall"].value == 0.5
    assert np.isnan(found["b"]["recall"].low)
    assert found["a"]["recall"].low < 0.75 < found["a"]["recall"].high
    two = Predictions.of([0, 0, 1, 1], np.eye(2)[[0, 1, 0, 1]], subjects=[1, 2, 3, 4], class_names=TWO)
    of_two = bootstrap_classes(two, resamples=50)["b"]["recall"]
    assert 0 < of_two.low < 0.5 < of_two.high < 1  # two are enough


def test_a_class_of_one_subject_makes_a_mean_over_classes_unreliable() -> None:
    """One subject of the second class, always wrong: nobody knows how often such ones are right."""
    labels = np.repeat([0] * 12 + [1], 4)
    probabilities = np.tile([0.9, 0.1], (len(labels), 1))
    subjects = np.repeat(np.arange(13), 4)
    p = Predictions.of(labels, probabilities, subjects=subjects, class_names=("well", "sick"))
    estimate = bootstrap(p, seed=1)["balanced_accuracy"]
    assert (estimate.value, estimate.reliable) == (0.5, False)
    assert estimate.low < 0.5 < estimate.high
    assert "sick is one subject only" in str(score(p, resamples=10).interval.note)


def test_the_mean_over_repeats_by_hand() -> None:
    """Each of two subjects is drawn 0, 1 or 2 times, and as often in both repeats."""
    repeats = [right_or_wrong(np.array(right), np.array([1, 1, 2, 2])) for right in ([1, 1, 0, 0], [1, 0, 0, 0])]
    own = {"own": lambda *given: accuracy(*given)}
    found = bootstrap_repeats(repeats, own, resamples=400)["own"]
    assert found.value == (0.5 + 0.25) / 2
    assert (found.low, found.high) == (0, (1 + 0.5) / 2)


def test_a_repeat_is_what_its_folds_are_together_in_any_order() -> None:
    p = ordinary(3, count=120, subjects=12)
    chosen = p.subjects % 3
    folds = [
        Predictions.of(p.labels[rows], p.probabilities[rows], subjects=p.subjects[rows])
        for rows in (chosen == fold for fold in (2, 0, 1))
    ]
    here, there = bootstrap_repeats([join(folds)], resamples=50), bootstrap(p, resamples=50)
    for name, one in here.items():
        assert (one.low, one.high) == pytest.approx((there[name].low, there[name].high))


def test_repeats_that_agree_make_no_interval_narrower_and_those_that_do_not_agree_do() -> None:
    """Five repeats of one model are no five times as many subjects."""
    subjects = np.repeat(np.arange(25), 8)
    p = right_or_wrong(np.random.default_rng(4).random(25)[subjects] < 0.7, subjects)
    alone, five = bootstrap(p, ACCURACY, resamples=200), bootstrap_repeats([p] * 5, ACCURACY, resamples=200)
    assert five["accuracy"].low == pytest.approx(alone["accuracy"].low, abs=1e-9)
    assert five["accuracy"].high == pytest.approx(alone["accuracy"].high, abs=1e-9)
    random = np.random.default_rng(0)
    lucky = [right_or_wrong(random.random(25) < 0.7, np.arange(25)) for _ in range(5)]
    independent = ordinary(4, count=200, subjects=25)  # slices that agree no more than by chance
    once, thrice = bootstrap(independent, ACCURACY), bootstrap_repeats([independent] * 3, ACCURACY)
    assert (once["accuracy"].low, once["accuracy"].high) == pytest.approx(
        (thrice["accuracy"].low, thrice["accuracy"].high), abs=1e-9
    )
    widths = [
        one.high - one.low
        for one in (bootstrap(lucky[0], ACCURACY)["accuracy"], bootstrap_repeats(lucky, ACCURACY)["accuracy"])
    ]
    assert widths[1] < 0.6 * widths[0]


def test_repeats_of_other_classes_or_none_are_refused() -> None:
    with pytest.raises(DataError, match="predictions of other classes do not join: a, b and Mild_Demented"):
        bootstrap_repeats([right_or_wrong(np.ones(4)), ordinary(0)])
    with pytest.raises(DataError, match="there are no predictions to join"):
        bootstrap_repeats([])


def perfect(count: int, slices: int = 1) -> Predictions:
    """Subjects of two classes, as many of each, all right."""
    labels = np.repeat([0, 1], count * slices)
    table = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    return Predictions.of(labels, table, subjects=np.arange(2 * count * slices) // slices, class_names=TWO)


@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("count", [3, 10, 20])
def test_a_perfect_score_is_not_certain(count: int, slices: int) -> None:
    p = perfect(count, slices)
    metrics = {**HEADLINE, "severity_error": severity_error}
    p = replace(p, severity=TWO)
    for name, one in bootstrap(p, metrics, resamples=400).items():
        best, end = (0, one.high) if name == "severity_error" else (1, one.low)
        assert one.value == best
        assert abs(end - best) > 0.02, name
        assert one.reliable is (count >= 10 and (slices == 1 or name != "auroc"))  # of slices an AUROC needs 200
    assert bootstrap(p, ACCURACY)["accuracy"].low == pytest.approx(wilson_interval(1, 2 * count)[0])
    widened = bootstrap_repeats([p], {"auroc": auroc}, widen_by=1.25)["auroc"]
    plain = bootstrap(p, {"auroc": auroc})["auroc"]
    assert (1 - widened.low) == pytest.approx(1.25 * (1 - plain.low))


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_many_confusion_matrices_give_what_each_metric_gives_of_one(seed: int, count: int) -> None:
    p = replace(ordinary(seed, count), severity=ordinary(0).class_names)
    weights = np.random.default_rng(seed).standard_gamma(1, (3, 2, count))
    tables = np.array([[confusion_matrix(p, one) for one in row] for row in weights])
    for metric, of_tables in OF_CONFUSIONS.items():
        expected = [[metric(p, one) for one in row] for row in weights]
        np.testing.assert_allclose(of_tables(tables, p.severity_ranks), expected, rtol=1e-12)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_confusion_matrices_are_drawn_by_units(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = ordinary(3, 60, subjects=7)
    cohort, random = Cohort([p, p.select(p.labels > 0)]), np.random.default_rng(5)
    monkeypatch.setattr("mriscope.evaluation.cohort.MOST_WEIGHTS", 16 * at_once)
    drawn = np.concatenate(list(cohort._draw_confusions(20, 5)), axis=1)
    assert drawn.shape == (2, 20, 4, 4)
    for one in range(20):
        gamma, added = random.standard_gamma(1, 7), random.standard_gamma(0.25, 16).reshape(4, 4)
        for table, repeat in zip(drawn[:, one], cohort.repeats, strict=True):
            of_rows = confusion_matrix(repeat, gamma[np.unique(p.subjects).searchsorted(repeat.subjects)])
            np.testing.assert_allclose(table, of_rows + added * cohort._rows_of_a_trial(), rtol=1e-12)


def test_an_independent_trial_is_a_slice_or_all_of_a_subject() -> None:
    random = np.random.default_rng(0)
    subjects = np.arange(600) // 6
    together = right_or_wrong((random.random(100) < 0.9).repeat(6), subjects)
    assert Cohort([together])._rows_of_a_trial() == pytest.approx(6)
    each = right_or_wrong(random.random(600) < 0.9, subjects)
    assert 1 <= Cohort([each])._rows_of_a_trial() < 1.5
    assert Cohort([together.select(np.arange(600) % 6 == 0)])._rows_of_a_trial() == pytest.approx(1)
    assert Cohort([right_or_wrong(np.ones(600, bool), subjects)])._rows_of_a_trial() == pytest.approx(6)  # none is seen


def test_few_errors_of_single_slices_have_intervals_that_cover() -> None:
    """A network that recognises the subjects of its test part errs by slice, in 2 % of 1,200 slices of 200 subjects."""
    random, subjects, covered = np.random.default_rng(1), np.arange(1200) // 6, []
    metrics = {name: HEADLINE[name] for name in ("balanced_accuracy", "macro_f1")}
    for _ in range(60):
        predicted = (subjects + (random.random(1200) < 0.02) * random.integers(1, 4, 1200)) % 4
        p = Predictions.of(subjects % 4, np.eye(4)[predicted], subjects=subjects, class_names=("a", "b", "c", "d"))
        covered += [one.reliable and one.low < 0.98 < one.high for one in bootstrap(p, metrics, resamples=400).values()]
    assert np.mean(covered) > 0.8  # with a weight of 0.25 of a subject in every cell: 0.55


def test_each_metric_names_its_method() -> None:
    p = ordinary(0, 100, 100)
    losses = {"log_loss": log_loss, "brier_score": brier_score}
    assert {name: one.method for name, one in bootstrap(p, {**HEADLINE, **losses}, resamples=20).items()} == {
        "accuracy": "Wilson",
        "balanced_accuracy": "Bayesian bootstrap",
        "macro_f1": "Bayesian bootstrap",
        "auroc": "DeLong, logit scale",
        "quadratic_kappa": "Bayesian bootstrap",
        "log_loss": "Student, log scale",
        "brier_score": "Student, log scale",
    }
    by_class = bootstrap_classes(p, resamples=20)["Mild_Demented"]
    methods = [by_class[name].method for name in CLASS_METRICS]
    assert methods == ["Wilson", "Wilson", "Bayesian bootstrap", "DeLong, logit scale"]


def test_reliable_are_twenty_subjects_and_ten_of_each_class() -> None:
    assert not bootstrap(perfect(9), resamples=20)["accuracy"].reliable
    assert bootstrap(perfect(10), resamples=20)["auroc"].reliable
    for count in (199, 200):  # a loss needs more
        p = replace(ordinary(0, count), subjects=np.arange(count))
        found = bootstrap(p, {**ACCURACY, "log_loss": log_loss})
        assert (found["accuracy"].reliable, found["log_loss"].reliable) == (True, count == 200)
    labels = np.repeat([0, 1], [41, 9])
    few = Predictions.of(labels, np.eye(2)[labels], subjects=np.arange(50), class_names=TWO)
    found = bootstrap(few, resamples=20)
    assert found["accuracy"].reliable
    assert not found["auroc"].reliable
    by_class = bootstrap_classes(few, resamples=20)
    assert (by_class["a"]["recall"].reliable, by_class["b"]["recall"].reliable) == (True, False)
    assert (by_class["a"]["auroc"].reliable, by_class["b"]["auroc"].reliable) == (False, False)


def test_the_area_of_slices_agrees_with_resampled_subjects() -> None:
    random = np.random.default_rng(2)
    subjects = np.repeat(np.arange(60), 5)
    labels = subjects % 3
    scores = np.exp(1.5 * random.normal(size=(60, 3))[subjects] + random.normal(size=(300, 3)) + np.eye(3)[labels])
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    p = Predictions.of(labels, probabilities, subjects=subjects, class_names=("a", "b", "c"))
    for metric in (auroc, accuracy):
        ours = bootstrap(p, {"": metric})[""]
        drawn = np.quantile(bootstrap_values(p, metric, 800, 0), [0.025, 0.975])
        assert (ours.low, ours.high) == pytest.approx(tuple(drawn), abs=0.02)


def test_wilson_clopper_and_newcombe_agree_with_others() -> None:
    ours = [float(bound) for bound in wilson_interval(0.7, 20)]
    theirs = binomtest(14, 20).proportion_ci(method="wilson")
    assert ours == pytest.approx([theirs.low, theirs.high])
    low, high = score_interval_of_area(0.8, 30, 50)
    for bound in (low, high):  # the definition: the value is 1.96 standard errors away
        factor = 1 + 39 * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        assert abs(0.8 - bound) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) * factor / 1500), rel=1e-4)


@settings(max_examples=40)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(1, 3))
def test_a_widened_interval_holds_the_narrow_one(value: float, below: float, above: float, factor: float) -> None:
    low, high = value * below, value + (1 - value) * above
    found = widen(value, (np.array(low), np.array(high)), factor)
    assert 0 <= found[0] <= low + 1e-9
    assert high - 1e-9 <= found[1] <= 1


def test_coverage_of_the_bench_is_that_of_the_package() -> None:
    """The bench has metrics of its own, for many cohorts at once."""
    coverage: Any = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "coverage.py"))
    random = np.random.default_rng(0)
    cell = {"subjects": 60, "slices": 3, "classes": "3 equal", "separation": "fair"}
    labels, probabilities = coverage["draw_cohorts"](random, cell, 2)
    rows = Predictions.of(
        labels[0].repeat(3), probabilities[0].reshape(-1, 3), subjects=np.arange(180) // 3, class_names=("a", "b", "c")
    )
    rows = replace(rows, severity=("a", "b", "c"))
    found = bootstrap(rows, {**HEADLINE, "log_loss": log_loss, "brier_score": brier_score}, resamples=2)
    candidates = {"accuracy": "Wilson", "auroc": coverage["LOGIT_T"], "log_loss": "log scale"}
    theirs = {
        (name, candidate): (value[0], bounds[0][0], bounds[1][0])
        for name, candidate, value, bounds in coverage["every_bound"](random, labels, probabilities)
    }
    for name, candidate in candidates.items():
        one = found[name]
        key = ("AUROC" if name == "auroc" else name, candidate)
        assert (one.value, one.low, one.high) == pytest.approx(theirs[key], rel=1e-4), name
    for name in ("balanced_accuracy", "macro_f1", "quadratic_kappa", "brier_score"):
        of_bench = next(values[0] for (metric, _), values in theirs.items() if metric == name)
        assert found[name].value == pytest.approx(of_bench, rel=1e-4)


def test_a_loss_that_few_subjects_carry_is_not_reliable() -> None:
    """Of 300 subjects all but four are all but certain: the mean rests on those, and they are 0.5 each."""
    labels, subjects = np.arange(300) % 2, np.arange(300)

    def losses_reliable(doubtful: int) -> list[bool | None]:
        sure = np.where(np.arange(300) < doubtful, 0.5, 1 - 1e-6)
        rows = Predictions.of(
            labels, np.eye(2)[labels] * sure[:, None] + np.eye(2)[1 - labels] * (1 - sure[:, None]),
            subjects=subjects, class_names=TWO,
        )  # fmt: skip
        found = bootstrap(rows, {"log_loss": log_loss, "brier_score": brier_score}, resamples=2)
        return [one.reliable for one in found.values()]

    assert losses_reliable(4) == [False, False]
    assert losses_reliable(40) == [True, True]


def test_a_mean_over_classes_is_worth_what_its_rarest_class_allows() -> None:
    """Welch: two equal classes of n have 2 (n - 1) degrees of freedom; of 10 and very many the ten's nine."""
    assert units_of_class_mean([30, 30]) == pytest.approx(59)
    assert units_of_class_mean([10, 10**9]) == pytest.approx(10)
    assert units_of_class_mean([30, 0]) == pytest.approx(30)


@pytest.mark.parametrize(("wrong", "told"), [(0, True), (1, False), (3, False), (4, True)])
def test_a_confusion_matrix_that_rests_on_few_errors_is_not_reliable(wrong: int, told: bool) -> None:
    found = bootstrap(right_or_wrong(np.arange(100) >= wrong, np.arange(100)), resamples=100)
    assert [found[name].reliable for name in ("balanced_accuracy", "macro_f1", "quadratic_kappa")] == [told] * 3
    assert found["accuracy"].reliable  # its bound is that of few errors


@pytest.mark.parametrize("size", [20, 50, 200, 400])
def test_an_interval_of_a_proportion_covers_near_one(size: int) -> None:
    """Coverage is exact, from the binomial distribution; without the modification it falls to 84 %."""
    wrong = np.arange(size + 1)
    low, high = wilson_interval(1 - wrong / size, size)
    for failures in np.arange(0.02, 4, 0.02):
        truth = 1 - failures / size
        covered = binom.pmf(wrong, size, failures / size)[(low <= truth) & (truth <= high)].sum()
        assert covered > 0.92, failures


def test_few_successes_and_few_failures_have_mirrored_bounds() -> None:
    low, high = wilson_interval(np.array([0.01, 0.99]), 100)
    assert low[0] == pytest.approx(-np.log(0.95) / 100, rel=1e-6)  # chi2 of two degrees is exponential
    assert (1 - high[1], 1 - low[1]) == pytest.approx((low[0], high[0]))


def test_units_are_subjects_or_slices_and_none_without_slices() -> None:
    subjects = np.array([7, 7, 3, 9, 9, 9])
    assert unit_numbers(right_or_wrong(np.ones(6), subjects)).tolist() == [1, 1, 0, 2, 2, 2]
    assert unit_numbers(right_or_wrong(np.ones(6))).tolist() == list(range(6))
    assert [count_units(right_or_wrong(np.ones(6), known)) for known in (subjects, None)] == [3, 6]
    for nothing in (Predictions.of([], np.empty((0, 2)), subjects=known, class_names=TWO) for known in ([], None)):
        assert count_units(nothing) == 0
        assert [weights.tolist() for weights in resample_weights(nothing, 2, 0)] == [[], []]
        found = bootstrap(nothing, {**ACCURACY, "auroc": auroc}, resamples=2)
        assert np.isnan([one.value for one in found.values()]).all()
        assert not any(one.reliable for one in found.values())


def test_a_mean_over_repeats_gives_each_its_own_weights() -> None:
    """Two repeats of four slices; with the weights 3 of 4 and 1 of 2 are right."""
    repeats = [right_or_wrong(np.array(right), np.array([1, 1, 2, 2])) for right in ([1, 1, 0, 0], [1, 0, 0, 1])]
    both = stack_repeats(repeats)
    assert units_of(repeats).tolist() == both.subjects.tolist() == [0, 0, 1, 1] * 2
    assert mean_over(repeats, accuracy)(both) == 0.5
    assert mean_over(repeats, accuracy)(both, np.array([2, 1, 1, 0, 1, 0, 1, 0])) == (3 / 4 + 1 / 2) / 2
    assert mean_over(repeats, recall)(both).tolist() == [0.5, 0.5]


def test_resamples_in_which_a_metric_does_not_exist_give_no_value() -> None:
    p = Predictions.of([0, 1], [[0.9, 0.1], [0.2, 0.8]], subjects=[1, 2], class_names=TWO)
    drawn = bootstrap_values(p, auroc, 200, 0)  # half of the resamples hold one of the two alone
    assert 60 < len(drawn) < 140
    assert (drawn == 1).all()


def test_widened_bounds_keep_to_the_range_of_their_metric() -> None:
    """Kappa may be negative, and an error of severity more than 1; others end at 0 and 1."""
    p = replace(ordinary(5, 60, 30), severity=tuple(ordinary(5).class_names))
    worst = replace(p, probabilities=np.roll(p.probabilities, 2, axis=1))
    metrics = {"kappa": quadratic_kappa, "error": severity_error, **ACCURACY}
    plain, wide = (bootstrap_repeats([worst], metrics, resamples=200, widen_by=by) for by in (1.0, 2.0))
    assert wide["kappa"].low < plain["kappa"].low < 0
    assert wide["error"].high > plain["error"].high > 1
    assert 0 < wide["accuracy"].low < plain["accuracy"].low
    low, high = widen(
        plain["error"].value, (np.array(plain["error"].low), np.array(plain["error"].high)), 2.0, least=0, most=np.inf
    )
    assert (wide["error"].low, wide["error"].high) == pytest.approx((float(low), float(high)))


def test_a_metric_that_exists_in_no_resample_has_no_bounds_and_no_warning() -> None:
    names = ("a", "b", "c")  # whose order of severity nothing tells
    some = Predictions.of([0, 1, 2] * 20, np.eye(3)[[0, 1, 1] * 20], subjects=np.arange(60), class_names=names)
    found = bootstrap(some, resamples=20)
    assert np.isnan([found["quadratic_kappa"].value, found["quadratic_kappa"].low]).all()
    assert found["macro_f1"].low < found["macro_f1"].value
