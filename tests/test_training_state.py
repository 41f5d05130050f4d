"""A checkpoint is believed only where every value of it fits the run; else one sentence names the field."""

import contextlib
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_training_loop import assert_same_weights, run, small_net
from torch import nn

from mriscope.errors import RunError
from mriscope.training import loop
from mriscope.training.checkpoint import put_weights, read_weights, save_weights


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A folder whose checkpoint stands in epoch 2 of 3, after step 2 of 5."""
    folder, steps, real_step = tmp_path_factory.mktemp("interrupted"), iter(range(10**6)), loop._step

    def step(job, rows, seed):
        if next(steps) == 7:
            raise KeyboardInterrupt
        return real_step(job, rows, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", step)
        patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    return folder


def resume_with(folder: Path, place: str, value: object, to: Path, **options) -> None:
    """Resume from a checkpoint in which the value at a place is another; REMOVED removes it."""
    state = torch.load(folder / "last.ckpt", weights_only=True)
    *above, last = place.split("/")
    inner = state
    for key in above:
        inner = inner[int(key) if key.isdigit() else key]
    key = int(last) if last.isdigit() else last
    if value is REMOVED:
        del inner[key]
    else:
        inner[key] = value
    torch.save(state, to / "last.ckpt")
    run(to, **options)


REMOVED = object()
NAN = float("nan")


def test_an_untouched_checkpoint_is_believed(interrupted, tmp_path):
    resume_with(interrupted, "epoch", 1, tmp_path)
    whole = run(tmp_path / "whole")
    assert_same_weights(load_last(tmp_path), load_last(tmp_path / "whole"))
    assert len(whole.history) == 3


def load_last(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)["model"]


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("epoch", "2", "epoch is '2', expected a valid integer"),
        ("epoch", 10**18, "epoch is 1000000000000000000, expected at most 3"),
        ("epoch", True, "epoch is True, expected a valid integer"),
        ("epoch", -1, "epoch is -1, expected greater than or equal to 0"),
        ("epoch", REMOVED, "history has 1 rows, expected epochs 1 to 0"),
        ("step", 10**9, "step is 1000000000, expected at most 5"),
        ("step", 1, "totals.seen is 40, expected 20 after 1 steps"),
        ("totals", {}, "totals.seen is 0, expected 40 after 2 steps"),
        ("totals", [], "totals is [], expected"),
        ("totals/loss", NAN, "totals.loss is nan, expected a finite number"),
        ("totals/more", 1, "totals.more is unknown"),
        ("history", [], "history has 0 rows, expected epochs 1 to 1"),
        ("history/0/train_loss", REMOVED, "history.0.train_loss is missing"),
        ("history/0/epoch", 5, "history has 1 rows, expected epochs 1 to 1"),
        ("best", None, "best.epoch is None, expected one of the 1 finished epochs"),
        ("best/epoch", 2, "best.epoch is 2, expected one of the 1"),
        ("best/weights/0.weight", torch.zeros(4), "best.weights.0.weight is a tensor float32 (4,), expected a tensor"),
        ("best/weights/0.weight", REMOVED, "best.weights.0.weight is missing"),
        ("model/0.weight", torch.zeros(2, 2), "model.0.weight is a tensor float32 (2, 2), expected a tensor"),
        ("model/0.bias", torch.full((4,), NAN), "model.0.bias holds numbers that are not finite"),
        ("model/0.bias", torch.empty(4, device="meta"), "model.0.bias is a sparse or empty tensor"),
        ("model/9.bias", torch.zeros(4), "model.9.bias is unknown"),
        ("model", REMOVED, "model is None, expected values by name"),
        ("optimizer", 3, "optimizer is 3, expected values by name"),
        ("optimizer/state", [], "optimizer.state is [], expected values by name"),
        ("optimizer/state/0/exp_avg", torch.zeros(3), "optimizer.state.0.exp_avg is a tensor float32 (3,)"),
        ("optimizer/state/0/exp_avg", REMOVED, "optimizer.state.0.exp_avg is missing"),
        ("optimizer/state/77", {}, "optimizer.state.77 is unknown"),
        ("optimizer/param_groups/0/lr", "fast", "optimizer.param_groups.0.lr is 'fast', expected a number"),
        ("optimizer/param_groups/0/lr", 0.5, "optimizer.param_groups.0.lr is 0.5, expected 0.0"),
        ("optimizer/param_groups/0/lr", NAN, "optimizer.param_groups.0.lr is nan, expected a finite number"),
        ("optimizer/param_groups/0/lr", 10**400, "optimizer.param_groups.0.lr is 1000000000"),
        ("optimizer/param_groups/0/betas", (0.9, None), "optimizer.param_groups.0.betas.1 is NoneType, expected a num"),
        ("optimizer/param_groups/0/amsgrad", True, "optimizer.param_groups.0.amsgrad is True, expected False"),
        (
            "optimizer/param_groups/0/params",
            [0, 1, 2, 3, 3, 5],
            "optimizer.param_groups.0.params is [0, 1,",
        ),
        ("optimizer/param_groups", [], "optimizer.param_groups is 0 values, expected 1 values"),
        ("schedule", {"step": 5}, "schedule.step is unknown"),
        ("average", {}, "average is unknown"),
        ("more", 1, "more is unknown"),
    ],
)
def test_a_wrong_value_is_named(interrupted, tmp_path, place, value, problem):
    message = rf"last\.ckpt holds the state of another training run \({re.escape(problem)}.*\); train with --fresh"
    with pytest.raises(RunError, match=message):
        resume_with(interrupted, place, value, tmp_path)


def test_a_schedule_that_would_fail_at_its_next_step_is_refused(tmp_path):
    run(tmp_path, schedule="cosine", epochs=1)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    state["schedule"]["T_max"] = 0
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="holds the state of another training run"):
        run(tmp_path, schedule="cosine", epochs=2)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "plateau"])
def test_a_schedule_of_another_moment_or_other_settings_is_refused(tmp_path, schedule):
    run(tmp_path / "whole", schedule=schedule)
    for place, value, problem in (
        ("schedule/last_epoch", 1, "schedule.last_epoch is 1, expected"),
        ("schedule/_last_lr", [0.5], "schedule._last_lr is [0.5], expected"),
        ("optimizer/param_groups/0/lr", 0.5, "schedule._last_lr is"),
        {
            "cosine": ("schedule/eta_min", 0.5, "schedule.eta_min is 0.5, expected 0"),
            "one_cycle": ("schedule/total_steps", 99, "schedule.total_steps is 99, expected"),
            "plateau": ("schedule/factor", 0.9, "schedule.factor is 0.9, expected 0.1"),
        }[schedule],
    ):
        with pytest.raises(RunError, match=re.escape(problem)):
            resume_with(tmp_path / "whole", place, value, tmp_path, schedule=schedule)


def test_a_checkpoint_of_a_finished_epoch_has_no_steps_of_it_left(interrupted, tmp_path):
    state = torch.load(interrupted / "last.ckpt", weights_only=True)
    state |= {"epoch": 0, "step": 0, "history": [], "best": None}
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match=r"totals\.seen is 40, expected 0 after 0 steps"):
        run(tmp_path)


@pytest.mark.parametrize("optimizer", ["Adafactor", "ASGD", "Adagrad", "RMSprop", "Rprop", "NAdam", "SGD"])
def test_every_optimizers_own_state_is_believed(tmp_path, optimizer):
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    whole = run(tmp_path / "whole", optimizer=optimizer, optimizer_options=options, epochs=2)
    run(tmp_path / "broken", optimizer=optimizer, optimizer_options=options, epochs=1)
    resumed = run(tmp_path / "broken", optimizer=optimizer, optimizer_options=options, epochs=2)
    assert_same_weights(resumed.weights, whole.weights)


def test_weights_without_a_gradient_do_not_keep_a_run_from_being_resumed(tmp_path):
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.network = nn.Linear(2, 2), small_net()

        def forward(self, images):
            return self.network(images)

    run(tmp_path, model=Spare(), epochs=1)
    assert len(run(tmp_path, model=Spare(), epochs=2).history) == 2


@pytest.mark.parametrize("content", [[], 3, None, {1: 2}, {"epoch": [[[]]]}, torch.zeros(2)])
def test_what_is_no_state_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match=r"last\.ckpt .* train with --fresh to begin anew"):
        run(tmp_path)


@settings(max_examples=60)
@given(data=st.data())
def test_no_mutated_byte_ends_in_a_traceback(interrupted, tmp_path_factory, data):
    content = bytearray((interrupted / "last.ckpt").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "last.ckpt").write_bytes(content)
    with contextlib.suppress(RunError):
        run(folder, epochs=1)


class Tied(nn.Module):
    """Two layers with one weight, and a view of it."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.register_buffer("first_row", self.one.weight.data[0])


