"""The promises of the training loop, on a small network and a set that can be learned."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mriscope.data.slices import SliceSet
from mriscope.errors import InterruptedTrainingError, RunError, TrainingError
from mriscope.recipe import TrainingSettings
from mriscope.training import loop
from mriscope.training.devices import use_bfloat16
from mriscope.training.loop import train
from mriscope.training.progress import Monitor
from mriscope.training.sampling import epoch_batches, n_batches, shuffled, step_seed

ROWS = np.arange(96)
KILLS = int(os.environ.get("MRISCOPE_KILLS", "4"))  # the soak asks for more


def stripes() -> SliceSet:
    """Slices whose class is the quarter that is bright; easy to learn, with noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 128)
    images = random.integers(0, 90, (128, 16, 16)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 4 : label * 4 + 4] += 100
    return SliceSet.of(images, labels)


def small_net(dropout: float = 0.3, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, 4),
    ).to(dtype)


def run(folder: Path, model: nn.Module | None = None, seed: int = 3, **settings):
    folder.mkdir(exist_ok=True)
    return train(
        model or small_net(),
        stripes(),
        ROWS,
        np.arange(96, 128),
        TrainingSettings.model_validate({"epochs": 3, "batch_size": 20, "learning_rate": 0.01, **settings}),
        scale="unit",
        seed=seed,
        device=torch.device("cpu"),
        folder=folder,
        monitor=Monitor(silent=True),
    )


