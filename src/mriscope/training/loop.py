"""train(): gradient steps that can be interrupted anywhere and resumed to the same weights, bit for bit."""

import copy
import csv
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mriscope.data.augmentation import augment
from mriscope.data.batches import Scale, batch, one_channel, rescaled, scaled
from mriscope.data.slices import SliceSet
from mriscope.errors import RunError, TrainingError
from mriscope.files import replacing
from mriscope.recipe import AugmentationSettings, TrainingSettings
from mriscope.training.checkpoint import load_state, save_state
from mriscope.training.devices import all_reduce_sum, broadcast_buffers, gather_shares, rank, use_bfloat16, world_size
from mriscope.training.objectives import Objective, balanced_class_weights, hardest, make_objective
from mriscope.training.optimizers import MOVING, Schedule, learning_rate, make_optimizer, make_schedule, try_options
from mriscope.training.progress import Monitor
from mriscope.training.sampling import balanced, epoch_batches, n_batches, shuffled, step_seed
from mriscope.training.shared_batch_norm import count_slices, share_batch_norm
from mriscope.training.signals import StopRequest, stop_signals
from mriscope.training.state import Best, EpochMetrics, Totals, TrainingState, check_equal, check_like, parse_state

CHECKPOINT = "last.ckpt"
HISTORY = "history.csv"
SECONDS_BETWEEN_CHECKPOINTS = 120  # what a kill can cost at most; an epoch's end is always written
VALIDATION_BATCH = 128
_SCHEDULED = ("lr", "betas", "momentum")  # what schedules change of an optimizer's settings


@dataclass(frozen=True)
class Trained:
    """The result of a training run.

    Attributes:
        weights: of the epoch kept.
        epoch: number of that epoch, counted from 1.
        history: the metrics of each epoch.
    """

    weights: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]


@dataclass(frozen=True)
class _Job:
    """The constants of a training run."""

    model: nn.Module
    step_model: nn.Module
    """The model, wrapped where several processes share its steps."""
    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    average: AveragedModel | None
    slices: SliceSet
    settings: TrainingSettings
    scale: Scale
    half: bool
    """Whether steps compute in bfloat16."""
    seed: int
    device: torch.device
    folder: Path
    monitor: Monitor

    @property
    def kept_model(self) -> nn.Module:
        """Return the network that is validated and kept: the averaged one where weights are averaged."""
        return self.model if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Any]:
        """Return the objects that have a state, by its name in the checkpoint."""
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts if self.average is None else {**parts, "average": self.average}


def train(
    model: nn.Module,
    slices: SliceSet,
    training: np.ndarray,
    validation: np.ndarray,
    settings: TrainingSettings,
    *,
    scale: Scale,
    seed: int,
    device: torch.device,
    folder: Path,
    monitor: Monitor,
) -> Trained:
    """Train a network, or resume the run that was interrupted in the same folder.

    All randomness comes from (seed, epoch, step), so that a run that was killed and resumed ends with the same weights,
    bit for bit, as an uninterrupted one on the same machine. Under torchrun every batch is divided among the processes;
    gradient, batch norm and the choice of hard examples are those of the whole batch. Dropout and augmentation draw
    anew for each process.

    Args:
        model: from float32 (B, 1, H, W) to logits (B, K); left holding the last weights.
        slices: where rows are taken from.
        training: int64, the training rows.
        validation: int64, the rows that choose the epoch.
        settings: objective, optimizer, schedule and so on.
        scale: how pixels become floats.
        seed: of all randomness.
        device: where to compute.
        folder: gets last.ckpt and history.csv.
        monitor: shows progress.

    Raises:
        TrainingError: the loss is not finite; names the epoch and the step.
        RunError: the folder's checkpoint is damaged or does not fit this run.
        InterruptedTrainingError: Ctrl-C or SIGTERM; the folder holds all that is needed to resume.
    """
    model.to(device)
    if world_size() > 1:
        share_batch_norm(model)
    optimizer = make_optimizer(settings, model)
    decay = settings.weight_averaging
    labels = torch.from_numpy(np.array(slices.labels[training]))
    class_weights = balanced_class_weights(labels, len(slices.class_names))
    job = _Job(
        model=model,
        step_model=DistributedDataParallel(model) if world_size() > 1 else model,
        objective=make_objective(settings, class_weights if settings.class_weights == "balanced" else None),
        optimizer=optimizer,
        schedule=make_schedule(settings, optimizer, n_batches(len(training), settings.batch_size)),
        average=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None,
        slices=slices,
        settings=settings,
        scale=scale,
        half=use_bfloat16(settings.precision, device),
        seed=seed,
        device=device,
        folder=folder,
        monitor=monitor,
    )
    path = folder / CHECKPOINT
    state = _resume(job, path, len(training)) if path.exists() else TrainingState()
    with stop_signals() as stop, monitor.showing():
        while state.epoch < settings.epochs:
            best = state.best
            if settings.patience is not None and best is not None and state.epoch - best.epoch >= settings.patience:
                break
            if settings.sampling == "balanced":
                order = balanced(training, slices.labels[training], seed, state.epoch)
            else:
                order = shuffled(training, seed, state.epoch)
            _train_epoch(job, state, epoch_batches(order, settings.batch_size), stop)
            _end_epoch(job, state, validation)
            if stop.requested(device):
                stop.raise_if_requested(f"after epoch {state.epoch} of {settings.epochs}")
    history = [row.model_dump() for row in state.history]
    if settings.keep == "best" and state.best is not None:
        return Trained(state.best.weights, state.best.epoch, history)
    return Trained(job.kept_model.state_dict(), state.epoch, history)


