from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import binomtest

from mriscope.evaluation.plots import ranked
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.ranking import (
    ALPHA,
    Place,
    holm,
    paired_test_text,
    rank_recipes,
    sign_flip_test,
    summarize_runs,
    unit_differences,
)
from mriscope.evaluation.scoring import score
from mriscope.evaluation.titles import headline
from mriscope.results import Estimate

TWO = ("a", "b")
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def judged(right, subjects=None, paths=None) -> Predictions:
    """Slices of two classes in turn, each called rightly or not."""
    right = np.asarray(right, bool)
    labels = np.arange(len(right)) % 2
    called = np.where(right, labels, 1 - labels)
    return Predictions.of(labels, np.eye(2)[called], subjects=subjects, paths=paths, class_names=TWO)


def table(only_first: int, only_second: int, both: int = 30) -> tuple[list[Predictions], list[Predictions]]:
    """Two recipes of one run each: how many slices one alone has right, the other alone, and both."""
    first = judged([1] * only_first + [0] * only_second + [1] * both)
    second = judged([0] * only_first + [1] * only_second + [1] * both)
    return [first], [second]


def p_of(first: list[Predictions], second: list[Predictions]) -> float:
    return sign_flip_test(unit_differences(first, second))


def ranks(places: list[Place]) -> list[int]:
    return [place.rank for place in places]


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (9, 1, 22 / 1024),  # 2 (C(10, 0) + C(10, 1)) / 2^10
        (1, 9, 22 / 1024),
        (3, 0, 2 / 8),
        (6, 0, 2 / 64),
        (5, 5, 1),
        (0, 0, 1),
    ],
)
def test_on_single_slices_it_is_mcnemars_exact_test_by_hand(only_first, only_second, p):
    assert p_of(*table(only_first, only_second)) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=60)
def test_on_single_slices_it_agrees_with_scipy(only_first, only_second):
    differences = np.repeat([1, -1, 0], [only_first, only_second, 7])
    expected = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1
    assert sign_flip_test(differences) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.lists(st.integers(-9, 9), max_size=9))
@settings(max_examples=60)
def test_it_counts_every_way_to_flip_the_signs(differences):
    found = abs(sum(differences))
    sums = [abs(sum(signs * np.array(differences))) for signs in product([1, -1], repeat=len(differences))]
    p = sign_flip_test(np.array(differences, np.int64))
    assert p == pytest.approx(np.mean(np.array(sums) >= found))


def test_a_subject_counts_once_however_many_slices_it_has():
    right, wrong = [1] * 120, [0] * 120
    subjects = np.repeat([3, 5, 8], 40)
    assert p_of([judged(right, subjects)], [judged(wrong, subjects)]) == 2 / 2**3
    assert p_of([judged(right)], [judged(wrong)]) == pytest.approx(2 / 2**120)


def test_without_a_difference_small_p_values_are_as_rare_as_they_say():
    random = np.random.default_rng(0)
    by_subject, by_slice = [], []
    for _ in range(300):
        towards = np.repeat(random.choice([-1, 1], 14), 20)  # in each subject, the one or the other is better
        differences = np.where(random.random(280) < 0.3, towards, 0)
        by_subject.append(sign_flip_test(differences.reshape(14, 20).sum(axis=1)))
        by_slice.append(sign_flip_test(differences))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(by_subject) < level) == pytest.approx(level, abs=3 * np.sqrt(level / 300))
    assert np.mean(np.array(by_slice) < 0.05) > 0.4  # McNemar's test on slices that agree is far too sure


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1, 1]
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []


@given(P_VALUES, st.floats(0.001, 0.5))
def test_holm_rejects_as_its_step_down_procedure(p_values, level):
    order = np.argsort(p_values, kind="stable")
    rejected = set()
    for step, place in enumerate(order):
        if p_values[place] * (len(p_values) - step) >= level:
            break
        rejected.add(place)
    adjusted = holm(p_values)
    assert {place for place in range(len(p_values)) if adjusted[place] < level} == rejected


@given(P_VALUES)
def test_holm_keeps_the_order_and_is_never_under_the_raw_nor_over_bonferroni(p_values):
    adjusted, raw = holm(p_values), np.array(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, raw * len(raw))).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


