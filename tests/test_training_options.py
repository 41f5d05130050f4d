"""Every option of every optimizer and schedule, with values that fit and values that do not."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from mriscope.errors import MriscopeError
from mriscope.recipe import TrainingSettings, make_recipe
from mriscope.training.optimizer_names import OPTIMIZERS
from mriscope.training.optimizers import make_optimizer, make_schedule, try_options

SCHEDULES = {
    "cosine": lr_scheduler.CosineAnnealingLR,
    "one_cycle": lr_scheduler.OneCycleLR,
    "plateau": lr_scheduler.ReduceLROnPlateau,
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 10**6, 2**62, 0.5, 1.5, -0.5, 1e-300, 1e300),
    *("", "min", "linear", [], [0.9, 0.999], [1e300, -1], [[1]], ["x"], {}, {"a": 1}),
]
EPOCHS, STEPS = 3, 2


def options_of(kind: type) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name not in ("params", "optimizer", "lr")]


ASKED: list[dict[str, Any]] = [
    *(
        {"optimizer": name, "optimizer_options": {option: value}}
        for name in OPTIMIZERS
        for option in options_of(getattr(torch.optim, name))
        for value in VALUES
    ),
    *(
        {"schedule": name, "schedule_options": {option: value}}
        for name, kind in SCHEDULES.items()
        for option in options_of(kind)
        for value in VALUES
    ),
]


def train(settings: TrainingSettings) -> None:
    """All steps of a training, on a network of one layer."""
    layer = nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(settings, layer)
    schedule = make_schedule(settings, optimizer, STEPS)
    for _ in range(settings.epochs):
        for _ in range(STEPS):
            layer.weight.grad = torch.ones_like(layer.weight)
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(1.0)


@pytest.mark.filterwarnings("ignore")  # torch warns of some values that it takes
def test_every_value_is_taken_for_the_whole_training_or_refused_before_it() -> None:
    taken = refused = 0
    for asked in ASKED:
        try:
            settings = make_recipe({"model": "m", "training": {"epochs": EPOCHS, **asked}}).training
            try_options(settings, STEPS)
        except MriscopeError:
            refused += 1
            continue
        try:
            train(settings)
        except Exception as error:
            pytest.fail(f"{asked} was taken, and failed in the middle: {error!r}")
        taken += 1
    print(f"{taken + refused:,} values of options: {taken:,} were taken, {refused:,} refused before the run")
    assert taken > 300
    assert refused > 300
