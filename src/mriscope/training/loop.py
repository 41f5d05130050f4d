"""train(): from a module and slices to the weights to keep, in steps that can be broken off anywhere and resumed."""

import csv
import math
import time
from dataclasses import dataclass
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
from mriscope.training.devices import add_up, rank, share_buffers, world
from mriscope.training.objectives import Objective, balanced_class_weights, hardest, make_objective, n_hardest
from mriscope.training.optimizers import Schedule, learning_rate, make_optimizer, make_schedule
from mriscope.training.progress import Monitor
from mriscope.training.sampling import balanced, epoch_batches, n_batches, shuffled, step_seed
from mriscope.training.signals import Stop, stop_signals

CHECKPOINT = "last.ckpt"
HISTORY = "history.csv"
SECONDS_BETWEEN_CHECKPOINTS = 120  # what a kill can cost at most; an epoch's end is always written
VALIDATION_BATCH = 128

State = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        weights: of the epoch kept.
        epoch: number of that epoch, counted from 1.
        history: one row of figures per epoch.
    """

    weights: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]


@dataclass(frozen=True)
class _Job:
    """What stays the same throughout a training."""

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
    seed: int
    device: torch.device
    folder: Path
    monitor: Monitor


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
    """Train a module, or go on where a training in the same folder was broken off.

    All chance comes from (seed, epoch, step), so that a training that was killed and resumed ends with the same
    weights, bit for bit, as an unbroken one on the same machine. Under torchrun every batch is shared out over the
    processes and the gradient is that of the whole batch.

    Args:
        model: from float32 (B, 1, H, W) to logits (B, K); left holding the last weights.
        slices: where rows are taken from.
        training: int64, rows that move the weights.
        validation: int64, rows that choose the epoch.
        settings: how.
        scale: how pixels become floats.
        seed: of all chance.
        device: where.
        folder: gets last.ckpt and history.csv.
        monitor: shows how it goes.

    Raises:
        TrainingError: the loss is not finite; names the epoch and the step.
        Interrupted: Ctrl-C or SIGTERM; the folder holds all that is needed to go on.
    """
    model.to(device)
    optimizer = make_optimizer(settings, model)
    decay = settings.weight_averaging
    labels = torch.from_numpy(np.array(slices.labels[training]))
    class_weights = balanced_class_weights(labels, len(slices.class_names))
    job = _Job(
        model=model,
        step_model=DistributedDataParallel(model) if world() > 1 else model,
        objective=make_objective(settings, class_weights if settings.class_weights == "balanced" else None),
        optimizer=optimizer,
        schedule=make_schedule(settings, optimizer, n_batches(len(training), settings.batch_size)),
        average=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None,
        slices=slices,
        settings=settings,
        scale=scale,
        seed=seed,
        device=device,
        folder=folder,
        monitor=monitor,
    )
    state = _resume(job)
    with stop_signals() as stop, monitor.showing():
        while state["epoch"] < settings.epochs and not _out_of_patience(state, settings):
            _train_epoch(job, state, epoch_batches(_order(job, training, state["epoch"]), settings.batch_size), stop)
            _end_epoch(job, state, validation)
            if stop.wanted(device):
                stop.obey(f"after epoch {state['epoch']} of {settings.epochs}")
    last = {"weights": _kept(job).state_dict(), "epoch": state["epoch"]}
    kept = state["best"] if settings.keep == "best" else last
    return Trained(kept["weights"], kept["epoch"], state["history"])


def check_settings(model: nn.Module, settings: TrainingSettings, n_training: int) -> None:
    """Raise for settings that do not fit the model or the size of its training part, before anything is written.

    Raises:
        UnknownName: there is no such optimizer.
        RecipeError: the optimizer or the schedule refuses its options.
    """
    make_schedule(settings, make_optimizer(settings, model), n_batches(n_training, settings.batch_size))


def _order(job: _Job, training: np.ndarray, epoch: int) -> np.ndarray:
    if job.settings.sampling == "balanced":
        return balanced(training, job.slices.labels[training], job.seed, epoch)
    return shuffled(training, job.seed, epoch)


def _train_epoch(job: _Job, state: State, batches: list[np.ndarray], stop: Stop) -> None:
    """Take the steps of an epoch that are still to be taken."""
    totals, epoch = state["totals"], state["epoch"]
    job.monitor.begin_epoch(epoch + 1, job.settings.epochs, len(batches), state["step"])
    job.model.train()
    started = saved = time.monotonic()
    before = totals["seconds"]
    for step in range(state["step"], len(batches)):
        seed = step_seed(job.seed, epoch, step, rank())
        torch.manual_seed(seed)
        loss, right = _step(job, batches[step], seed)
        if not math.isfinite(loss):
            raise TrainingError(_not_finite("the loss", loss, f"in epoch {epoch + 1}, step {step + 1}", job))
        now = time.monotonic()
        state["step"] = step + 1
        totals["loss"] += loss * len(batches[step])
        totals["right"] += right
        totals["seen"] += len(batches[step])
        totals["seconds"] = before + now - started
        job.monitor.step(totals["loss"] / totals["seen"], totals["right"] / totals["seen"], _rate(totals))
        if stop.wanted(job.device) or now - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _save(job, state)
            saved = now
            stop.obey(f"in epoch {epoch + 1} after step {step + 1} of {len(batches)}")


def _step(job: _Job, rows: np.ndarray, seed: int) -> tuple[float, float]:
    """One step of the optimizer.

    Returns:
        Mean loss of the whole batch and how many of its slices were called right, over all processes.
    """
    mine, weight = _my_share(rows)
    pixels, labels = batch(job.slices, mine, job.device)
    images = _inputs(job, pixels, seed)
    share = job.settings.hard_share
    if share is None:
        logits, losses = _judge(job, job.step_model, images, labels)
        stepped, n_stepped = losses, len(rows)
    else:
        with torch.no_grad():
            logits, losses = _judge(job, job.model, images, labels)
        chosen = hardest(losses, share)
        _, stepped = _judge(job, job.step_model, one_channel(images.squeeze(1)[chosen]), labels[chosen])
        n_stepped = sum(n_hardest(len(rows[process :: world()]), share) for process in range(world()))
    job.optimizer.zero_grad(set_to_none=True)
    # DistributedDataParallel averages over processes; the factor makes that the mean over the whole batch.
    (stepped.sum() * weight * world() / n_stepped).backward()
    job.optimizer.step()
    job.schedule.after_step()
    if job.average is not None:
        job.average.update_parameters(job.model)
    right = (logits.argmax(dim=1) == labels).sum().item() * weight
    total_loss, total_right = add_up([losses.sum().item() * weight / len(rows), right], job.device)
    return total_loss, total_right


def _inputs(job: _Job, pixels: Tensor, seed: int) -> Tensor:
    """What the network is fed, changed at random where the settings say so."""
    if job.settings.augmentation == AugmentationSettings():
        return scaled(pixels, job.scale)
    return rescaled(augment(scaled(pixels, "unit"), job.settings.augmentation, seed), job.scale)


def _judge(job: _Job, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the loss of each slice."""
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.settings.precision == "bfloat16"):
        logits = model(images)
    return logits, job.objective(logits.float(), labels)


