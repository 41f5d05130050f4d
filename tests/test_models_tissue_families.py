import numpy as np
import pytest
from phantom_subjects import ILL, brains
from sklearn.metrics import roc_auc_score

from mriscope.models.tissue import Regions, normalize_volume, region_histograms, tissue_map
from mriscope.models.tissue_families import (
    FAMILIES,
    family_columns,
    fit_best_families,
    fit_family,
    sort_families,
    tissue_families,
)
from mriscope.models.tissue_histograms import tissue_histograms

KNOWN, ASKED = brains(0, 24), brains(24, 36)


@pytest.fixture(scope="module")
def fitted():
    model = tissue_families(classes=4)
    model.fit(KNOWN, seed=0)
    return model


def test_it_tells_ill_brains_from_well_ones(fitted):
    probabilities = fitted.predict_probabilities(ASKED)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert roc_auc_score(ASKED.labels == ILL, probabilities[:, ILL]) > 0.9


def test_a_familys_columns_hold_its_own_numbers(fitted):
    _, described = fitted.describe_subjects(KNOWN)
    volume = normalize_volume(KNOWN.images[KNOWN.subjects == 3])
    histogram = region_histograms(volume, Regions(8, 4, 1 / 32))
    np.testing.assert_array_equal(described[3, family_columns("8 slabs × 4 rings, sigma 0.03125")], histogram)
    np.testing.assert_array_equal(described[3, family_columns("voxels")], tissue_map(volume))
    frozen = tissue_histograms().describe_subjects(KNOWN)[1]
    np.testing.assert_array_equal(described[:, family_columns("tissue_histograms")], frozen)


def test_the_rule_is_the_mean_of_the_five_best_families_rules(fitted):
    _, described = fitted.describe_subjects(KNOWN)
    ranks = np.arange(24) % 3
    worse = (ranks > 0).astype(int)
    areas = {}
    for family in FAMILIES:
        left_out = fit_family(described, family, worse, 2).left_out
        areas[family] = roc_auc_score(worse, left_out[:, 1] - left_out[:, 0])
    rule = fit_best_families(described, ranks, 3)
    best = sorted(areas, key=lambda family: -areas[family])[:5]
    logits = [
        described[:, family_columns(name)] @ one.weight + one.bias
        for name, one in ((name, fit_family(described, name, ranks, 3)) for name in best)
    ]
    np.testing.assert_allclose(described @ rule.weight + rule.bias, np.mean(logits, axis=0), atol=1e-8)


def test_families_are_ordered_by_what_they_say_of_left_out_subjects():
    worse = np.array([0, 0, 1, 1])
    said = {"none": [0, 0, 0, 0], "right": [0, 1, 2, 3], "wrong": [3, 2, 1, 0], "half": [0, 2, 1, 3]}
    known = {name: np.outer(score, [0, 1]) for name, score in said.items()}
    assert sort_families(known, worse) == ["right", "half", "none", "wrong"]


def test_subjects_that_all_are_ill_are_told_apart_by_the_lightest_class():
    described = np.random.default_rng(0).normal(
        size=(12, sum(len(family_columns(name)) for name in list(FAMILIES)[:10]))
    )
    rule = fit_best_families(described, np.arange(12) % 2 + 1, 4)
    logits = described @ rule.weight + rule.bias
    assert (logits.argmax(axis=1) > 0).all()
    assert (logits.argmax(axis=1) < 3).all()