def assert_same_weights(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_learns_what_can_be_learned(tmp_path):
    trained = run(tmp_path, epochs=12)
    assert trained.history[-1]["validation_accuracy"] == 1
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"] / 2


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    one, same, other = (run(tmp_path / str(row), seed=seed) for row, seed in enumerate((1, 1, 2)))
    assert_same_weights(one.weights, same.weights)
    assert any(not torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_one_sgd_step_is_the_one_computed_by_hand(tmp_path):
    slices = SliceSet.of(np.full((4, 16, 16), 255, np.uint8), [0, 0, 1, 1], class_names=("a", "b"))
    linear = nn.Linear(1, 2)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    settings = TrainingSettings(epochs=1, batch_size=2, optimizer="SGD", learning_rate=1.0, keep="last")
    rows = {"training": np.array([0, 1]), "validation": np.array([2, 3])}
    place = {"device": torch.device("cpu"), "folder": tmp_path, "monitor": Monitor(silent=True)}
    trained = train(model, slices, settings=settings, scale="unit", seed=0, **rows, **place)
    # Every input is 1 and both logits 0, so the gradient for class 0 is 0.5 - 1 and for class 1 0.5.
    assert trained.weights["2.weight"].flatten().tolist() == [0.5, -0.5]
    assert trained.weights["2.bias"].tolist() == [0.5, -0.5]
    assert trained.history[0]["train_loss"] == pytest.approx(np.log(2))
    assert trained.history[0]["train_accuracy"] == 1
    # Both logits are now 1 and -1, so class 1 costs log(1 + e^2).
    assert trained.history[0]["validation_loss"] == pytest.approx(np.log(1 + np.exp(2)))
    assert trained.history[0]["validation_accuracy"] == 0


WAYS = {
    "constant": {},
    "cosine": {"schedule": "cosine"},
    "one_cycle": {"schedule": "one_cycle"},
    "plateau": {"schedule": "plateau"},
    "augmented": {"augmentation": {"flip": 0.5, "gaussian_noise": {"probability": 0.5}}, "hard_share": 0.5},
    "averaged": {"weight_averaging": 0.9},
    "hard examples": {"hard_share": 0.3},
    "balanced": {"sampling": "balanced", "class_weights": "balanced", "objective": "focal", "label_smoothing": 0.1},
}


@pytest.mark.parametrize("way", WAYS)
def test_broken_off_after_any_step_and_resumed_it_ends_bit_equal(tmp_path, monkeypatch, way):
    settings = WAYS[way]
    whole = run(tmp_path / "whole", **settings)
    steps = 3 * n_batches(len(ROWS), 20)
    broken = 0
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    real_step = loop._step
    for stop_at in (1, 3, steps // 2, steps - 1):
        taken = iter(range(10**6))

        def step(job, rows, seed, stop_at=stop_at, taken=taken):
            if next(taken) == stop_at:
                raise KeyboardInterrupt
            return real_step(job, rows, seed)

        monkeypatch.setattr(loop, "_step", step)
        folder = tmp_path / f"broken{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, **settings)
        broken += 1
        monkeypatch.setattr(loop, "_step", real_step)
        resumed = run(folder, **settings)
        assert_same_weights(resumed.weights, whole.weights)
        figures = ("train_loss", "train_accuracy", "validation_loss", "learning_rate")
        for one, other in zip(resumed.history, whole.history, strict=True):
            assert [one[name] for name in figures] == [other[name] for name in figures]
    assert broken == 4


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from mriscope.training import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = 0
from test_training_loop import run
print("ready", flush=True)
run(Path(sys.argv[1]), epochs=60)
"""


def test_killed_at_any_moment_and_resumed_it_ends_bit_equal(tmp_path):
    """SIGKILL at random moments, also in the middle of writing a checkpoint, until the run has ended by itself."""
    whole = run(tmp_path / "whole", epochs=60)
    program = KILLED.format(tests=str(Path(__file__).parent))
    random = np.random.default_rng(1)
    folder = tmp_path / "killed"
    kills = 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.05, 0.6))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert kills > 0
    assert_same_weights(run(folder, epochs=60).weights, whole.weights)


def test_asked_to_stop_it_stops_between_steps_and_can_go_on(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    real_step = loop._step
    taken = iter(range(10**6))

    def step(job, rows, seed):
        if next(taken) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(job, rows, seed)

    monkeypatch.setattr(loop, "_step", step)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        InterruptedTrainingError, match="stopped by SIGTERM in epoch 2 after step 2 of 5; give the same"
    ) as caught:
        run(tmp_path / "stopped")
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert_same_weights(run(tmp_path / "stopped").weights, whole.weights)


def test_asked_to_stop_in_the_last_step_it_stops_all_the_same(tmp_path, monkeypatch):
    real_validate = loop._validate

    def validate(job, rows):
        os.kill(os.getpid(), signal.SIGINT)
        return real_validate(job, rows)

    monkeypatch.setattr(loop, "_validate", validate)
    with pytest.raises(InterruptedTrainingError, match="stopped by Ctrl-C after epoch 1 of 1"):
        run(tmp_path, epochs=1)


def test_it_trains_outside_the_main_thread_too(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert len(found[0].history) == 1


def test_a_loss_that_is_not_finite_stops_it_with_epoch_and_step(tmp_path):
    model = small_net()
    steps = iter(range(10**6))

    def poison(module, inputs):
        if module.training and next(steps) == 7:
            module[6].weight.data.fill_(float("nan"))

    model.register_forward_pre_hook(poison)
    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 2, step 3; lower training\.learning_rate"):
        run(tmp_path, model=model)


def test_the_best_epoch_is_kept_or_the_last(tmp_path):
    best = run(tmp_path / "best", epochs=6, learning_rate=0.3)
    losses = [row["validation_loss"] for row in best.history]
    assert best.epoch == int(np.argmin(losses)) + 1
    last = run(tmp_path / "last", epochs=6, learning_rate=0.3, keep="last")
    assert last.epoch == 6


def test_patience_ends_a_training_that_no_longer_improves(tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.2, 2.1, 1.0])
    monkeypatch.setattr(loop, "_validate", lambda job, rows: (next(losses), 0.5))
    trained = run(tmp_path, epochs=6, patience=2)
    assert (len(trained.history), trained.epoch) == (4, 2)


def test_plateau_listens_to_the_validation_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_validate", lambda job, rows: (1.0, 0.5))
    trained = run(tmp_path, epochs=4, schedule="plateau", schedule_options={"factor": 0.5, "patience": 0})
    assert [row["learning_rate"] for row in trained.history] == [0.01, 0.01, 0.005, 0.0025]


def linear_case(folder: Path, **settings) -> dict:
    """Two steps of SGD at rate 1 on a linear layer from 0, whose one input is 1, 0.5, 0.5 and 0.5; all of class 0."""
    images = np.full((5, 16, 16), 51, np.uint8)
    images[0] = 255
    slices = SliceSet.of(images, [0, 0, 0, 0, 1], class_names=("a", "b"))
    linear = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(linear.weight)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    fixed = {"epochs": 1, "batch_size": 4, "optimizer": "SGD", "learning_rate": 1.0, "keep": "last"}
    return train(
        model,
        slices,
        np.arange(4),
        np.array([4]),
        TrainingSettings.model_validate({**fixed, **settings}),
        scale="unit",
        seed=0,
        device=torch.device("cpu"),
        folder=folder,
        monitor=Monitor(silent=True),
    ).weights


def test_hard_examples_alone_move_the_weights(tmp_path):
    """At first all losses are log 2; the second epoch's hardest are the three dim slices, of which two are kept."""
    all_rows = linear_case(tmp_path)["2.weight"][0].item()
    assert all_rows == pytest.approx(0.5 * (1 + 3 * 0.2) / 4)
    weights = linear_case(tmp_path / "hard", hard_share=0.5, epochs=2)["2.weight"][0].item()
    bright, dim = 0.5 * (1 + 0.2) / 2, 0.5 * 0.2
    first = min((bright, dim), key=lambda step: abs(weights - step))
    miss = 1 / (1 + np.exp(2 * first * 0.2))  # probability of the wrong class for a dim slice
    assert weights == pytest.approx(first + miss * 0.2, abs=1e-6)


def test_averaged_weights_follow_the_formula(tmp_path):
    """One step a time: the first is copied, each later one enters with a share of 1 - decay."""
    steps = [linear_case(tmp_path / f"plain{n}", epochs=n)["2.weight"] for n in (1, 2, 3)]
    averaged = linear_case(tmp_path / "averaged", epochs=3, weight_averaging=0.75)["2.weight"]
    expected = 0.75 * (0.75 * steps[0] + 0.25 * steps[1]) + 0.25 * steps[2]
    torch.testing.assert_close(averaged, expected)


def test_bfloat16_trains(tmp_path):
    assert run(tmp_path, epochs=12, precision="bfloat16").history[-1]["validation_accuracy"] > 0.9


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(RunError, match="is damaged or no checkpoint of mriscope"):
        run(tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (canary,)

    torch.save({"epoch": Hostile()}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="is damaged or no checkpoint"):
        run(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize(("rows", "size", "sizes"), [(7, 3, [3, 4]), (6, 3, [3, 3]), (1, 3, [1]), (8, 3, [3, 3, 2])])
def test_a_single_slice_left_over_joins_the_batch_before_it(rows, size, sizes):
    batches = epoch_batches(np.arange(rows), size)
    assert [len(one) for one in batches] == sizes
    assert n_batches(rows, size) == len(sizes)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))


def test_batches_of_one_stay_as_asked():
    assert [len(one) for one in epoch_batches(np.arange(3), 1)] == [1, 1, 1]


def test_orders_and_seeds_differ_between_epochs_steps_and_processes():
    orders = [shuffled(ROWS, 0, epoch).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    seeds = {step_seed(*place) for place in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]}
    assert len(seeds) == 5


SHARED = """
import sys
from pathlib import Path
import torch
from torch import nn
sys.path.insert(0, {tests!r})
from mriscope.training.devices import destroy_process_group, init_process_group, rank
import test_training_loop as here
init_process_group(torch.device("cpu"))
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh(), nn.Linear(8, 4))
trained = here.run(Path(sys.argv[1]), model=model, batch_size=19, epochs=2, optimizer="SGD")
torch.save((trained.weights, trained.history), f"{{sys.argv[2]}}.{{rank()}}")
destroy_process_group()
"""


def test_two_processes_train_what_one_trains(tmp_path):
    """torchrun over two processes; 96 rows in batches of 19 leave a ragged one, and 32 validation rows count once."""
    script = tmp_path / "shared.py"
    script.write_text(SHARED.format(tests=str(Path(__file__).parent)))
    subprocess.run([sys.executable, script, tmp_path / "one", tmp_path / "alone"], check=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, script, tmp_path / "two", tmp_path / "both"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    alone, history = torch.load(tmp_path / "alone.0", weights_only=True)
    for process in (0, 1):
        both, shared_history = torch.load(tmp_path / f"both.{process}", weights_only=True)
        for name in alone:
            torch.testing.assert_close(both[name], alone[name], atol=1e-5, rtol=1e-5)
        for one, other in zip(shared_history, history, strict=True):
            for figure in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
                assert one[figure] == pytest.approx(other[figure], abs=1e-5)


@pytest.mark.parametrize(("found", "half"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({}, False)])
def test_precision_auto_is_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, found, half):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, **found})
    cpu = torch.device("cpu")
    assert use_bfloat16("auto", cpu) is half
    assert (use_bfloat16("bfloat16", cpu), use_bfloat16("float32", cpu)) == (True, False)
