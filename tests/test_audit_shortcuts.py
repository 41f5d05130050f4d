"""Shortcuts: planted ones are found and named, chance is not, and subjects stay on one side."""

from pathlib import Path

import numpy as np
import pytest
from data_files import encoded, pixels, write_parquet
from sklearn.naive_bayes import CategoricalNB

from mriscope.audit import shortcuts
from mriscope.audit.shortcuts import fact_text, find_shortcuts, pixel_facts
from mriscope.data.file_facts import FileFact, read_file_facts
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.results import Shortcuts

SUBJECTS, SLICES = 40, 3
LABELS = np.repeat(np.arange(SUBJECTS) % 4, SLICES)
GROUPS = np.repeat(np.arange(SUBJECTS), SLICES)
CLASSES = ("AD", "CN", "EMCI", "LMCI")


def find(*facts: FileFact, labels: np.ndarray = LABELS, groups: np.ndarray = GROUPS, seed: int = 0) -> Shortcuts:
    found = find_shortcuts(facts, labels, groups, CLASSES, seed=seed)
    assert found is not None
    return found


def by_subject(values: np.ndarray) -> np.ndarray:
    return values[GROUPS]


def chance_facts(rng: np.random.Generator) -> list[FileFact]:
    """Facts of whole subjects, drawn without regard to the class, and one of slices."""
    words = [rng.choice(["a", "b", "c"][: 2 + number % 2], SUBJECTS).astype(str) for number in range(6)]
    return [
        *(FileFact(f"word {number}", by_subject(one)) for number, one in enumerate(words)),
        FileFact("level", by_subject(rng.integers(0, 40, SUBJECTS).astype(float))),
        FileFact("bytes", rng.normal(size=len(LABELS)), from_brain=True),
    ]


def planted(kind: str, told: np.ndarray, rng: np.random.Generator) -> FileFact:
    """A fact that is another one where `told` is true."""
    values = {
        "word": np.where(told, "512×512", rng.choice(["256×256", "128×128"], len(told))),
        "level": rng.normal(np.where(told, 9, 0), 1),
        "rare": np.where(told, rng.uniform(1, 2, len(told)), 0),
        "border": rng.normal(np.where(told, 0.4, 0.2), 0.02),
    }
    return FileFact(kind, values[kind], from_brain=kind == "border")


@pytest.mark.parametrize("kind", ["word", "level", "rare", "border"])
def test_a_planted_shortcut_is_found_in_20_of_20_sets_and_named(kind: str):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        target = int(rng.integers(4))
        found = find(*chance_facts(rng), planted(kind, np.equal(LABELS, target), rng), seed=seed)
        assert found.flagged
        first = found.facts[0]
        assert (first.fact, first.class_name, first.flagged) == (kind, CLASSES[target], True)
        assert first.informedness > 0.9
        assert not any(one.flagged for one in found.facts[1:])


def test_none_of_20_clean_sets_is_flagged():
    scores = [find(*chance_facts(np.random.default_rng(seed)), seed=seed) for seed in range(20)]
    assert not any(found.flagged for found in scores)
    assert np.mean([found.score for found in scores]) == pytest.approx(0.25, abs=0.05)
    assert all(found.chance == pytest.approx(0.25, abs=0.05) for found in scores)
    assert np.mean([found.p <= 0.1 for found in scores]) < 0.4


def test_p_is_the_share_of_labellings_that_reach_as_much():
    found = find(planted("word", LABELS == 2, np.random.default_rng(0)))
    assert (found.p <= 0.01, found.facts[0].p) == (True, 1 / 1000)  # no other labelling reaches as much
    assert found.score == pytest.approx(0.5, abs=0.08)  # one class is told, and nothing tells the other three apart
    assert (found.unit, found.units, found.shuffles, found.left_out) == ("subject", 40, 999, ())


def test_the_classifier_is_the_naive_bayes_of_scikit_learn():
    rng = np.random.default_rng(0)
    bins, labels, folds = rng.integers(0, 5, 80), rng.integers(0, 3, (2, 80)), rng.integers(0, 5, 80)
    found = shortcuts._log_likelihood(np.eye(5, dtype=np.float32)[bins], labels, folds, 3)
    for one in range(2):
        for fold in range(5):
            model = CategoricalNB(class_prior=np.full(3, 1 / 3), min_categories=5)
            train = labels[one, folds != fold]
            alike = len(train) / (3 * np.bincount(train))
            model.fit(bins[folds != fold, None], train, sample_weight=alike[train])
            expected = model.predict_joint_log_proba(bins[folds == fold, None]) - np.log(1 / 3)
            np.testing.assert_allclose(found[one][:, folds == fold].T, expected, rtol=0, atol=1e-4)


def test_chance_of_a_few_noise_slices_is_one_in_two():
    chances = []
    for seed in range(5):
        noise = FileFact("noise", np.random.default_rng(seed).normal(size=12))
        found = find_shortcuts([noise], np.arange(12) % 2, np.arange(12), ["a", "b"], seed=seed)
        assert found is not None
        chances.append(found.chance)
    assert np.mean(chances) == pytest.approx(0.5, abs=0.02)


def test_what_tells_subjects_apart_is_no_shortcut_while_they_stay_on_one_side():
    own = by_subject(np.arange(SUBJECTS).astype(str))
    level = by_subject(np.random.default_rng(1).permutation(SUBJECTS).astype(float))
    told = FileFact("own name", own), FileFact("own level", level)
    assert not find(*told).flagged


