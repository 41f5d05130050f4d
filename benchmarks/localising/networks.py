"""Networks for the tasks: trained once, kept with what they reach on held-out subjects."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from localising.tasks import QUICK, SIDE, Cohort
from mriscope.evaluation.inference import predict_probabilities
from mriscope.files import write_text
from mriscope.models.registry import create_model
from mriscope.recipe import TrainingSettings
from mriscope.training.fitting import fit
from mriscope.training.progress import Monitor

BAR = 0.0 if QUICK else 0.80
SEEDS = (0, 1, 2)
EPOCHS = {"baseline_cnn": 4, "keras_like": 4, "compact_cnn": 20, "timm:resnet18": 3}
LONGER = {"side": 5}
"""How many times as many epochs a task takes that was not learned in those of EPOCHS."""
NETWORKS = {
    "compact_cnn": "compact_cnn",
    "baseline_cnn": "BaselineCNN",
    "keras_like": "keras_like",
    "timm:resnet18": "ResNet-18",
}


Network = tuple[str, str, int]
"""Task, network and seed."""


@dataclass(frozen=True)
class Reached:
    """What a network reaches on held-out subjects.

    Args:
        auroc_slices: AUROC of slices.
        auroc_subjects: AUROC of subjects: mean probability against whether the mean value is above the median.
        commit: of the code that trained it.
    """

    auroc_slices: float
    auroc_subjects: float
    commit: str

    @property
    def counts(self) -> bool:
        """Return whether the network has learned its task."""
        return self.auroc_subjects >= BAR


def name_of(one: Network) -> str:
    """Return the name of a network's files."""
    task, network, seed = one
    return f"{task}-{network.replace('timm:', '')}-{seed}"


def build(network: str, seed: int) -> nn.Module:
    """Create a network with random weights, two outputs."""
    options = {"weights": "none"} if network.startswith("timm:") else None
    return create_model(network, classes=2, size=SIDE, options=options, seed=seed)


def trained(cohort: Cohort, one: Network, folder: Path, device: str) -> tuple[nn.Module, Reached]:
    """Return a network on a device and what it reaches: from the folder, or trained now and kept there."""
    task, network, seed = one
    file = folder / f"{name_of(one)}.pt"
    facts = file.with_suffix(".json")
    model = build(network, seed)
    if not facts.is_file():
        train_network(model, cohort, one, device)
        torch.save(model.state_dict(), file)
        write_text(facts, json.dumps(asdict(evaluate(model, cohort, task)), indent=1) + "\n")
    model.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
    return model.to(device).eval(), Reached(**json.loads(facts.read_text()))


def train_network(model: nn.Module, cohort: Cohort, one: Network, device: str) -> None:
    """Train a network; it keeps the epoch with the lowest loss on the validation subjects."""
    task, network, seed = one
    epochs = 1 if QUICK else EPOCHS[network] * LONGER.get(task, 1)
    with TemporaryDirectory() as scratch:
        found = fit(
            model,
            cohort.task(task),
            cohort.rows["training"],
            cohort.rows["validation"],
            TrainingSettings(epochs=epochs, batch_size=16),
            scale="unit",
            seed=seed,
            device=torch.device(device),
            folder=Path(scratch),
            monitor=Monitor(silent=True),
        )
    model.load_state_dict(found.weights)


def evaluate(model: nn.Module, cohort: Cohort, task: str) -> Reached:
    """Evaluate a network on the held-out subjects."""
    test = cohort.rows["test"]
    scores = predict_probabilities(model, cohort.slices.images[test], "unit")[:, 1]
    threshold = np.median(subject_means(cohort.values[task], cohort.slices.subjects, cohort.rows["training"]))
    labels = subject_means(cohort.values[task], cohort.slices.subjects, test) > threshold
    pooled = subject_means(scores, cohort.slices.subjects[test], np.arange(len(test)))
    return Reached(
        float(roc_auc_score(cohort.labels(task)[test], scores)),
        float(roc_auc_score(labels, pooled)),
        cohort.commit,
    )


def measure_dependence(model: nn.Module, cohort: Cohort, task: str, file: Path) -> None:
    """Check that a network's answer comes from its place: AUROC of held-out slices without the place, and of it alone.

    What is taken away becomes the mean of the training slices. The place is the same in all slices, so that its outline
    tells nothing. Both numbers are kept in a file.
    """
    if file.is_file():
        return
    test, labels = cohort.rows["test"], cohort.labels(task)[cohort.rows["test"]]
    images, place = cohort.slices.images[test], cohort.place(task)
    mean = np.asarray(cohort.slices.images[cohort.rows["training"]]).mean(0).round().astype(np.uint8)
    changed = np.where(place, mean, images), np.where(place, images, mean)
    scores = [predict_probabilities(model, some, "unit")[:, 1] for some in changed]
    write_text(file, json.dumps([float(roc_auc_score(labels, one)) for one in scores]) + "\n")


def subject_means(values: np.ndarray, subjects: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of some rows' values for each subject."""
    numbers = np.unique(subjects[rows], return_inverse=True)[1]
    return np.bincount(numbers, values[rows]) / np.bincount(numbers)
