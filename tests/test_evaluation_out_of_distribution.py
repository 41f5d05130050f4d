"""Distances in a network's features: Mahalanobis' where it is known, and the module that answers for slices."""

import os

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from torch import nn

from mriscope.errors import DataError, RunError
from mriscope.evaluation.deployed import DeployedModel
from mriscope.evaluation.inference import predict_probabilities
from mriscope.evaluation.out_of_distribution import (
    FeatureReference,
    choose_slices,
    compute_features,
    distances,
    fit_reference,
    fit_threshold,
    grid_features,
)
from mriscope.models.registry import create_model


def test_the_distance_is_that_of_mahalanobis_where_all_directions_are_kept():
    features = np.random.default_rng(0).normal(size=(200, 5)) @ np.diag([1, 2, 3, 4, 5.0])
    asked = torch.from_numpy(features[:8] + 3).float()
    inverse = np.linalg.inv(np.cov(features.T))
    expected = [mahalanobis(one, features.mean(axis=0), inverse) / np.sqrt(5) for one in asked.double().numpy()]
    np.testing.assert_allclose(distances(asked, fit_reference(features)), expected, rtol=1e-4)


def test_directions_beyond_share_one_variance():
    """70 directions in 64 of which variance is large: the Gaussian is that of probabilistic principal components."""
    features = np.random.default_rng(1).normal(size=(500, 70)) * np.r_[np.full(64, 10.0), np.full(6, 0.5)]
    values, vectors = np.linalg.eigh(np.cov(features.T))
    values[:6] = values[:6].mean()
    precision = vectors @ np.diag(1 / values) @ vectors.T
    asked = features[:5] + 1
    centred = asked - features.mean(axis=0)
    expected = np.sqrt(np.einsum("nd,de,ne->n", centred, precision, centred) / 70)
    np.testing.assert_allclose(distances(torch.from_numpy(asked).float(), fit_reference(features)), expected, rtol=1e-3)


def test_fewer_slices_than_features_give_the_same_directions():
    features = np.random.default_rng(2).normal(size=(20, 30)).astype(np.float32)
    padded = np.concatenate([features, np.zeros((20, 5), np.float32)], axis=1)
    reference = fit_reference(padded)
    assert reference.components.shape == (35, 19)
    np.testing.assert_allclose(reference.components.T @ reference.components, np.eye(19), atol=1e-5)
    assert distances(torch.from_numpy(padded), reference).isfinite().all()


def test_the_threshold_bounds_slices_of_new_subjects():
    """Percentiles of subjects are log-normal: 99 % of new ones lie below, on average over 400 draws of 8 subjects."""
    stream = np.random.default_rng(5)
    below = []
    for _ in range(400):
        levels = np.exp(stream.normal(0, 0.1, 9))
        found = fit_threshold(np.repeat(levels[:8], 3), np.repeat(np.arange(8), 3))
        below.append(levels[8] <= found.value)
        assert (found.unit, found.n_units) == ("subject", 8)
    assert np.mean(below) >= 0.975


@pytest.mark.parametrize("subjects", [np.full(200, -1), np.arange(200) % 4])
def test_the_threshold_is_a_percentile_of_slices_where_subjects_are_few_or_unknown(subjects):
    found = fit_threshold(np.arange(200.0) + 1, subjects)
    assert (found.value, found.unit, found.n_units) == (pytest.approx(198.01), "slice", 200)


def test_a_reference_is_read_as_it_was_written_and_a_damaged_one_refused(tmp_path):
    reference = fit_reference(np.random.default_rng(3).normal(size=(9, 4)))
    reference.write(tmp_path / "reference.safetensors")
    again = FeatureReference.read(tmp_path / "reference.safetensors")
    assert all(torch.equal(getattr(again, name), getattr(reference, name)) for name in again.__dataclass_fields__)
    (tmp_path / "reference.safetensors").write_bytes(b"damaged")
    os.mkfifo(tmp_path / "pipe")
    for name in ("reference.safetensors", "pipe"):
        with pytest.raises(RunError, match="is missing or damaged"):
            FeatureReference.read(tmp_path / name)


def test_features_are_means_over_the_cells_of_a_grid():
    maps = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert grid_features(maps)[0, :2].tolist() == [4.5, 6.5]
    assert grid_features(torch.zeros(2, 1024, 4, 4)).shape == (2, 1024)
    assert grid_features(torch.zeros(2, 3, 6, 6)).shape == (2, 12)  # a grid of 4 has unequal cells here
    assert grid_features(torch.ones(2, 5, 3)).shape == (2, 3)
    with pytest.raises(DataError, match="have the shape"):
        grid_features(torch.zeros(2, 3))
    with pytest.raises(DataError, match="have the type tuple"):
        grid_features((torch.zeros(2, 3, 4, 4),))  # pyright: ignore[reportArgumentType]


def test_a_random_choice_of_slices_is_bounded_and_sorted():
    rows = choose_slices(np.arange(5000), 0)
    assert len(rows) == 4000
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("name", ["compact_cnn", "strided_cnn", "baseline_cnn"])
def test_the_deployed_module_agrees_with_the_network(name):
    """Also where the network looks at each slice twice, mirrored: the features are those of the slice itself."""
    network = create_model(name, size=32, seed=0).eval()
    images = np.random.default_rng(4).integers(0, 256, (6, 32, 32), np.uint8)
    reference = fit_reference(compute_features(network, images, "unit"))
    with torch.inference_mode():
        probabilities, found = DeployedModel(network, "unit", 1.0, reference)(torch.from_numpy(images))
        warmer, _ = DeployedModel(network, "unit", 2.0, None)(torch.from_numpy(images))
    np.testing.assert_allclose(probabilities, predict_probabilities(network, images, "unit"), atol=1e-6)
    expected = distances(torch.from_numpy(compute_features(network, images, "unit")), reference)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    logits = probabilities.log() / 2
    np.testing.assert_allclose(warmer, logits.softmax(dim=1), atol=1e-6)


def test_a_network_without_a_reference_has_no_distances():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    _, found = DeployedModel(network, "unit", 1.0, None)(torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert found.isnan().tolist() == [True] * 3
