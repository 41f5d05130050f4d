"""Training with the whole set on the device: every step is one replay of a CUDA graph and waits for nothing.

`train` takes what mriscope.training.loop.train takes, sees the same slices in the same order, and returns the same kind
of result. An epoch's slices are gathered, and augmented, before its first step. There is no checkpoint to go on from.
On a CPU the same steps are taken one by one.
"""

import csv
import time
import traceback
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mriscope.data.augmentation import augment
from mriscope.data.batches import Scale, one_channel, rescaled, scaled
from mriscope.data.slices import SliceSet
from mriscope.errors import RecipeError, TrainingError
from mriscope.recipe import AugmentationSettings, TrainingSettings
from mriscope.training.loop import HISTORY, VALIDATION_BATCH, Trained
from mriscope.training.objectives import balanced_class_weights, make_objective
from mriscope.training.optimizers import Schedule, make_optimizer, make_schedule
from mriscope.training.progress import Monitor
from mriscope.training.sampling import balanced, epoch_batches, n_batches, shuffled, step_seed

WARM_UP = 3  # steps before a graph is captured, in which cuDNN and cuBLAS choose and allocate
AUGMENTED_AT_ONCE = 512  # slices; bounds the memory of an epoch's augmentation


class ResidentTrainer:
    """One training whose slices, order, rates and figures all lie on the device.

    Args:
        model: from float32 (B, 1, H, W) to logits (B, K).
        slices: all are brought to the device as uint8.
        training: int64 (N,), rows that move the weights.
        settings: as in a recipe; hard_share is not known here, and one_cycle must not cycle the momentum.
        scale: how pixels become floats.
        seed: of all chance.
        device: where.
        compiled: run the network through torch.compile; its kernels are captured like any others.
        search: have cuDNN try its algorithms for each layer, which pays for small networks with many steps.

    Raises:
        RecipeError: a setting that this loop does not know.
    """

    def __init__(
        self,
        model: nn.Module,
        slices: SliceSet,
        training: np.ndarray,
        settings: TrainingSettings,
        *,
        scale: Scale,
        seed: int,
        device: torch.device,
        compiled: bool = False,
        search: bool = True,
    ) -> None:
        _check(settings)
        self.model, self.settings, self.seed, self.device = model.to(device), settings, seed, device
        self.scale: Scale = scale
        self.network: nn.Module | Any = torch.compile(model) if compiled else model
        self.images = torch.from_numpy(np.array(slices.images)).to(device)
        self.labels = torch.from_numpy(np.array(slices.labels)).to(device)
        self.training, self.training_labels = training, slices.labels
        weights = balanced_class_weights(torch.from_numpy(slices.labels[training]), len(slices.class_names)).to(device)
        self.objective = make_objective(settings, weights if settings.class_weights == "balanced" else None)
        self.optimizer = self._make_optimizer()
        self.rate = torch.tensor(settings.learning_rate, device=device)
        self.steps = n_batches(len(training), settings.batch_size)
        self.schedule, self._scheduled = self._make_schedule()
        if device.type == "cuda":
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, search
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
        self.averaged = deepcopy(model) if settings.weight_averaging else None
        self.taken = 0
        self._planned: list[float] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._capturing = device.type == "cuda"
        self._make_buffers()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """Return the recipe's optimizer, in the form that a graph can hold."""
        options = self.settings.optimizer_options
        if self.device.type == "cuda":
            options = {**options, "capturable": True}
        return make_optimizer(self.settings.model_copy(update={"optimizer_options": options}), self.model)

    def _make_schedule(self) -> tuple[Schedule, torch.optim.Optimizer]:
        """Return the recipe's schedule over a stand-in, whose rate is copied to the device for each step."""
        stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=self.settings.learning_rate)
        return make_schedule(self.settings, stand_in, self.steps), stand_in

    def _make_buffers(self) -> None:
        """Allocate what the captured step reads and writes: it always finds them at the same place."""
        count, side = len(self.training), self.images.shape[1:]
        plain = self.settings.augmentation == AugmentationSettings()
        self.pixels = torch.empty(count, *side, dtype=torch.uint8 if plain else torch.float32, device=self.device)
        self.targets = torch.empty(count, dtype=torch.int64, device=self.device)
        self.rates = torch.empty(self.steps, device=self.device)
        self.step = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.totals = torch.zeros(2, device=self.device)  # sum of losses, slices called right

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Take an epoch's steps, counted from 0, and return its figures; the device has finished when it returns."""
        started = time.perf_counter()
        size = self.settings.batch_size
        batches = epoch_batches(self._order(epoch), size)
        self._fill(np.concatenate(batches), epoch)
        self.model.train()
        self.totals.zero_()
        self.step.zero_()
        whole = sum(len(one) == size for one in batches)
        for step in range(whole):
            self._take(step)
            self._after_step()
        if whole < len(batches):  # the last batch, of another size
            self._set_rate(whole)
            self._update(self._inputs(self.pixels[whole * size :]), self.targets[whole * size :])
            self._after_step()
        loss, right = (self.totals / len(self.training)).tolist()
        seconds = time.perf_counter() - started
        return {
            "train_loss": loss,
            "train_accuracy": right,
            "seconds": seconds,
            "slices_per_second": len(self.training) / seconds,
        }

    def kept(self) -> nn.Module:
        """Return the network that is judged: the averaged one where weights are averaged."""
        return self.model if self.averaged is None else self.averaged

    @torch.inference_mode()
    def validate(self, rows: np.ndarray) -> tuple[float, float]:
        """Return mean cross entropy and accuracy over some rows, in float32."""
        model = self.kept().eval()
        index = torch.from_numpy(rows).to(self.device)
        logits = torch.cat([model(scaled(self.images[some], self.scale)) for some in index.split(VALIDATION_BATCH)])
        labels = self.labels[index]
        right = (logits.argmax(1) == labels).float().mean()
        loss, accuracy = torch.stack([functional.cross_entropy(logits.float(), labels), right]).tolist()
        return loss, accuracy

    def learning_rate(self) -> float:
        return float(self._scheduled.param_groups[0]["lr"])

    def _order(self, epoch: int) -> np.ndarray:
        if self.settings.sampling == "balanced":
            return balanced(self.training, self.training_labels[self.training], self.seed, epoch)
        return shuffled(self.training, self.seed, epoch)

    def _fill(self, order: np.ndarray, epoch: int) -> None:
        """Put an epoch's slices in their order into the buffers, and the rate of each of its steps."""
        index = torch.from_numpy(order).to(self.device)
        torch.index_select(self.labels, 0, index, out=self.targets)
        if self.pixels.dtype == torch.uint8:
            torch.index_select(self.images, 0, index, out=self.pixels)
        else:
            for part, some in enumerate(index.split(AUGMENTED_AT_ONCE)):
                seed = step_seed(self.seed, epoch, part, 0)
                images = augment(scaled(self.images[some], "unit"), self.settings.augmentation, seed)
                start = part * AUGMENTED_AT_ONCE
                self.pixels[start : start + len(some)] = images.squeeze(1)
        self._planned = []
        for _ in range(self.steps):
            self._planned.append(self.learning_rate())
            self._scheduled.step()  # without gradients it does nothing, but a schedule wants to see it
            self.schedule.after_step()
        self.rates.copy_(torch.tensor(self._planned))

    def _inputs(self, pixels: Tensor) -> Tensor:
        if pixels.dtype == torch.uint8:
            return scaled(pixels, self.scale)
        return rescaled(one_channel(pixels), self.scale)

    def _captured_step(self) -> None:
        """Take the step whose number stands in `step`; all of it can be captured."""
        size = self.settings.batch_size
        whole = len(self.pixels) // size
        pixels = self.pixels[: whole * size].view(whole, size, *self.pixels.shape[1:]).index_select(0, self.step)[0]
        targets = self.targets[: whole * size].view(whole, size).index_select(0, self.step)[0]
        self.rate.copy_(self.rates.index_select(0, self.step)[0])
        self._update(self._inputs(pixels), targets)
        self.step += 1

    def _update(self, inputs: Tensor, targets: Tensor) -> None:
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            logits = self.network(inputs)
        losses = self.objective(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        (losses.sum() / len(targets)).backward()
        self.optimizer.step()
        with torch.no_grad():
            right = (logits.argmax(1) == targets).sum()
            self.totals += torch.stack([losses.sum(), right.to(losses.dtype)])
            self._average(1 - (self.settings.weight_averaging or 0))

    def _average(self, weight: float) -> None:
        """Move the averaged network by `weight` of the way to the trained one; counters are copied."""
        if self.averaged is None:
            return
        for mean, now in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, weight)
            else:
                mean.copy_(now)

    def _take(self, step: int) -> None:
        """Take a step by replaying the graph, which the first one captures; where it cannot be captured, as it is."""
        if self._capturing and self._graph is None:
            try:
                self._graph = self._capture()
            except RuntimeError:
                traceback.print_exc()
                print("the step cannot be captured; steps are launched one by one", flush=True)
                self._capturing = False
        if self._graph is None:
            self._set_rate(step)
            self._captured_step()
        else:
            self._graph.replay()

    def _set_rate(self, step: int) -> None:
        """Set the rate of a step that is not replayed."""
        self.rate.fill_(self._planned[step])
        if self.device.type != "cuda":
            for group in self.optimizer.param_groups:
                group["lr"] = self._planned[step]

    def _after_step(self) -> None:
        self.taken += 1
        if self.taken == 1:
            self._average(1.0)  # the average begins with the weights after the first step

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Return the graph of a step; the steps that warm it up leave no trace."""
        torch.manual_seed(step_seed(self.seed, 0, 0, 0))
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        try:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._captured_step()
                    self.step.zero_()
            torch.cuda.current_stream().wait_stream(side)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                self._captured_step()
        finally:
            self.model.load_state_dict(before)
            moments = [value for state in self.optimizer.state.values() for value in state.values()]
            for value in (self.totals, self.step, *moments):
                value.zero_()
        return graph


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
    search: bool = True,
    deadline: float = float("inf"),
) -> Trained:
    """Train as mriscope.training.loop.train does, with the set on the device; `folder` gets history.csv alone.

    Args:
        search: as of ResidentTrainer.
        deadline: time.monotonic() after which no further epoch begins; the first one always does.

    Raises:
        RecipeError: a setting that this loop does not know.
        TrainingError: the loss is not finite.
    """
    trainer = ResidentTrainer(model, slices, training, settings, scale=scale, seed=seed, device=device, search=search)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"loss": float("inf")}
    with monitor.showing():
        for epoch in range(settings.epochs):
            monitor.begin_epoch(epoch + 1, settings.epochs, trainer.steps, 0)
            figures = trainer.train_epoch(epoch)
            loss, accuracy = trainer.validate(validation)
            if not np.isfinite([figures["train_loss"], loss]).all():
                raise TrainingError(f"the loss became {figures['train_loss']}, validation {loss}, in epoch {epoch + 1}")
            judged = {"validation_loss": loss, "validation_accuracy": accuracy}
            rate = {"learning_rate": trainer.learning_rate()}
            speed = {name: figures.pop(name) for name in ("seconds", "slices_per_second")}
            history.append({"epoch": epoch + 1, **figures, **judged, **rate, **speed})
            if loss < best["loss"]:
                best = {"epoch": epoch + 1, "loss": loss, "weights": _weights(trainer.kept())}
            trainer.schedule.after_epoch(loss)
            monitor.end_epoch(history[-1], settings.epochs)
            patient = settings.patience is None or epoch + 1 - best["epoch"] < settings.patience
            if not patient or time.monotonic() > deadline:
                break
    _write_history(history, folder / HISTORY)
    if settings.keep == "last":
        best = {"epoch": len(history), "weights": _weights(trainer.kept())}
    return Trained(best["weights"], best["epoch"], history)


def _check(settings: TrainingSettings) -> None:
    if settings.optimizer not in ("Adam", "AdamW"):
        raise RecipeError("training.optimizer", [f"{settings.optimizer} cannot be captured; choose Adam or AdamW"])
    if settings.hard_share is not None:
        raise RecipeError("training.hard_share", ["is not known to the loop of the GPU benchmark; leave it out"])
    if settings.schedule == "one_cycle" and settings.schedule_options.get("cycle_momentum", True):
        problem = "a captured step cannot change the momentum; set cycle_momentum: false"
        raise RecipeError("training.schedule_options", [problem])


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _write_history(history: list[dict[str, float]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