def test_differences_are_counted_by_subject_in_whatever_order_slices_come():
    subjects, paths = np.array([7, 7, 2, 2, 2]), list("abcde")
    first = judged([1, 1, 0, 1, 0], subjects, paths)
    turned = [4, 1, 0, 3, 2]
    labels = (np.arange(5) % 2)[turned]
    called = np.where(np.array([0, 1, 0, 1, 1], bool)[turned], labels, 1 - labels)
    second = Predictions.of(
        labels, np.eye(2)[called], subjects=subjects[turned], paths=np.array(paths)[turned], class_names=TWO
    )
    assert unit_differences([first], [second]).tolist() == [-1, 1]  # subject 2, subject 7


def test_recipes_of_unequal_numbers_of_runs_are_brought_to_one_scale():
    good, bad = judged([1, 1]), judged([0, 1])
    assert unit_differences([good, good, bad], [bad]).tolist() == [2, 0]  # 2/3 against 0, times 3
    assert unit_differences([good, bad], [good, bad, bad, bad]).tolist() == [1, 0]  # 1/2 against 1/4, times 4
    assert unit_differences([good] * 3, [good]).tolist() == [0, 0]


def test_a_seed_that_draws_other_slices_brings_units_of_its_own():
    first = [judged([1, 1], [0, 1], ["p", "q"]), judged([1], [2], ["r"])]
    second = [judged([0, 1], [0, 1], ["p", "q"]), judged([0], [2], ["r"])]
    assert unit_differences(first, second).tolist() == [1, 0, 1]


def test_recipes_that_cannot_be_told_apart_share_a_rank_and_the_next_counts_them():
    best, twin, worst = np.ones(60), np.ones(60), np.ones(60)
    twin[0], worst[:20] = 0, 0
    places = rank_recipes([[judged(worst)], [judged(best)], [judged(twin)]])
    assert [place.index for place in places] == [1, 2, 0]
    assert ranks(places) == [1, 1, 3]
    first, second, third = places
    assert (first.above, first.leader) == (None, None)
    assert second.above is not None
    assert third.above is not None
    assert third.leader is not None
    assert (second.above.p, second.above.adjusted) == (1, 1)
    assert third.above.p == pytest.approx(2 / 2**19)
    assert third.above.adjusted == pytest.approx(2 * third.above.p)  # two neighbours
    assert third.leader.p == pytest.approx(2 / 2**20)
    assert third.leader.adjusted == pytest.approx(3 * third.leader.p)  # three pairs


def test_steps_too_small_to_see_do_not_tie_the_best_with_the_worst():
    recipes = [[judged(np.arange(400) >= 5 * place)] for place in range(8)]  # between neighbours p = 2/2^5
    places = rank_recipes(recipes)
    assert all(place.above is not None and place.above.adjusted > ALPHA for place in places[1:])
    assert ranks(places) == [1, 1, 3, 3, 5, 5, 7, 7]
    assert places[2].leader is not None
    assert places[2].leader.adjusted == pytest.approx(13 * 2 / 2**10)  # 15 of 28 pairs are farther apart
    for place in places[1:]:
        assert place.leader is not None
        assert (place.leader.adjusted < ALPHA) == (place.rank == place.index + 1)


def test_equal_recipes_keep_their_order_and_share_the_first_rank():
    places = rank_recipes([[judged([1, 0, 1])], [judged([0, 1, 1])], [judged([1, 1, 0])]])
    assert [(place.index, place.rank) for place in places] == [(0, 1), (1, 1), (2, 1)]


@given(st.lists(st.lists(st.booleans(), min_size=24, max_size=24), min_size=1, max_size=6))
@settings(max_examples=40)
def test_every_ranking_is_consistent(rights):
    places = rank_recipes([[judged(right)] for right in rights])
    assert sorted(place.index for place in places) == list(range(len(rights)))
    shares = [np.mean(rights[place.index]) for place in places]
    assert all(shares[row] >= shares[row + 1] for row in range(len(shares) - 1))
    assert places[0].rank == 1
    for position, (above, place) in enumerate(pairwise(places), start=2):
        assert place.rank in (above.rank, position)
        assert place.above is not None
        assert place.leader is not None
        apart = min(place.above.adjusted, place.leader.adjusted) < ALPHA
        assert place.rank == (position if apart else above.rank)