def test_slices_of_one_subject_stand_in_one_fold():
    units, kept = shortcuts._units(np.tile([0, 1], 30), np.repeat(np.arange(20), 3), np.random.default_rng(0))
    assert kept.tolist() == [0, 1]
    assert len(units.labels) == 40  # every subject has slices of both classes
    subject = np.repeat(np.arange(20), 3)[units.rows]
    assert all(len(set(units.folds[units.unit[subject == one]])) == 1 for one in range(20))
    assert np.bincount(units.unit, units.shares).tolist() == pytest.approx([1] * 40)


def test_a_weak_fact_counts_unless_the_brain_has_a_say_in_it():
    told = np.where((LABELS == 1) & (GROUPS % 8 != 1), "x", "y")  # half of the subjects of one class
    files, brain = find(FileFact("a", told)), find(FileFact("a", told, from_brain=True))
    assert files.facts[0].informedness == brain.facts[0].informedness == pytest.approx(0.5, abs=0.1)
    assert (files.flagged, brain.flagged) == (True, False)
    assert (brain.score, brain.p) == (0.25, 1)


def test_slices_of_unknown_subject_count_for_themselves_and_need_more():
    told = np.where((LABELS == 1) & (GROUPS < 28), "x", "y")  # seven of ten subjects
    unknown = np.full(len(LABELS), -1)
    found = find(FileFact("a", told), groups=unknown)
    assert (found.unit, found.units) == ("slice", len(LABELS))
    assert (found.facts[0].informedness, found.facts[0].p) == (pytest.approx(0.7), 1 / 1000)
    assert not found.flagged
    assert find(FileFact("a", np.where(LABELS == 1, "x", "y")), groups=unknown).flagged


def test_classes_of_few_subjects_are_left_out():
    few = np.where((LABELS == 3) & (GROUPS > 15), 0, LABELS)  # subjects 3, 7, 11 and 15 are left to it
    found = find(FileFact("a", np.where(few == 3, "x", "y")), labels=few)
    assert (found.left_out, found.flagged, found.facts) == (("LMCI",), False, ())
    nothing = find_shortcuts([], np.zeros(9, np.int64), np.arange(9), ("AD", "CN"))
    assert nothing is None


def test_files_that_are_all_alike_tell_nothing():
    found = find(FileFact("a", np.full(len(LABELS), "x")))
    assert (found.flagged, found.facts, found.score, found.chance, found.p) == (False, (), 0.25, 0.25, 1)


def test_many_slices_are_thinned():
    labels = np.arange(5000) % 2
    found = find_shortcuts([FileFact("a", labels.astype(str))], labels, np.full(5000, -1), ("AD", "CN"))
    assert found is not None
    assert (found.units, found.flagged, found.score) == (1000, True, 1)


def test_unknown_values_are_a_value():
    values = np.where(LABELS == 2, np.nan, np.random.default_rng(0).normal(size=len(LABELS)))
    found = find(FileFact("bytes", values))
    assert (found.facts[0].class_name, found.flagged) == ("EMCI", True)


def test_what_surrounds_the_brain():
    image = np.full((1, 32, 32), 7, np.uint8)
    image[0, 8:24, 4:28] = 100
    framed = np.zeros((1, 32, 32), np.uint8)
    framed[0, 1:-1, 1:-1] = 200
    found = {fact.name: fact.values.tolist() for fact in pixel_facts(np.concatenate([image, framed]))}
    assert found == {
        "background level": [7, 0],
        "background noise": [0, pytest.approx(86.6)],  # one of the four pixels of each corner is of the picture
        "border above and below": [0.5, 1],  # all of it is within that noise
        "border left and right": [0.25, 1],
        "grey levels": [2, 2],
    }


def test_a_fact_in_words():
    found = find(FileFact("size", np.where(LABELS == 0, "512×512", "256×256")))
    assert fact_text(found.facts[0]) == (
        "size: 512×512 in 100 % of AD and 0 % of the other classes, most often 256×256"
    )
    assert found.told == (fact_text(found.facts[0]),)
    number = found.facts[0].model_copy(
        update={
            **{"fact": "background level", "class_name": "Non_Demented", "inside": "9", "outside": "0"},
            **{"share_inside": None, "share_outside": None},
        }
    )
    assert fact_text(number) == "background level: 9 (median) in Non Demented, 0 in the other classes"


def find_in_source(source: str | Path, slices: SliceSet, groups: np.ndarray | None = None) -> Shortcuts | None:
    facts = (*read_file_facts(source, slices.paths.tolist()), *pixel_facts(slices.images))
    return find_shortcuts(facts, slices.labels, slices.subjects if groups is None else groups, slices.class_names)


def test_a_source_of_which_one_class_was_saved_otherwise(tmp_path: Path):
    rows = [
        (encoded(pixels(seed, 16, 16), "JPEG", quality=60 if seed % 2 else 90), f"{seed}.jpg", seed % 2)
        for seed in range(24)
    ]
    source = write_parquet(tmp_path / "x.parquet", rows, ("AD", "CN"))
    slices = read(source, size=16)
    found = find_in_source(source, slices, np.arange(24))
    assert found is not None
    assert found.flagged
    assert "encoding" in {one.fact for one in found.facts if one.flagged}
    assert found.score == 1


def test_the_phantom_has_none():
    source = "phantom:subjects=40,slices=2,size=32"
    found = find_in_source(source, read(source))
    assert found is not None
    assert not found.flagged
    assert found.unit == "subject"


def test_the_real_slices_have_none(real_slices_folder: Path):
    slices = read(real_slices_folder)
    found = find_in_source(real_slices_folder, slices)
    assert found is not None
    assert not found.flagged
    assert {one.fact for one in found.facts} == {
        "bytes per pixel",
        "border above and below",
        "border left and right",
        "grey levels",
    }
