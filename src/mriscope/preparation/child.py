"""The program of a child that prepares volumes, one at a time, under limits; see `mriscope.data.sandbox`."""

import base64
from typing import Any

from mriscope.data.parsing import read_volume, serve
from mriscope.data.sandbox import Answer, Request
from mriscope.errors import DataError
from mriscope.preparation.options import PrepareOptions
from mriscope.preparation.tiles import Tile
from mriscope.preparation.volume import prepare_volume

ROOM = 4 * 2**30  # bytes for the networks and what they compute


def answer(request: Request) -> Answer:
    """Prepare the volume of a request.

    A step that fails is told with the pictures of those before it, so it is no error of the child's.

    Args:
        request: as `mriscope.data.parsing.answer` takes it for a volume, with the fields of `PrepareOptions` as steps.

    Raises:
        DataError: the files hold no volume.
    """
    volume, _ = read_volume(request)
    tiles: list[Tile] = []
    try:
        found = prepare_volume(volume, PrepareOptions(**request["steps"]), tiles)
    except (DataError, RuntimeError) as error:  # RuntimeError is how torch and SimpleITK say that memory is short
        problem = str(error) if isinstance(error, DataError) else f"cannot be prepared ({_first_line(error)})"
        return Answer({"problem": problem, "tiles": _as_json(tiles)})
    facts = {"positions": found.positions.tolist(), "measures": found.measures.model_dump(mode="json")}
    return Answer({**facts, "tiles": _as_json(tiles)}, found.images)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]


def _as_json(tiles: list[Tile]) -> list[dict[str, Any]]:
    return [{"step": tile.step, "view": tile.view, "jpeg": base64.b64encode(tile.jpeg).decode()} for tile in tiles]


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    serve(answer, ROOM)
