"""The state of a training on disk: written atomically, read without running what is in it."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mriscope.errors import RunError
from mriscope.files import write_bytes

# All facts under one name, as safetensors writes several names in an order that changes from process to process.
FACTS = "mriscope"


def save_state(state: dict[str, Any], path: Path) -> None:
    """Put the state of a training into a file, whole or not at all."""
    buffer = io.BytesIO()  # torch turns a full disk into an error that does not name it
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """The state that save_state wrote; tensors and plain values only, so that reading it runs no foreign code.

    Raises:
        RunError: the file is damaged or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RunError(f"{path} is damaged or no checkpoint of mriscope; train with --fresh to begin anew") from error


def save_weights(weights: dict[str, Tensor], path: Path, facts: dict[str, Any]) -> None:
    """Put the weights of a model and plain facts about it into a safetensors file, whole or not at all."""
    dense = {name: tensor.contiguous() for name, tensor in weights.items()}
    write_bytes(path, save(dense, metadata={FACTS: json.dumps(facts)}))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the facts that save_weights wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[FACTS])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged; train the run again with --fresh") from error


def put_weights(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Put weights into a model.

    Raises:
        RunError: they are those of another network; names the first differences.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise RunError(f"{source} holds the weights of another network: {reason}") from error
