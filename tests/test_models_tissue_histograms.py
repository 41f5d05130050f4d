import numpy as np
from phantom_subjects import brains

from mriscope.data.phantom import make_brain
from mriscope.models.ridge import fit_classes
from mriscope.models.tissue import describe
from mriscope.models.tissue_histograms import BLOCKS, tissue_histograms


def test_it_is_the_ridge_rule_on_the_histograms_of_both_blocks():
    slices = brains(0, 12)
    model = tissue_histograms(classes=4)
    model.fit(slices, seed=0)
    numbers, described = model.describe_subjects(slices)
    np.testing.assert_array_equal(numbers, np.arange(12))
    first = make_brain(0, severity=0, slices=6, size=64)[0]
    np.testing.assert_array_equal(described[0], describe(first, BLOCKS))
    rule = fit_classes(described, [96, 576], np.arange(12) % 2 * 2, 4)
    np.testing.assert_allclose(model.weight.numpy(), rule.weight.T[slices.severity], rtol=1e-5, atol=1e-6)