def check_settings(model: nn.Module, settings: TrainingSettings, n_training: int) -> None:
    """Check that settings fit a network and the size of its training part, before anything is written.

    Raises:
        UnknownNameError: there is no such optimizer.
        RecipeError: the optimizer or the schedule refuses its options.
    """
    batches = n_batches(n_training, settings.batch_size)
    make_schedule(settings, make_optimizer(settings, model), batches)
    try_options(settings, batches)


def _train_epoch(job: _Job, state: TrainingState, batches: list[np.ndarray], stop: StopRequest) -> None:
    """Take the steps of an epoch that are still to be taken."""
    totals, epoch = state.totals, state.epoch
    job.monitor.begin_epoch(epoch + 1, job.settings.epochs, len(batches), state.step)
    job.model.train()
    started = saved = time.monotonic()
    before = totals.seconds
    for step in range(state.step, len(batches)):
        seed = step_seed(job.seed, epoch, step, rank())
        torch.manual_seed(seed)
        loss, right = _step(job, batches[step], seed)
        if not math.isfinite(loss):
            raise _not_finite("the loss", loss, f"in epoch {epoch + 1}, step {step + 1}", job)
        now = time.monotonic()
        state.step = step + 1
        totals.loss += loss * len(batches[step])
        totals.right += right
        totals.seen += len(batches[step])
        totals.seconds = before + now - started
        job.monitor.step(totals.loss / totals.seen, totals.right / totals.seen, totals.rate)
        if stop.requested(job.device) or now - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _save(job, state)
            saved = now
            stop.raise_if_requested(f"in epoch {epoch + 1} after step {step + 1} of {len(batches)}")


def _step(job: _Job, rows: np.ndarray, seed: int) -> tuple[float, float]:
    """Take one step of the optimizer.

    Returns:
        The mean loss of the whole batch and the number of its slices that were classified correctly, both over all
        processes.
    """
    own = rows[rank() :: world_size()]
    weight = float(len(own) > 0)  # a process that is left without rows repeats one at weight 0
    pixels, labels = batch(job.slices, own if len(own) else rows[:1], job.device)
    if job.settings.augmentation == AugmentationSettings():
        images = scaled(pixels, job.scale)
    else:
        images = rescaled(augment(scaled(pixels, "unit"), job.settings.augmentation, seed), job.scale)
    autocast = partial(torch.autocast, job.device.type, torch.bfloat16, enabled=job.half)
    count_slices(job.model, len(own) > 0)
    if job.settings.hard_share is None:
        with autocast():
            logits = job.step_model(images)
        losses = stepped = job.objective(_precise(logits), labels)
        n_stepped, stepped_weight = len(rows), weight
    else:  # rank the whole batch without gradients, then step on the slices with the highest loss
        with torch.no_grad(), autocast():
            logits = job.model(images)
        losses = job.objective(_precise(logits), labels)
        chosen = hardest(gather_shares(losses[: len(own)], len(rows)), job.settings.hard_share)
        n_stepped, mine = len(chosen), chosen[chosen % world_size() == rank()] // world_size()
        stepped_weight = float(len(mine) > 0)
        count_slices(job.model, len(mine) > 0)
        mine = mine if len(mine) else mine.new_zeros(1)
        with autocast():
            chosen_logits = job.step_model(one_channel(images.squeeze(1)[mine]))
        stepped = job.objective(_precise(chosen_logits), labels[mine])
    job.optimizer.zero_grad(set_to_none=True)
    # DistributedDataParallel averages over processes; the factor makes that the mean over the whole batch.
    (stepped.sum() * stepped_weight * world_size() / n_stepped).backward()
    job.optimizer.step()
    job.schedule.after_step()
    if job.average is not None:
        job.average.update_parameters(job.model)
    right = (logits.argmax(dim=1) == labels).sum().item() * weight
    total_loss, total_right = all_reduce_sum([losses.sum().item() * weight / len(rows), right], job.device)
    return total_loss, total_right


