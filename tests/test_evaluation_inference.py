from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mriscope.data.slices import SliceSet
from mriscope.errors import DataError
from mriscope.evaluation.inference import predict, predict_probabilities


class MeanNet(nn.Module):
    """Logits (mean, 0); counts its calls and remembers whether a gradient could have flowed."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.gradients: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        self.sizes.append(len(images))
        self.gradients.append(torch.is_grad_enabled())
        means = images.mean(dim=(1, 2, 3))
        return torch.stack([means, torch.zeros_like(means)], dim=1)


class Failing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("out of memory")


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(1568, 4)
    )


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, 16, 16), dtype=np.uint8)


def test_probabilities_are_the_softmax_of_the_scaled_slices() -> None:
    images = np.stack([np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)])
    unit = predict_probabilities(MeanNet(), images, "unit")
    np.testing.assert_allclose(unit[:, 0], [0.5, 1 / (1 + np.exp(-1))], atol=1e-7)
    raw = predict_probabilities(MeanNet(), images, "raw")
    np.testing.assert_allclose(raw, [[0.5, 0.5], [1, 0]], atol=1e-7)
    assert unit.dtype == np.float32


def test_batches_have_the_asked_size_and_no_gradients() -> None:
    model = MeanNet()
    predict_probabilities(model, _images(7), "unit", batch_size=3)
    assert model.sizes == [3, 3, 1]
    assert model.gradients == [False] * 3


def test_the_batch_size_changes_nothing_but_rounding() -> None:
    model, images = _network(), _images(23)
    whole = predict_probabilities(model, images, "imagenet", batch_size=256)
    for size in (1, 4, 22):
        np.testing.assert_allclose(predict_probabilities(model, images, "imagenet", size), whole, atol=1e-6, rtol=0)


def test_each_module_comes_back_in_its_mode_and_nothing_is_learnt() -> None:
    model = _network().train()
    model[1].eval()  # a frozen batch norm
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict_probabilities(model, _images(5), "unit")
    assert [module.training for module in model] == [True, False, True, True, True, True]
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_mode_comes_back_after_an_error_too() -> None:
    model = nn.Sequential(nn.Dropout(), Failing()).train()
    with pytest.raises(RuntimeError, match="out of memory"):
        predict_probabilities(model, _images(2), "unit")
    assert all(module.training for module in model.modules())


def test_predict_keeps_what_is_known_of_each_slice(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "i.npy", mode="w+", dtype=np.uint8, shape=(3, 16, 16))
    mapped[:] = _images(3)
    slices = SliceSet.of(mapped, [3, 0, 1], subjects=[5, 5, -1], paths=["a", "b", "c"])
    model = _network().train()
    found = predict(model, slices, "unit", "validation", batch_size=2, device="cpu")
    assert found.labels.tolist() == [3, 0, 1]
    assert found.subjects.tolist() == [5, 5, -1]
    assert found.paths.tolist() == ["a", "b", "c"]
    assert set(found.parts) == {"validation"}
    np.testing.assert_array_equal(found.probabilities, predict_probabilities(model, slices.images, "unit", 2))


def test_each_slice_may_have_a_part_of_its_own() -> None:
    slices = SliceSet.of(_images(3), [0, 1, 2])
    found = predict(_network(), slices, "unit", np.array(["train", "validation", "test"]))
    assert found.parts.tolist() == ["train", "validation", "test"]
    with pytest.raises(DataError, match="the part of row 0 is dev"):
        predict(_network(), slices, "unit", "dev")


def test_another_device_is_only_borrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, visited = _network(), []
    monkeypatch.setattr(model, "to", lambda device: visited.append(str(device)))
    with pytest.raises(DataError, match="probabilities is float32"):
        predict(model, SliceSet.of(_images(2), [0, 1], class_names=("a", "b")), "unit", "test", device="meta")
    assert visited == ["meta", "cpu"]


def test_mistakes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is no slice to predict"):
        predict_probabilities(_network(), _images(0), "unit")
    model = MeanNet()
    slices = SliceSet.of(_images(2), [0, 1], class_names=("a", "b"))
    monkeypatch.setattr(model, "forward", lambda images: torch.full((len(images), 2), torch.nan))
    with pytest.raises(DataError, match="diverge"):
        predict(model, slices, "unit", "test")
    with pytest.raises(DataError, match="the model's outputs are not finite"):
        predict_probabilities(model, _images(2), "unit")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_agrees_and_gives_the_model_back() -> None:
    model = _network()
    slices = SliceSet.of(_images(9), [0] * 9)
    there = predict(model, slices, "unit", "test", device="cuda")
    assert next(model.parameters()).device.type == "cpu"
    here = predict(model, slices, "unit", "test")
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-3)
