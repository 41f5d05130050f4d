import numpy as np
import pytest
import torch

from mriscope.data.slices import SliceSet
from mriscope.errors import DataError, RecipeError
from mriscope.evaluation.inference import predict_probabilities
from mriscope.models.compact import SubjectCNN
from mriscope.models.registry import create_model
from mriscope.recipe import TrainingSettings
from mriscope.training.fitting import fit
from mriscope.training.progress import Monitor

SIDE = 32


def spots(noise: int = 0) -> SliceSet:
    """Twelve slices of each of six subjects, who are told by a bright square's place; odd subjects have class 1."""
    rng = np.random.default_rng(noise)
    images = rng.integers(0, 60, (72, SIDE, SIDE)).astype(np.uint8)
    subjects = np.arange(72) % 6
    for image, subject in zip(images, subjects, strict=True):
        top, left = 16 * (subject // 3), 10 * (subject % 3)
        image[top : top + 10, left : left + 10] += 150
    return SliceSet.of(images, subjects % 2, subjects=subjects, class_names=("even", "odd"))


def subject_cnn(subjects: int = 8) -> SubjectCNN:
    model = create_model("subject_cnn", classes=2, size=SIDE, options={"subjects": subjects, "places": 2}, seed=0)
    assert isinstance(model, SubjectCNN)
    return model


def fitted(model: SubjectCNN, slices: SliceSet, training: np.ndarray, validation: np.ndarray, folder, **settings):
    chosen = TrainingSettings(**{"epochs": 12, "batch_size": 12, **settings})
    given = {
        "scale": "unit",
        "seed": 0,
        "device": torch.device("cpu"),
        "folder": folder,
        "monitor": Monitor(silent=True),
    }
    return fit(model, slices, training, validation, chosen, **given)


def test_class_logits_are_those_of_its_subjects_together():
    model = subject_cnn(subjects=5).eval()
    model.class_of_subject.copy_(torch.tensor([0, 1, 1, 0, 2]))  # 2 is no class: an output without a subject
    images = torch.rand(3, 1, SIDE, SIDE)
    z = model._logits(images).double()
    expected = torch.stack([z[:, [0, 3]].exp().sum(1).log(), z[:, [1, 2]].exp().sum(1).log()], dim=1)
    torch.testing.assert_close(model(images).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decay", [None, 0.8])
def test_it_learns_subjects_and_gives_their_class(tmp_path, decay):
    slices, rows = spots(), np.arange(72)
    model = subject_cnn()
    trained = fitted(model, slices, rows[:60], rows[60:], tmp_path, weight_averaging=decay)
    assert trained.weights["class_of_subject"].tolist() == [0, 1, 0, 1, 0, 1, 2, 2]
    assert trained.history[-1]["train_accuracy"] == 1  # of subjects
    other = subject_cnn().eval()
    other.load_state_dict(trained.weights)
    unseen = spots(noise=1)
    assert (predict_probabilities(other, unseen.images, "unit").argmax(axis=1) == unseen.labels).all()


def test_what_it_cannot_learn_is_said(tmp_path):
    slices, rows = spots(), np.arange(72)
    with pytest.raises(RecipeError, match=r"model_options\.subjects: is 5, and the training part has 6 subjects"):
        fitted(subject_cnn(5), slices, rows[:60], rows[60:], tmp_path)
    others = slices.subjects == 0
    with pytest.raises(DataError, match="validation has subjects that training lacks; take a split by slice"):
        fitted(subject_cnn(), slices, rows[~others], rows[others], tmp_path)
    unknown = SliceSet.of(slices.images, slices.labels, class_names=("even", "odd"))
    with pytest.raises(DataError, match="some slices have none; name them in a manifest"):
        fitted(subject_cnn(), unknown, rows[:60], rows[60:], tmp_path)
