"""Row 5: predictions in batches and of one slice, and ONNX Runtime with int8."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from mriscope.data.readers import read
from mriscope.data.splits import published
from mriscope.evaluation.inference import predict_probabilities
from mriscope.models.registry import create_model
from mriscope.training.devices import pick_device
from mriscope.workflows.predict import load_model
from mriscope.workflows.predict_onnx import compute_onnx, open_session
from timing.notebook import BATCH, Slices, make_network, read_part
from timing.report import Measured
from timing.running import Setting, in_process, run_command
from timing.training import train_command

SLICES = 512  # of a part that is timed
CALIBRATION = 256  # training slices that tell int8 the ranges of activations


def rate(work: Callable[[], object], slices: int, repeats: int) -> float:
    """Return slices per second, the median of some runs after one that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return slices / statistics.median(seconds)


def notebook_predicts(folder: Path, slices: int, repeats: int) -> float:
    """Return slices per second of the notebook's BaselineCNN: one tensor for each item, batches of 32."""
    model, table = make_network().eval(), read_part(folder, "test").head(slices)

    def work() -> None:
        with torch.no_grad():
            for images, _ in DataLoader(Slices(table), batch_size=BATCH):
                model(images).argmax(dim=1)

    return rate(work, len(table), repeats)


def ours_predicts(folder: Path, name: str, slices: int, repeats: int) -> dict[str, float]:
    """Return slices per second of a network of the package by several ways, and seconds of one slice alone."""
    pick_device("cpu")
    found, model = read(str(folder)), create_model(name, seed=0).eval()
    images = np.array(found.images[:slices])
    rates = {"eager": rate(lambda: predict_probabilities(model, images, "raw"), slices, repeats)}
    compiled: Any = torch.compile(model)
    rates["torch.compile"] = rate(lambda: predict_probabilities(compiled, images, "raw"), slices, repeats)
    session = open_session(graph_of(model), name)
    inputs = images[:, None].astype(np.float32)
    rates["ONNX Runtime"] = rate(partial(in_batches, session, inputs), slices, repeats)
    alone = rate(lambda: predict_probabilities(model, images[:1], "raw"), 1, 20 * repeats)
    return {**rates, "one slice, ms": 1000 / alone}


def graph_of(model: nn.Module) -> bytes:
    """Return the network as an ONNX graph from float32 (N, 1, 128, 128) to logits."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, 128, 128),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def in_batches(session: Any, inputs: np.ndarray, size: int = 64) -> np.ndarray:
    parts = [session.run(None, {"images": inputs[at : at + size]})[0] for at in range(0, len(inputs), size)]
    return np.concatenate(parts)


def int8_beside_float(setting: Setting, run: Path, repeats: int) -> tuple[list[list[str]], float]:
    """Return rows of a trained run's network by torch and by ONNX Runtime in float32 and int8, and ms of one slice."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    pick_device("cpu")
    found = read(str(setting.data))
    split = published(found, validation=0.1, seed=0)
    model = load_model(run, "cpu")
    images, labels = found.images[split.test], found.labels[split.test]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rows = np.random.default_rng(0).choice(split.train, CALIBRATION, replace=False)
            self.batches = iter([{"images": to_floats(found.images[rows])}])

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.batches, None)

    plain, small = setting.work / "fast.onnx", setting.work / "fast-int8.onnx"
    plain.write_bytes(graph_of(model.network))
    quantize_static(
        str(plain),
        str(small),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    inputs = to_floats(images)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "torch, eager": lambda: predict_probabilities(model.network, images, "unit"),
        "ONNX Runtime, float32": partial(in_batches, open_session(plain.read_bytes(), "fast"), inputs),
        "ONNX Runtime, int8": partial(in_batches, open_session(small.read_bytes(), "int8"), inputs),
    }
    rows = []
    for name, way in ways.items():
        right = 100 * float((way().argmax(axis=1) == labels).mean())
        rows.append([f"`fast`, {name}", f"{rate(way, len(images), repeats):,.0f}", "–", f"{right:.2f}"])
    one = np.array(images[:1])
    return rows, 1000 / rate(lambda: model.predict(one), 1, 20 * repeats)


def to_floats(images: np.ndarray) -> np.ndarray:
    return (images[:, None] / np.float32(255)).astype(np.float32)


def measure_inference(setting: Setting) -> Measured:
    """Row 5."""
    slices, repeats = (64, 1) if setting.quick else (SLICES, 5)
    run = setting.work / "fast-0-cache"
    train_command("fast", run, setting, ("training.epochs=1",) if setting.quick else ())
    theirs = in_process(notebook_predicts, setting.data, slices, repeats)
    rows = [["BaselineCNN, notebook", f"{theirs:,.0f}", "1 ×", "–"]]
    alone = []
    for name in ("baseline_cnn", "compact_cnn"):
        found = in_process(ours_predicts, setting.data, name, slices, repeats)
        alone.append(f"`{name}` {found.pop('one slice, ms'):.1f} ms")
        rows += [[f"`{name}`, {way}", f"{each:,.0f}", f"{each / theirs:.1f} ×", "–"] for way, each in found.items()]
    trained, whole = in_process(int8_beside_float, setting, run, repeats)
    out = setting.work / "exported"
    run_command(["export", run, "--format", "onnx", "--out", out], setting)
    session = open_session((out / "model.onnx").read_bytes(), "exported")
    one = np.zeros((1, 128, 128), np.uint8)
    graph = 1000 / rate(lambda: compute_onnx(session, one), 1, 20 * repeats)
    notes = [
        f"One slice alone: {' and '.join(alone)}; an answer of `fast` with prediction set and distance {whole:.1f} ms, "
        f"by the exported graph {graph:.1f} ms.",
        "int8: static quantisation by channel, ranges from 256 training slices; accuracy on the test slices, LEAKY.",
    ]
    return Measured(
        "5. Predictions", ["way", "slices/s", "ratio to the notebook", "accuracy, %"], [*rows, *trained], notes
    )
