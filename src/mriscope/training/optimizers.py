"""Optimizer and learning-rate schedule from settings."""

import math
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from mriscope.errors import RecipeError
from mriscope.recipe import TrainingSettings
from mriscope.training.optimizer_names import check_optimizer_name

MOVING = ("last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs", "cooldown_counter")
"""What changes in the state of a schedule; the rest follows from the settings."""
_TRIED_EPOCHS = 50  # of a schedule, before training; a plateau acts on its options once its patience is over


def make_optimizer(settings: TrainingSettings, model: nn.Module) -> Optimizer:
    """Create the optimizer that the settings name, over the weights that are not frozen.

    Raises:
        UnknownNameError: torch.optim has no such optimizer.
        RecipeError: the optimizer has no such option or refuses its value.
    """
    check_optimizer_name(settings.optimizer)
    if "lr" in settings.optimizer_options:
        raise RecipeError("training.optimizer_options", ["lr is set by training.learning_rate alone"])
    optimizer = getattr(torch.optim, settings.optimizer)
    weights = [one for one in model.parameters() if one.requires_grad]
    options: dict[str, Any] = {"lr": settings.learning_rate, **settings.optimizer_options}
    # One kernel for the whole step halves the time that BaselineCNN's AdamW takes on a CPU.
    if settings.optimizer in ("Adam", "AdamW", "SGD") and not {"foreach", "differentiable"} & set(options):
        options.setdefault("fused", True)
    try:
        return optimizer(weights, **options)
    except Exception as error:  # torch checks some options, and fails in any way on others
        raise refused_options("training.optimizer_options", settings.optimizer, error) from error


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule; the constant one has no scheduler."""

    kind: str
    scheduler: Any = None

    def after_step(self) -> None:
        """Advance a schedule that changes with every step."""
        if self.kind == "one_cycle":
            self.scheduler.step()

    def after_epoch(self, validation_loss: float) -> None:
        """Advance a schedule that changes with every epoch."""
        if self.kind == "plateau":
            self.scheduler.step(validation_loss)
        elif self.kind == "cosine":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state, which is empty for the constant schedule."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def check_state(self, state: Mapping[str, Any], rates: Sequence[float], epochs: int, steps: int) -> None:
        """Check that a state is that after so many epochs and steps.

        Args:
            state: what state_dict returned; it has its keys and kinds.
            rates: learning rates of the optimizer then.
            epochs: that were finished.
            steps: that were taken in all.

        Raises:
            ValueError: names the field that does not fit, and what was expected.
        """
        done = steps if self.kind == "one_cycle" else epochs
        if state and state["last_epoch"] != done:
            raise ValueError(f"schedule.last_epoch is {reprlib.repr(state['last_epoch'])}, expected {done}")
        if state and list(state["_last_lr"]) != list(rates):
            raise ValueError(f"schedule._last_lr is {reprlib.repr(state['_last_lr'])}, expected {reprlib.repr(rates)}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what state_dict returned."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)


def make_schedule(settings: TrainingSettings, optimizer: Optimizer, steps_per_epoch: int) -> Schedule:
    """Create the schedule that the settings name.

    constant keeps the rate; cosine falls to 0 over `T_max` epochs (all of them unless set); one_cycle rises and falls
    once over all steps with the learning rate as its peak; plateau multiplies by `factor` when the validation loss has
    not fallen for `patience` epochs.

    Raises:
        RecipeError: the schedule has no such option or refuses its value.
    """
    kind, given = settings.schedule, settings.schedule_options
    if kind == "constant" and not given:
        return Schedule(kind)
    try:
        match kind:
            case "cosine":
                scheduler = lr_scheduler.CosineAnnealingLR(optimizer, **{"T_max": settings.epochs, **given})
            case "one_cycle":
                if taken := sorted({"total_steps", "epochs", "steps_per_epoch"} & set(given)):
                    raise TypeError(f"{taken[0]} follows from training.epochs and the data")
                defaults = {"max_lr": settings.learning_rate, "total_steps": settings.epochs * steps_per_epoch}
                scheduler = lr_scheduler.OneCycleLR(optimizer, **{**defaults, **given})
            case "plateau":
                scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **given)
            case "constant":
                raise TypeError(f"it takes no options, and got {', '.join(given)}")
    except Exception as error:  # as above
        raise refused_options("training.schedule_options", kind, error) from error
    return Schedule(kind, scheduler)


def try_options(settings: TrainingSettings, steps_per_epoch: int) -> None:
    """Take a few steps of optimizer and schedule on two weights, as some options are looked at only then.

    Raises:
        RecipeError: they fail, or lead to a learning rate that is none.
    """
    weights = nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(settings, weights)
    weights.weight.grad = torch.ones_like(weights.weight)
    try:
        optimizer.step()
    except Exception as error:
        raise refused_options("training.optimizer_options", settings.optimizer, error) from error
    schedule = make_schedule(settings, optimizer, steps_per_epoch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wants steps of the optimizer between those of the schedule
            schedule.after_step()
            for _ in range(min(settings.epochs, _TRIED_EPOCHS)):
                schedule.after_epoch(1.0)
        rate = learning_rate(optimizer)
    except Exception as error:
        raise refused_options("training.schedule_options", settings.schedule, error) from error
    if not 0 <= rate < math.inf:
        problem = f"{settings.schedule} leads to a learning rate of {rate:g}; it must stay finite and not below 0"
        raise RecipeError("training.schedule_options", [problem])


def refused_options(key: str, name: str, error: Exception) -> RecipeError:
    """Return the error that says in one line why torch does not take options."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return RecipeError(key, [f"{name} refuses them: {reason}"])


def learning_rate(optimizer: Optimizer) -> float:
    """Return the learning rate of the optimizer's first group."""
    return float(optimizer.param_groups[0]["lr"])