def _my_share(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """This process's rows of a batch, and their weight: one that is left without rows repeats one at weight 0."""
    mine = rows[rank() :: world()]
    return (mine, 1.0) if len(mine) else (rows[:1], 0.0)


def _end_epoch(job: _Job, state: State, validation: np.ndarray) -> None:
    """Judge the epoch on the validation part, note its figures and write the checkpoint."""
    loss, accuracy = _validate(job, validation)
    if not math.isfinite(loss):
        raise TrainingError(_not_finite("the validation loss", loss, f"after epoch {state['epoch'] + 1}", job))
    totals = state["totals"]
    figures = {
        "epoch": state["epoch"] + 1,
        "train_loss": totals["loss"] / totals["seen"],
        "train_accuracy": totals["right"] / totals["seen"],
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "learning_rate": learning_rate(job.optimizer),
        "seconds": totals["seconds"],
        "slices_per_second": _rate(totals),
    }
    state["history"].append(figures)
    if state["best"] is None or loss < state["best"]["loss"]:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in _kept(job).state_dict().items()}
        state["best"] = {"epoch": figures["epoch"], "loss": loss, "weights": weights}
    job.schedule.after_epoch(loss)
    state.update(epoch=state["epoch"] + 1, step=0, totals=_no_totals())
    _save(job, state)
    job.monitor.end_epoch(figures, job.settings.epochs)


@torch.inference_mode()
def _validate(job: _Job, rows: np.ndarray) -> tuple[float, float]:
    """Mean cross entropy and accuracy over some rows, each counted once also when processes share them."""
    share_buffers(_kept(job))
    model = _kept(job).eval()
    mine = rows[rank() :: world()]
    loss = right = 0.0
    for start in range(0, len(mine), VALIDATION_BATCH):
        images, labels = batch(job.slices, mine[start : start + VALIDATION_BATCH], job.device)
        logits = model(scaled(images, job.scale)).float()
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(dim=1) == labels).sum().item()
    loss, right = add_up([loss, right], job.device)
    return loss / len(rows), right / len(rows)


def _kept(job: _Job) -> nn.Module:
    """The network that is judged and kept: the averaged one where weights are averaged."""
    return job.model if job.average is None else job.average.module


def _resume(job: _Job) -> State:
    """The state in the job's folder put into model, optimizer and schedule, or a new one."""
    path = job.folder / CHECKPOINT
    if not path.exists():
        return {"epoch": 0, "step": 0, "totals": _no_totals(), "best": None, "history": []}
    state = load_state(path)
    try:
        for name, part in _parts(job).items():
            part.load_state_dict(state.pop(name))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise RunError(f"{path} holds the state of another training; train with --fresh to begin anew") from error
    return state


def _parts(job: _Job) -> dict[str, Any]:
    """What keeps a state of its own."""
    parts = {"model": job.model, "optimizer": job.optimizer, "schedule": job.schedule}
    return parts if job.average is None else {**parts, "average": job.average}


def _save(job: _Job, state: State) -> None:
    if rank() != 0:
        return
    if state["history"]:
        with replacing(job.folder / HISTORY) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(state["history"][0]))
            writer.writeheader()
            writer.writerows(state["history"])
    save_state({**state, **{name: part.state_dict() for name, part in _parts(job).items()}}, job.folder / CHECKPOINT)


def _no_totals() -> dict[str, float]:
    return {"loss": 0.0, "right": 0.0, "seen": 0, "seconds": 0.0}


def _rate(totals: dict[str, float]) -> float:
    return totals["seen"] / max(totals["seconds"], 1e-9)


def _out_of_patience(state: State, settings: TrainingSettings) -> bool:
    best = state["best"]
    return settings.patience is not None and best is not None and state["epoch"] - best["epoch"] >= settings.patience


def _not_finite(what: str, loss: float, where: str, job: _Job) -> str:
    return (
        f"{what} became {loss} {where}; lower training.learning_rate "
        f"(now {learning_rate(job.optimizer):g}) or feed smaller numbers with input.scale: unit"
    )
