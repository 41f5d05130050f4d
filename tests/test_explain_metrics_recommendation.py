"""mriscope.explain.metrics.recommendation: the rule, on figures that are made up so that the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mriscope.explain.metrics.recommendation import CENTRE, RANDOM, MethodScores, recommend
from mriscope.results import Estimate, Randomisation

UNITS = np.arange(36) // 2  # 18 subjects of two slices
WOBBLE = np.tile([-0.01, 0.01, 0.0], 12)


def checked(passes: bool) -> Randomisation:
    none = Estimate(np.nan, np.nan, np.nan)
    return Randomisation(passes=passes, ssim=none, rank_correlation=none, chance=none, stages={})


def measured(name: str, deletion: float, insertion: float, seconds: float = 0.01, passes: bool = True) -> MethodScores:
    """A method whose slices differ a little."""
    values = {"deletion": deletion + WOBBLE, "insertion": insertion + WOBBLE[::-1]}
    baseline = name in (RANDOM, CENTRE)
    check = None if baseline else checked(passes)
    return MethodScores(name, name.title(), baseline, values, torch.zeros(36, 2, 2), seconds, 0, check)


BASELINES = [measured(RANDOM, 0.5, 0.5), measured(CENTRE, 0.5, 0.6)]


def test_the_greatest_insertion_less_deletion_is_recommended():
    methods = [measured("good", 0.3, 0.7), measured("better", 0.2, 0.8, seconds=1.0)]
    name, why = recommend([*methods, *BASELINES], UNITS)
    assert name == "better"
    assert why.startswith("Recommended: Better, as it passes the randomisation check, beats random maps in deletion")
    assert "(2 of 2 methods do both), and its insertion less deletion of 0.600 (" in why
    assert why.endswith("is the greatest.")


def test_of_methods_that_do_not_differ_significantly_one_that_is_much_faster_is_recommended():
    noisy = measured("noisy", 0.2, 0.8, seconds=1.0)
    values = {**noisy.values, "insertion": noisy.values["insertion"] + np.repeat([0.3, -0.3], 18)}
    noisy = MethodScores("noisy", "Noisy", False, values, noisy.maps, 1.0, 0, checked(True))
    name, why = recommend([measured("quick", 0.21, 0.78, seconds=0.001), noisy, *BASELINES], UNITS)
    assert name == "quick"
    assert "does not differ significantly from the greatest, that of Noisy, while it is 1000.0 times as fast" in why
    name, why = recommend([measured("quick", 0.21, 0.78, seconds=0.6), noisy, *BASELINES], UNITS)
    assert name == "noisy"  # a little faster may be the luck of a measurement


@pytest.mark.parametrize(
    "wrong",
    [
        {"passes": False},  # its maps stay when the weights are random
        {"deletion": 0.6},  # worse than random maps
        {"deletion": 0.5},  # no better
        {"insertion": 0.4},
    ],
)
def test_a_method_that_fails_a_condition_is_not_recommended(wrong):
    best = measured("best", **{"deletion": 0.1, "insertion": 0.9, **wrong})
    assert recommend([best, measured("modest", 0.4, 0.75), *BASELINES], UNITS)[0] == "modest"
    name, why = recommend([best, *BASELINES], UNITS)
    assert name is None
    assert why.startswith("No method can be recommended: of 1, ")


def test_what_is_no_better_than_a_bump_in_the_centre_is_said_to_be_so():
    bump = measured(CENTRE, 0.2, 0.8)
    name, why = recommend([measured("best", 0.2, 0.8), BASELINES[0], bump], UNITS)
    assert name == "best"
    assert "does not differ significantly from a bump in the centre" in why


@pytest.mark.parametrize("units", [np.zeros(36, np.int64), np.arange(36) % 15, np.arange(31)])
def test_from_few_slices_or_subjects_nothing_is_recommended(units: np.ndarray):
    few = [replace(one, values={name: v[: len(units)] for name, v in one.values.items()}) for one in BASELINES]
    best = measured("best", 0.1, 0.9)
    name, why = recommend([best, *few], units)
    assert name is None
    assert why.startswith(f"No method is recommended from {len(units)} slices of {len(np.unique(units))} subjects")
    assert recommend([best, *BASELINES], np.arange(36) % 16)[0] == "best"