def test_figures_over_runs_are_means_and_the_spread_is_that_of_the_runs():
    runs = [judged([1] * 9 + [0]), judged([1] * 7 + [0] * 3), judged([1] * 8 + [0] * 2)]
    found = summarize_runs(runs, resamples=50)
    accuracy = found.metrics["accuracy"]
    assert accuracy.value == pytest.approx(0.8)
    assert (accuracy.least, accuracy.greatest) == (0.7, 0.9)
    assert accuracy.low <= 0.8 <= accuracy.high
    recall = found.recalls["b"]  # slices 1, 3, 5, 7, 9
    assert recall.value == pytest.approx(np.mean([4 / 5, 3 / 5, 4 / 5]))
    assert (recall.least, recall.greatest) == (3 / 5, 4 / 5)


def test_the_interval_of_one_run_repeated_is_that_of_the_run():
    random = np.random.default_rng(1)
    run = judged(random.random(90) < 0.7, subjects=np.repeat(np.arange(15), 6))
    alone = score(run, resamples=200)
    for runs in ([run], [run, run, run]):
        found = summarize_runs(runs, resamples=200)
        pairs = [(found.metrics[name], one) for name, one in alone.metrics.items()]
        pairs += [(found.recalls[name], one.recall) for name, one in alone.classes.items()]
        for ours, theirs in pairs:
            assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_what_does_not_exist_over_runs_is_nan():
    runs = [Predictions.of([0, 0], [[1, 0], [0, 1]], class_names=TWO) for _ in range(2)]
    found = summarize_runs(runs, resamples=20)
    assert not found.recalls["b"].is_defined
    assert not found.metrics["auroc"].is_defined


def test_the_test_says_what_it_sees_and_what_not():
    one, many = [judged([1, 0])], [judged([1, 0]), judged([0, 1])]
    assert paired_test_text([one, one]).startswith("McNemar's exact test; subjects are unknown, and")
    assert paired_test_text([one, many]).startswith("exact sign-flip test over slices; subjects are unknown")
    few, enough = ([judged(np.ones(count), range(count))] for count in (5, 9))
    assert paired_test_text([few, few]) == (
        "exact sign-flip test over the 5 test subjects; they are too few for any difference to be significant"
    )
    assert paired_test_text([enough, enough]) == "exact sign-flip test over the 9 test subjects"


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_the_picture_draws_no_interval_that_is_not_reliable():
    figure = ranked(["few", "many"], [Estimate(0.5, 0.1, 0.9, reliable=False), Estimate(0.6, 0.5, 0.7, reliable=True)])
    assert {"50.0 (interval not reliable here)", "60.0 (50.0 to 70.0)"} <= set(texts(figure))
    (lines,) = (one for one in figure.axes[0].collections if isinstance(one, LineCollection))
    drawn = [segment[:, 0].tolist() for segment in lines.get_segments() if np.isfinite(segment).all() and len(segment)]
    assert drawn == [pytest.approx([50, 70])]
    assert figure.axes[0].get_xlim()[0] < 10
    assert "interval not reliable here" in headline("accuracy", Estimate(0.5, 0.1, 0.9, reliable=False), "by_subject")


def test_the_picture_has_a_point_an_interval_and_the_studys_figure_for_each():
    estimates = [Estimate(0.9, 0.85, 0.95), Estimate(0.8, np.nan, np.nan), Estimate(0.78, 0.7, 0.86)]
    figure = ranked(["first", "2 $ second", "x" * 80], estimates, [0.88, None, 0.1344], title="T", note="N")
    axes = figure.axes[0]
    ours, *studies = axes.lines
    np.testing.assert_allclose(np.asarray(ours.get_xdata(), float), [90, 80, 78])
    np.testing.assert_allclose(np.asarray(ours.get_ydata(), float), [0, 1, 2])
    _, inside, outside = studies  # the first is the legend's
    np.testing.assert_allclose(np.asarray(inside.get_xdata(), float), 88)
    assert (inside.get_marker(), outside.get_marker()) == ("D", "<")
    assert axes.get_xlim()[0] < float(np.asarray(outside.get_xdata())[0]) < 70
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first is on top
    assert {"90.0 (85.0 to 95.0)", "80.0 (no interval)", "13.4", "T", "N", r"2 \$ second"} <= set(texts(figure))
    assert max(len(label.get_text()) for label in axes.get_yticklabels()) == 48