def _precise(logits: Tensor) -> Tensor:
    """Return logits in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _end_epoch(job: _Job, state: TrainingState, validation: np.ndarray) -> None:
    """Validate the epoch, record its metrics and write the checkpoint."""
    loss, accuracy = _validate(job, validation)
    if not math.isfinite(loss):
        raise _not_finite("the validation loss", loss, f"after epoch {state.epoch + 1}", job)
    totals = state.totals
    metrics = EpochMetrics(
        epoch=state.epoch + 1,
        train_loss=totals.loss / totals.seen,
        train_accuracy=totals.right / totals.seen,
        validation_loss=loss,
        validation_accuracy=accuracy,
        learning_rate=learning_rate(job.optimizer),
        seconds=totals.seconds,
        slices_per_second=totals.rate,
    )
    state.history.append(metrics)
    if state.best is None or loss < state.best.loss:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in job.kept_model.state_dict().items()}
        state.best = Best(epoch=metrics.epoch, loss=loss, weights=weights)
    job.schedule.after_epoch(loss)
    state.epoch, state.step, state.totals = metrics.epoch, 0, Totals()
    _save(job, state)
    job.monitor.end_epoch(metrics.model_dump(), job.settings.epochs)


@torch.inference_mode()
def _validate(job: _Job, rows: np.ndarray) -> tuple[float, float]:
    """Compute mean cross entropy and accuracy over rows, each counted once also when processes share them."""
    broadcast_buffers(job.kept_model)
    model = job.kept_model.eval()
    own = rows[rank() :: world_size()]
    loss = right = 0.0
    for start in range(0, len(own), VALIDATION_BATCH):
        images, labels = batch(job.slices, own[start : start + VALIDATION_BATCH], job.device)
        logits = _precise(model(scaled(images, job.scale)))
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(dim=1) == labels).sum().item()
    loss, right = all_reduce_sum([loss, right], job.device)
    return loss / len(rows), right / len(rows)


def _resume(job: _Job, path: Path, n_training: int) -> TrainingState:
    """Read a checkpoint, check all of it, and load it into model, optimizer and schedule.

    Raises:
        RunError: it is damaged, or the state of another run; names the first field that does not fit.
    """
    content, size = load_state(path), job.settings.batch_size
    batches = n_batches(n_training, size)
    try:
        own = {name: content.pop(name, None) for name in job.parts}
        state = parse_state(content)
        state.check_progress(job.settings.epochs, batches, size, n_training)
        optimizer, schedule = _copy_optimizer(job, batches)
        optimizer.step()
        expected = {name: part.state_dict() for name, part in job.parts.items()}
        known, found = optimizer.state_dict()["state"], own["optimizer"]
        if isinstance(found, dict) and isinstance(found.get("state"), dict):  # what gets no gradient has no state
            known = {number: known[number] for number in known if number in found["state"]}
        expected["optimizer"] |= {"state": known}
        for name in expected:
            check_like(own[name], expected[name], name)
        groups = zip(own["optimizer"]["param_groups"], expected["optimizer"]["param_groups"], strict=True)
        scheduled = _SCHEDULED if own["schedule"] else ()
        for number, (group, like) in enumerate(groups):
            check_equal(group, like, f"optimizer.param_groups.{number}", except_for=scheduled)
        check_equal(own["schedule"], expected["schedule"], "schedule", except_for=MOVING)
        rates = [group["lr"] for group in own["optimizer"]["param_groups"]]
        schedule.check_state(own["schedule"], rates, state.epoch, state.epoch * batches + state.step)
        if state.best is not None:
            check_like(state.best.weights, job.kept_model.state_dict(), "best.weights")
        optimizer.load_state_dict(copy.deepcopy(own["optimizer"]))
        schedule.load_state_dict(copy.deepcopy(own["schedule"]))
        if state.epoch * batches + state.step < job.settings.epochs * batches:  # values may still be absurd: try a step
            optimizer.step()
            schedule.after_step()
            schedule.after_epoch(1.0)
        for name, part in job.parts.items():
            part.load_state_dict(own[name])
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"{path} holds the state of another training run ({reason}); train with --fresh to begin anew"
        ) from error
    return state


def _copy_optimizer(job: _Job, batches: int) -> tuple[Optimizer, Schedule]:
    """Create optimizer and schedule for a copy of the model, whose gradients are 0."""
    model = copy.deepcopy(job.model)
    optimizer = make_optimizer(job.settings, model)
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights) if weights.requires_grad else None
    return optimizer, make_schedule(job.settings, optimizer, batches)


def _save(job: _Job, state: TrainingState) -> None:
    """Write history.csv and the checkpoint, in the first process alone."""
    if rank() != 0:
        return
    if state.history:
        with replacing(job.folder / HISTORY) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(EpochMetrics.model_fields))
            writer.writeheader()
            writer.writerows(row.model_dump() for row in state.history)
    parts = {name: part.state_dict() for name, part in job.parts.items()}
    save_state({**state.model_dump(), **parts}, job.folder / CHECKPOINT)


def _not_finite(what: str, loss: float, where: str, job: _Job) -> TrainingError:
    return TrainingError(
        f"{what} became {loss} {where}; lower training.learning_rate "
        f"(now {learning_rate(job.optimizer):g}) or feed smaller numbers with input.scale: unit"
    )
