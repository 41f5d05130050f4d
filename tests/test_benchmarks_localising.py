"""The parts of the localisation benchmark: regions of tasks on a drawn brain, and rankings compared by hand."""

import math

import numpy as np
import pytest
import torch
from localising.measures import (
    Examples,
    Setting,
    keep_by_method,
    map_file,
    measure_place,
    measure_places,
    read_maps,
)
from localising.networks import subject_means
from localising.tables import mean_tau
from localising.tasks import Cohort, measure_subject, split_rows

from mriscope.data.slices import SliceSet
from mriscope.explain.regions import find_regions

SIDE = 128


def draw(ventricle: int, left: int, right: int) -> np.ndarray:
    """Return a square brain whose halves differ in grey, with a square ventricle in its middle."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[14:114, 14:64], image[14:114, 64:114] = left, right
    image[64 - ventricle : 64 + ventricle, 64 - ventricle : 64 + ventricle] = 30
    return image


def test_values_and_regions_are_those_of_the_drawing() -> None:
    images = np.stack([draw(8, 200, 200), draw(16, 220, 200)])
    found = measure_subject(images, find_regions(images))
    assert found["ventricles"] == pytest.approx([256 / 10000, 1024 / 10000])
    assert found["side"][0] == pytest.approx(0)
    assert found["side"][1] > 0.05
    rows, columns = np.nonzero(found["region_ventricles"][0])  # 53 to 74 at 128; half of a pixel is enough
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (26, 37, 26, 37)
    assert not (found["region_ventricles"] & found["region_cortex"]).any()
    assert not found["region_left"][..., 32:].any()
    assert found["region_left"].sum() == found["region_right"].sum()


def test_the_truth_of_the_brighter_side_follows_the_label() -> None:
    left, right = np.zeros((4, 2, 2), bool), np.zeros((4, 2, 2), bool)
    left[..., 0], right[..., 1] = True, True
    slices = SliceSet.of(np.zeros((4, 2, 2), np.uint8), [0] * 4)
    everything = np.arange(4)
    cohort = Cohort(slices, {"side": np.array([0.3, -0.2, 0.1, -0.1])}, {"left": left, "right": right}, {})
    cohort.rows["training"] = everything
    assert cohort.labels("side").tolist() == [1, 0, 1, 0]
    assert (cohort.truth("side", everything) == np.stack([left[0], right[0]] * 2)).all()


def test_subjects_are_split_and_never_shared() -> None:
    subjects = np.repeat(np.arange(200), 4)
    rows = split_rows(subjects)
    assert {name: len(np.unique(subjects[part])) for name, part in rows.items()} == {
        "training": 120,
        "validation": 20,
        "test": 60,
    }
    assert len(np.unique(np.concatenate(list(rows.values())))) == 800


def test_a_map_on_the_planted_region_scores_best_and_a_flat_one_by_chance(tmp_path) -> None:
    region = torch.zeros(2, 64, 64, dtype=torch.bool)
    region[:, 20:30, 20:30] = True
    brains = torch.ones_like(region)
    best = measure_place(region.float(), region, brains)
    assert best["pointing"].tolist() == [1, 1]
    assert best["auroc"].tolist() == [1, 1]
    assert best["ratio"] == pytest.approx([40.96, 40.96], rel=1e-6)
    images = torch.zeros(2, 1, 64, 64)
    images[:, 0, :, 32:] = 1
    examples = Examples(np.arange(2), images, np.arange(2), brains)
    edges = read_maps(tmp_path / "none", "edges", examples)
    assert edges is not None
    assert set(torch.nonzero(edges[0])[:, 1].tolist()) == {31, 32}
    assert read_maps(tmp_path / "none", "gradcam", examples) is None


def test_a_cohort_comes_back_as_it_was_saved(tmp_path) -> None:
    rng = np.random.default_rng(0)
    slices = SliceSet.of(
        rng.integers(0, 255, (400, 4, 4)).astype(np.uint8),
        [0] * 400,
        subjects=np.repeat(np.arange(200), 2),
        positions=np.tile([16, 20], 200),
        paths=[f"part/{row}" for row in range(400)],
    )
    regions = {"brain": rng.random((400, 4, 4)) < 0.5}
    cohort = Cohort(slices, {"side": rng.random(400)}, regions, split_rows(slices.subjects), "abc")
    cohort.save(tmp_path / "new" / "cohort.npz")
    found = Cohort.load(tmp_path / "new" / "cohort.npz")
    assert found.commit == "abc"
    assert (found.values["side"] == cohort.values["side"]).all()
    assert (found.regions["brain"] == regions["brain"]).all()
    assert all((found.rows[part] == rows).all() for part, rows in cohort.rows.items())
    for name in ("images", "subjects", "positions", "paths"):
        assert (getattr(found.slices, name) == getattr(slices, name)).all()


def test_what_was_cut_off_goes_on_and_measures_nothing_twice(tmp_path) -> None:
    region = torch.zeros(2, 64, 64, dtype=torch.bool)
    region[:, 20:30, 20:30] = True
    examples = Examples(np.arange(2), torch.rand(2, 1, 64, 64), np.arange(2), torch.ones_like(region))
    start, measured = tmp_path / "none", []

    def measure(maps: torch.Tensor) -> dict[str, np.ndarray]:
        measured.append(maps)
        return measure_places({"ventricles": region.numpy()}, examples.brains, maps)

    for ends, already in ((0.0, 0), (math.inf, 3), (math.inf, 3)):  # nothing in no time, then the three baselines once
        keep_by_method(Setting(tmp_path, tmp_path, "cpu", ends), examples, start, "places", measure)
        assert len(measured) == already
    np.savez_compressed(map_file(start, "gradcam"), maps=region.numpy().astype(np.float16))
    keep_by_method(Setting(tmp_path, tmp_path, "cpu", math.inf), examples, start, "places", measure)
    assert len(measured) == 4
    found = np.load(tmp_path / "none-places.npz")
    assert found["gradcam ventricles pointing"].tolist() == [1, 1]
    assert {key.split(" ")[0] for key in found.files} == {"random", "centre", "edges", "gradcam"}


def test_subject_means_by_hand() -> None:
    values, subjects = np.array([1.0, 2.0, 3.0, 10.0]), np.array([5, 5, 9, 9])
    assert subject_means(values, subjects, np.array([0, 1, 3])).tolist() == [1.5, 10]


def test_tau_by_hand() -> None:
    assert mean_tau([[1, 2, 3, 4], [1, 3, 2, 4]]) == "0.67"  # five of six pairs agree: (5 - 1) / 6
    assert mean_tau([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == "-0.33 (-1.00 to 1.00)"
    assert mean_tau([[1, 2, 3, math.nan], [1, 2, 3, 0]]) == "1.00"  # a method that one does not rank is left out
    assert mean_tau([[1.0, math.nan], [1, 2]]) == "–"
