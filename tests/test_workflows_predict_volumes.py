"""Volumes and subjects: slices as known images, one answer by the evaluation's pooling, and what is unlike said."""

import io

import numpy as np
import pytest
from PIL import Image
from volume_files import axial_series, enhanced, write_dicoms, write_nifti, write_tumour

import mriscope
from mriscope import cli
from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import BadRowsError, DataError
from mriscope.evaluation.calibration import with_temperature
from mriscope.evaluation.conformal import fit_conformal, prediction_sets
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.recipe import make_recipe
from mriscope.reports.answer import answer_text
from mriscope.results import Answer, InferenceSettings
from mriscope.workflows.predict import TrainedModel

SIZE, COUNT = 32, 6
DATA = "phantom:subjects=24,slices=6"
SPACING = np.diag([1.0, 1.0, 4.0, 1.0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {"model": "compact_cnn", "data": DATA, "input": {"size": SIZE}, "training": {"epochs": 1}}
    recipe = make_recipe({**settings, "split": {"protocol": "by_subject", "validation": 0.4}})
    return mriscope.train(recipe, tmp_path_factory.mktemp("runs") / "one", device="cpu", silent=True)


@pytest.fixture(scope="module")
def model(run):
    return mriscope.load_model(run.path, "cpu")


@pytest.fixture(scope="module")
def brains():
    """Slices of two brains, uint8 (2, 6, 32, 32), of which enough pixels are white that a volume keeps their greys."""
    slices = mriscope.read(DATA, size=SIZE)
    images = np.stack([slices.images[slices.subjects == who] for who in (0, 1)]).copy()
    images[:, :, 16, 16:20] = 255
    images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    return images


def volume_of(images):
    """The volume in RAS+ whose axial slices are these images."""
    return np.ascontiguousarray(images[:, ::-1].transpose(2, 1, 0)).astype(np.int16)


def shares(answer):
    return np.array([by_output(one) for one in answer.slices])


def by_output(one):
    """The probabilities in the order of the model's outputs."""
    return [one.probabilities[name] for name in CLASS_NAMES]


def subject_of(shares, how):
    """Pool by hand, in float64."""
    if how == "mean_logit":
        raw = np.exp(np.log(np.maximum(shares, 2.0**-23)).mean(axis=0))
        return raw / raw.sum()
    return (np.eye(shares.shape[1])[shares.argmax(axis=1)] if how == "majority" else shares).mean(axis=0)


def test_a_volume_is_answered_as_the_images_it_is_made_of(model, brains, tmp_path):
    file = write_nifti(tmp_path / "scan.nii.gz", volume_of(brains[0]), SPACING)
    answer = model.predict([file])
    np.testing.assert_allclose(shares(answer), model.compute(brains[0])[0], rtol=0, atol=1e-6)
    assert [one.position for one in answer.slices] == [0, 4, 8, 12, 16, 20]
    (one,) = answer.subjects
    assert (one.unit, one.name, one.n_slices) == ("volume", str(file), COUNT)
    pooled = subject_of(shares(answer), model.description.inference.pooling)
    np.testing.assert_allclose(by_output(one), pooled, atol=1e-6)
    assert Answer.from_json(answer.to_json()) == answer


@pytest.mark.parametrize("how", ["mean_probability", "mean_logit", "majority"])
def test_subjects_are_pooled_as_by_the_evaluation(model, brains, tmp_path, how):
    """Two sessions of sub-01 and one of sub-02 in BIDS: two subjects, however their slices are spread over files."""
    for who, session, images in (("01", "1", brains[0, :3]), ("01", "2", brains[0, 3:]), ("02", "1", brains[1])):
        folder = tmp_path / "bids" / f"sub-{who}" / f"ses-{session}" / "anat"
        write_nifti(folder / f"sub-{who}_ses-{session}_T1w.nii.gz", volume_of(images), SPACING)
    inference = model.description.inference.model_copy(update={"pooling": how})
    described = model.description.model_copy(update={"inference": inference})
    answer = TrainedModel(model.network, described, model.reference).predict([tmp_path / "bids"])
    assert [(one.subject, one.session) for one in answer.slices[::3]] == [
        ("sub-01", "ses-1"),
        ("sub-01", "ses-2"),
        ("sub-02", "ses-1"),
        ("sub-02", "ses-1"),
    ]
    assert [(one.name, one.unit, one.n_slices) for one in answer.subjects] == [
        ("sub-01", "subject", COUNT),
        ("sub-02", "subject", COUNT),
    ]
    whole = Predictions.of([0] * 12, shares(answer).astype(np.float32), subjects=[0] * 6 + [1] * 6)
    expected = pool_by_subject(whole, how).probabilities
    found = np.array([by_output(one) for one in answer.subjects])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    by_hand = [subject_of(shares(answer)[rows], how) for rows in (slice(0, 6), slice(6, 12))]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)
    sets = prediction_sets(found, inference.conformal_subjects)
    names = np.array(model.class_names)
    assert [{*(one.prediction_set or ())} for one in answer.subjects] == [{*names[row].tolist()} for row in sets]


def test_pooling_and_sets_of_subjects_are_fitted_on_the_validation_part(run):
    settings = InferenceSettings.read(run.path / "inference.json")
    calibrated = with_temperature(run.predictions().of_part("validation"), settings.temperature)
    assert settings.pooling == choose_pooling(calibrated)
    pooled = pool_by_subject(calibrated, settings.pooling)
    assert settings.conformal_subjects == fit_conformal(pooled, unseen=True)
    assert settings.conformal_subjects is not None
    assert settings.conformal_subjects.n_units == calibrated.n_subjects


def test_every_kind_of_file_gets_the_same_answer(model, brains, tmp_path, monkeypatch):
    """One brain as DICOM files without order, as one file of several frames, by a pattern, and beside pictures."""
    voxels = volume_of(brains[0])
    series = axial_series(voxels, SPACING)
    write_dicoms(tmp_path / "series", series, [f"IM{at}" for at in (3, 0, 5, 1, 4, 2)])
    write_dicoms(tmp_path / "frames", [enhanced(series)])
    write_nifti(tmp_path / "some" / "scan.nii.gz", voxels, SPACING)
    expected = model.compute(brains[0])[0]
    for named in ("series", "frames", "frames/IM0000.dcm", "some/*.nii.gz"):
        answer = model.predict([tmp_path / named])
        np.testing.assert_allclose(shares(answer), expected, rtol=0, atol=1e-6)
        (one,) = answer.subjects
        assert one.n_slices == COUNT
        assert not any(secret in answer.to_json() for secret in ("Doe", "MRN-4711"))
    Image.fromarray(brains[1, 0]).save(tmp_path / "some" / "one.png")
    answer = model.predict([tmp_path / "some"])
    assert [one.path.rpartition("/")[2] for one in answer.slices][:2] == ["one.png", "scan.nii.gz#z000"]
    assert len(answer.subjects) == 1
    write_tumour(tmp_path / "mat" / "1.mat", np.arange(32 * 32, dtype=np.int16).reshape(32, 32), 1, "100360")
    assert [one.name for one in model.predict([tmp_path / "mat"]).subjects] == ["100360"]


def test_sets_with_subjects_are_pooled_too(model):
    answer = model.predict(["phantom:subjects=3,slices=4"])
    assert [one.n_slices for one in answer.subjects] == [4, 4, 4]
    np.testing.assert_allclose(
        shares(answer), model.compute(mriscope.read("phantom:subjects=3,slices=4", size=SIZE).images)[0], atol=1e-6
    )


def test_plane_and_choice_of_slices_are_those_of_training_unless_named(model, brains, tmp_path):
    file = write_nifti(tmp_path / "scan.nii", volume_of(brains[0]), SPACING)
    described = model.description.model_copy(update={"slices": "3:13"})
    asked = TrainedModel(model.network, described, model.reference)
    assert [one.position for one in asked.predict([file]).slices] == [4, 8, 12]
    assert [one.position for one in asked.predict([f"{file}?slices=7:13"]).slices] == [8, 12]
    assert len(asked.predict([f"{file}?slices=all"]).slices) == COUNT
    turned = model.description.model_copy(update={"plane": "coronal"})
    asked = TrainedModel(model.network, turned, model.reference)
    for named, axis in ((str(file), "y"), (f"{file}?plane=axial", "z")):
        assert {one.path.split("#")[1][0] for one in asked.predict([named]).slices} == {axis}
    sagittal = model.predict([f"{file}?plane=sagittal"])
    assert sagittal.slices[0].path.split("#")[1][0] == "x"


def test_a_volume_unlike_those_of_training_is_told(model, brains, tmp_path):
    """Noise is said to be out of distribution, in the answer and in words; a brain gets a flag of its own."""
    slices = mriscope.read(DATA, size=SIZE)
    known = write_nifti(tmp_path / "known.nii", volume_of(slices.images[slices.subjects == 2]), SPACING)
    noise = np.random.default_rng(0).integers(0, 999, (SIZE, SIZE, 6)).astype(np.int16)
    answer = model.predict([known, write_nifti(tmp_path / "noise.nii", noise)])
    flags = {one.name: (one.out_of_distribution, one.share_out_of_distribution) for one in answer.subjects}
    assert flags[str(tmp_path / "noise.nii")] == (True, 1.0)
    assert flags[f"{known}"][0] is not None
    text = answer_text(answer)
    assert f"warning: volume {tmp_path / 'noise.nii'} is unlike the training data (100 % of its slices)" in text


def test_damaged_volumes_and_missing_files_are_told(model, brains, tmp_path):
    bad = tmp_path / "bad.nii"
    bad.write_bytes(write_nifti(tmp_path / "scan.nii", volume_of(brains[0])).read_bytes()[:400])
    with pytest.raises(BadRowsError, match=r"bad\.nii"):
        model.predict([bad, tmp_path / "scan.nii"])
    with pytest.raises(DataError, match="there is no file"):
        model.predict([tmp_path / "*.nii.gz"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image file and no volume"):
        model.predict([tmp_path / "empty"])


def test_parts_take_no_volumes(run, brains, tmp_path, capsys):
    file = write_nifti(tmp_path / "scan.nii.gz", volume_of(brains[0]))
    assert cli._run_app(["predict", str(run.path), str(file), "--out", str(tmp_path / "out")]) == 2
    assert "predict volumes without --out" in " ".join(capsys.readouterr().err.split())
    assert cli._run_app(["predict", str(run.path), str(file), "--json"]) == 0
    answer = Answer.from_json(capsys.readouterr().out)
    assert len(answer.subjects) == 1


def test_the_prefix_of_a_picture_tells_its_subject(model, brains, tmp_path):
    for at in range(2):
        content = io.BytesIO()
        Image.fromarray(brains[0, at]).save(content, "PNG")
        (tmp_path / f"OAS1_0028_MR1_mpr-1_{100 + at}.png").write_bytes(content.getvalue())
    (one,) = model.predict([tmp_path]).subjects
    assert (one.name, one.unit, one.n_slices) == ("OAS1_0028", "subject", 2)