def test_weights_that_share_memory_are_saved_under_each_name(tmp_path):
    model, other = Tied(), Tied()
    save_weights(model.state_dict(), tmp_path / "model.safetensors", "tied", ("a", "b"))
    saved = read_weights(tmp_path / "model.safetensors")
    assert_same_weights(dict(saved.weights), model.state_dict())
    assert (saved.model, saved.class_names) == ("tied", ("a", "b"))
    put_weights(other, saved.weights, tmp_path)
    assert_same_weights(other.state_dict(), model.state_dict())
    assert other.two.weight is other.one.weight


def test_a_network_with_tied_weights_trains_and_resumes(tmp_path):
    def tied() -> nn.Module:
        torch.manual_seed(7)
        hidden, again = nn.Linear(16, 16), nn.Linear(16, 16)
        again.weight = hidden.weight
        return nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), hidden, nn.ReLU(), again, nn.Linear(16, 4))

    whole = run(tmp_path / "whole", model=tied(), epochs=2)
    run(tmp_path / "broken", model=tied(), epochs=1)
    assert_same_weights(run(tmp_path / "broken", model=tied(), epochs=2).weights, whole.weights)
    save_weights(whole.weights, tmp_path / "model.safetensors", "tied", ("a", "b", "c", "d"))
    assert_same_weights(load_file(tmp_path / "model.safetensors"), whole.weights)


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    weights = {"0.weight": torch.zeros(2, 3), "0.bias": torch.tensor([0, value]), "count": torch.tensor(3)}
    save_weights(weights, tmp_path / "model.safetensors", "linear", ("a", "b"))
    with pytest.raises(RunError, match=r"model\.safetensors holds weights that are not finite \(0\.bias\); train"):
        read_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "written", ["", "[]", "{}", '{"class_names": 3}', '{"class_names": [1]}', "[" * 100_000, '{"class_names": null}']
)
def test_weights_that_name_no_classes_say_so(tmp_path, written):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"mriscope": written})
    with pytest.raises(RunError, match=r"model\.safetensors names no classes; train the run again"):
        read_weights(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"no header", b"\xff" * 64])
def test_missing_or_damaged_weights_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors is missing or damaged; train the run again"):
        read_weights(tmp_path / "model.safetensors")
