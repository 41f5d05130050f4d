"""Checkpoints and weights on disk: written atomically, read without running what is in them."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mriscope.errors import RunError
from mriscope.files import check_archive, check_file, write_bytes

# One entry for everything, as safetensors writes several in an order that changes from process to process.
METADATA = "mriscope"


class _Metadata(BaseModel):
    """Metadata of a file of weights."""

    model_config = ConfigDict(strict=True)

    model: str = ""
    class_names: list[str]


@dataclass(frozen=True)
class SavedModel:
    """The weights of a model on disk.

    Attributes:
        weights: by the names of the model's state_dict.
        model: the model's name, as recipes write it.
        class_names: in the order of the model's outputs.
    """

    weights: Mapping[str, Tensor]
    model: str
    class_names: tuple[str, ...]


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write the state of a training run to a file, whole or not at all."""
    buffer = io.BytesIO()  # torch turns a full disk into an error that does not name it
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read what save_state wrote; tensors and plain values only, so that reading it runs no foreign code.

    Raises:
        RunError: the file is damaged or holds something else.
    """
    problem = f"{path} is damaged or no checkpoint of mriscope; train with --fresh to begin anew"
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle may fail in any way
        raise RunError(problem) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise RunError(problem)
    return state


def save_weights(weights: Mapping[str, Tensor], path: Path, model: str, class_names: Sequence[str]) -> None:
    """Write the weights of a model to a safetensors file, whole or not at all.

    Weights that share memory, such as an embedding tied to the output layer, are written once for each name.

    Args:
        weights: by name, as of a state_dict.
        path: of the file.
        model: the model's name, as recipes write it.
        class_names: in the order of the model's outputs.
    """
    separate: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in weights.items():
        dense = tensor.detach().contiguous()
        storage = dense.untyped_storage().data_ptr()
        separate[name] = dense.clone() if storage in storages else dense
        storages.add(storage)
    metadata = {METADATA: json.dumps({"model": model, "class_names": list(class_names)})}
    write_bytes(path, save(separate, metadata=metadata))


def read_weights(path: Path) -> SavedModel:
    """Read what save_weights wrote.

    Raises:
        RunError: the file is missing or damaged, names no classes, or holds numbers that are not finite.
    """
    remedy = "train the run again with --fresh"
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            written = file.metadata()[METADATA]
    except Exception as error:  # a damaged header may fail in any way
        raise RunError(f"{path} is missing or damaged; {remedy}") from error
    try:
        metadata = _Metadata.model_validate_json(written)
    except ValidationError as error:
        raise RunError(f"{path} names no classes; {remedy}") from error
    check_finite(weights, path)
    return SavedModel(weights, metadata.model, tuple(metadata.class_names))


def check_finite(weights: Mapping[str, Tensor], source: Path) -> None:
    """Check that all weights are finite, as a model with others predicts nothing.

    Raises:
        RunError: names those that are not.
    """
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        listed = ", ".join(broken[:8]) + (f" and {len(broken) - 8} more" if len(broken) > 8 else "")
        raise RunError(f"{source} holds weights that are not finite ({listed}); train the run again")


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a model.

    Raises:
        RunError: they are those of another network; names the first differences.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise RunError(f"{source} holds the weights of another network: {reason}") from error
