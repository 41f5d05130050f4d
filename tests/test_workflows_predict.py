"""One inference: what an answer says of its model, and that every way of asking gives the same numbers."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import mriscope
from mriscope.evaluation.calibration import fit_temperature, with_temperature
from mriscope.evaluation.conformal import fit_conformal
from mriscope.recipe import make_recipe
from mriscope.reports.answer import answer_text
from mriscope.results import Answer, InferenceSettings
from mriscope.workflows._answer import make_answer
from mriscope.workflows.predict_parts import _make_schema

SIZE = 32
DATA = "phantom:subjects=40,slices=3"


def _train(folder, protocol):
    settings = {"model": "compact_cnn", "data": DATA, "input": {"size": SIZE}, "split": {"protocol": protocol}}
    settings["split"]["validation"] = 0.4
    return mriscope.train(make_recipe({**settings, "training": {"epochs": 1}}), folder, device="cpu", silent=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("runs") / "by_subject", "by_subject")


@pytest.fixture(scope="module")
def slices():
    return mriscope.read(DATA, size=SIZE)


def test_an_answer_says_what_it_rests_on(run, slices):
    answer = mriscope.load_model(run.path).predict(slices.images[:2])
    metrics = run.metrics()
    assert answer.origin.model_dump(include={"run", "model", "protocol", "leaky", "n_subjects"}) == {
        "run": "by_subject",
        "model": "compact_cnn",
        "protocol": "by_subject",
        "leaky": False,
        "n_subjects": metrics.n_subjects,
    }
    assert answer.origin.unseen_subjects == metrics.metrics
    assert answer.origin.mriscope == mriscope.__version__
    assert Answer.from_json(answer.to_json()) == answer


def test_an_answer_has_classes_from_the_least_to_the_most_severe(run):
    """The numbers come in the order of the model's outputs, here AD, CN, MCI."""
    model = mriscope.load_model(run.path).description
    conformal = None if model.inference.conformal is None else model.inference.conformal.model_copy()
    inference = model.inference.model_copy(update={"conformal": conformal, "distance": None})
    changed = {"class_names": ["AD", "CN", "MCI"], "severity": ["CN", "MCI", "AD"], "inference": inference}
    shares = np.array([[0.5, 0.2, 0.3]], np.float32)
    answer = make_answer(model.model_copy(update=changed), ["a.png"], shares, np.array([np.nan], np.float32))
    assert list(answer.slices[0].probabilities) == ["CN", "MCI", "AD"]
    assert [*answer.slices[0].probabilities.values()] == pytest.approx([0.2, 0.3, 0.5])
    assert answer.slices[0].class_name == "AD"
    inside = answer.slices[0].prediction_set
    assert inside is not None
    assert inside == [name for name in ("CN", "MCI", "AD") if name in inside]
    head = answer_text(answer).splitlines()[0].split()
    assert head[2:5] == ["CN", "MCI", "AD"]
    schema = _make_schema(model.model_copy(update=changed))
    assert [name for name in schema.names if "_" in name][:3] == ["probability_CN", "probability_MCI", "probability_AD"]
    unknown = model.model_copy(update={**changed, "severity": None})
    assert unknown.display_order == [0, 1, 2]


def test_settings_are_fitted_on_the_validation_part_alone(run):
    validation = run.predictions().of_part("validation")
    settings = InferenceSettings.read(run.path / "inference.json")
    assert settings.temperature == fit_temperature(validation)
    assert settings.conformal == fit_conformal(with_temperature(validation, settings.temperature), unseen=True)
    assert settings.distance is not None
    assert settings.distance.n_units == validation.n_subjects
    assert settings.notes == []


def test_probabilities_are_those_of_the_run_after_its_temperature(run, slices):
    kept = run.predictions()
    rows = [slices.paths.tolist().index(path) for path in kept.paths]
    answer = mriscope.load_model(run.path).predict(slices.images[rows])
    found = np.array([[one.probabilities[name] for name in kept.class_names] for one in answer.slices])
    expected = with_temperature(kept, answer.inference.temperature).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    flagged = np.array([one.out_of_distribution for one in answer.slices])[kept.parts == "validation"]
    assert flagged.mean() <= 0.03  # the threshold is the 99th percentile of these few slices


def test_files_and_arrays_get_the_same_answer(run, slices, tmp_path):
    Image.fromarray(slices.images[5]).save(tmp_path / "one.png")
    (by_file,) = mriscope.predict(run.path, [tmp_path / "one.png"], device="cpu").slices
    (by_array,) = mriscope.load_model(run.path).predict(slices.images[5:6]).slices
    assert by_file.path == str(tmp_path / "one.png")
    assert by_file.model_copy(update={"path": "0"}) == by_array


def test_a_batch_of_one_agrees_with_a_batch_of_64(run, slices):
    model = mriscope.load_model(run.path)
    together, distances = model.compute(slices.images[:64])
    alone = [model.compute(slices.images[row : row + 1]) for row in range(8)]
    np.testing.assert_allclose(np.concatenate([one[0] for one in alone]), together[:8], atol=1e-6)
    np.testing.assert_allclose(np.concatenate([one[1] for one in alone]), distances[:8], rtol=1e-4)


def test_noise_and_inverted_slices_are_out_of_distribution(run, slices):
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE), np.uint8)
    answer = mriscope.load_model(run.path).predict(np.concatenate([noise, 255 - slices.images[:8]]))
    assert all(one.out_of_distribution for one in answer.slices)


def test_a_leaky_run_tells_no_metrics_of_unseen_subjects(slices, tmp_path):
    run = _train(tmp_path / "by_slice", "by_slice")
    answer = mriscope.load_model(run.path).predict(slices.images[:1])
    assert (answer.origin.leaky, answer.origin.unseen_subjects) == (True, None)
    assert "test subjects also have slices in training" in answer.origin.statement
    assert answer.inference.conformal is not None
    assert answer.inference.conformal.unseen is False
    assert any("coverage" in note for note in answer.inference.notes)


def test_a_run_of_before_gets_what_its_predictions_allow(run, slices, tmp_path):
    shutil.copytree(run.path, tmp_path / "old")
    for name in ("inference.json", "reference.safetensors"):
        (tmp_path / "old" / name).unlink()
    new, old = (mriscope.load_model(folder).predict(slices.images[:1]) for folder in (run.path, tmp_path / "old"))
    assert old.inference.conformal == new.inference.conformal
    assert (old.slices[0].out_of_distribution, old.inference.distance) == (None, None)
    assert any("trained before" in note for note in old.inference.notes)
    torch.testing.assert_close(list(old.slices[0].probabilities.values()), list(new.slices[0].probabilities.values()))


@pytest.mark.parametrize("name", ["inference.json", "reference.safetensors"])
def test_damaged_settings_are_refused(run, tmp_path, name):
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(b"{")
    with pytest.raises(mriscope.RunError, match=name):
        mriscope.load_model(tmp_path / "copy")


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8), np.uint8), np.zeros((1, SIZE, SIZE)), np.zeros((0, SIZE, SIZE), np.uint8)]
)
def test_arrays_that_hold_no_slices_are_refused(run, images):
    with pytest.raises(mriscope.DataError, match=r"this model takes uint8 \(N, 32, 32\)"):
        mriscope.load_model(run.path).predict(images)
