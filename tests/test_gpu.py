"""What a GPU computes is what the CPU computes, and the benchmark's loop takes the steps of the package's own.

Tests marked `gpu` need a CUDA device: `python3 -m pytest -m gpu -n 0`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from on_gpu import resident

from mriscope.audit.subjects import recover_subjects
from mriscope.data.slices import SliceSet
from mriscope.errors import RecipeError
from mriscope.explain import METHODS, explain
from mriscope.models.registry import create_model
from mriscope.recipe import make_recipe
from mriscope.training import loop
from mriscope.training.loop import Trained
from mriscope.training.progress import Monitor

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
SIZE = 32


def some_slices(count: int) -> SliceSet:
    """Noise, whose class is that of its brightest quarter, so that there is something to learn."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 120, (count, SIZE, SIZE), dtype=np.uint8), rng.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        image[(label // 2) * 16 :, (label % 2) * 16 :][:16, :16] += 120
    return SliceSet.of(images, labels)


def trained(how: Any, folder: Path, device: str = "cpu", **settings: Any) -> Trained:
    """43 slices in batches of 8, so that the last batch is of another size, validated on 7."""
    recipe = make_recipe({"model": "any", "training": {"epochs": 3, "batch_size": 8, **settings}})
    return how(
        create_model("baseline_cnn_ce_conv_added_drop_minus", size=SIZE, seed=0),  # it has no dropout
        some_slices(50),
        np.arange(43),
        np.arange(43, 50),
        recipe.training,
        scale="unit",
        seed=0,
        device=torch.device(device),
        folder=folder,
        monitor=Monitor(silent=True),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "one_cycle", "schedule_options": {"cycle_momentum": False}, "precision": "bfloat16"},
        {"schedule": "plateau", "schedule_options": {"patience": 0}, "class_weights": "balanced"},
        {"weight_averaging": 0.9, "sampling": "balanced", "keep": "last"},
    ],
)
def test_the_resident_loop_takes_the_steps_of_the_packages_own(tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs, ours = (trained(module.train, tmp_path, **settings) for module in (loop, resident))
    assert ours.epoch == theirs.epoch
    for name, weights in theirs.weights.items():
        if weights.is_floating_point():  # counters of averaged networks mean nothing
            torch.testing.assert_close(ours.weights[name], weights, atol=1e-6, rtol=1e-5)
    for one, other in zip(ours.history, theirs.history, strict=True):
        assert one.keys() == other.keys()
        assert {key: one[key] for key in one if "second" not in key} == pytest.approx(
            {key: other[key] for key in other if "second" not in key}, rel=1e-5
        )


def test_an_augmented_epoch_sees_every_slice_once(tmp_path: Path) -> None:
    settings = make_recipe({"model": "any", "training": {"batch_size": 8, "augmentation": {"flip": 1.0}}}).training
    slices = some_slices(21)
    model = create_model("baseline_cnn", size=SIZE, seed=0)
    cpu = torch.device("cpu")
    trainer = resident.ResidentTrainer(model, slices, np.arange(21), settings, scale="unit", seed=0, device=cpu)
    trainer.train_epoch(0)
    seen = (trainer.pixels.flip(-1) * 255).round().byte()
    order = [int((slices.images == one.numpy()).all((1, 2)).argmax()) for one in seen]
    assert sorted(order) == list(range(21))
    assert trainer.targets.tolist() == slices.labels[order].tolist()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hard_share": 0.5}, "hard_share"),
        ({"optimizer": "SGD"}, "choose Adam or AdamW"),
        ({"schedule": "one_cycle"}, "cycle_momentum: false"),
    ],
)
def test_settings_that_the_resident_loop_cannot_keep_are_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        trained(resident.train, tmp_path, **settings)


class TestOnAGpu:
    pytestmark = needs_gpu

    @pytest.mark.parametrize("how", [loop.train, resident.train])
    def test_a_training_learns_what_it_learns_on_a_cpu(self, tmp_path: Path, how: Any) -> None:
        (tmp_path / "gpu").mkdir()
        here = trained(how, tmp_path, learning_rate=1e-4)
        there = trained(how, tmp_path / "gpu", "cuda", learning_rate=1e-4)
        for one, other in zip(there.history, here.history, strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], abs=2e-2)
            assert one["validation_loss"] == pytest.approx(other["validation_loss"], abs=2e-2)

    @pytest.mark.parametrize("method", METHODS)
    def test_maps_are_those_of_a_cpu(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        model = create_model("baseline_cnn", size=SIZE, seed=0).eval()
        images = torch.from_numpy(some_slices(6).images.copy()).float()[:, None] / 255
        here = explain(model, images, (method,), 1)[method].maps
        there = explain(model.cuda(), images.cuda(), (method,), 1)[method].maps
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)

    def test_subjects_are_those_of_a_cpu(self) -> None:
        rng = np.random.default_rng(0)
        brains = rng.integers(0, 255, (40, 1, SIZE, SIZE)) + rng.normal(0, 4, (40, 6, SIZE, SIZE)).cumsum(1)
        images = brains.clip(0, 255).astype(np.uint8).reshape(-1, SIZE, SIZE)
        here, there = (recover_subjects(images, device=device) for device in ("cpu", "cuda"))
        np.testing.assert_array_equal(there.groups, here.groups)
        assert len(np.unique(here.groups)) == 40
