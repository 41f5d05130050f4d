"""What the server answers with; each is a typed result whose schema is the API's."""

import base64

import numpy as np
from pydantic import Field

from mriscope.explain.overlays import png_bytes
from mriscope.results import Answer, ModelDescription, ModelOrigin
from mriscope.results.inference import SlicePrediction
from mriscope.results.records import Record, ResultFile


class ServedModel(ResultFile):
    """What a server can be asked about, and on what grounds it answers."""

    description: ModelDescription
    card: str
    """The model card, as Markdown."""
    methods: dict[str, str]
    """Methods of explanation, by the names that requests use, and their names in print; none of an estimator."""
    layers: list[str]
    """Layers whose maps can be explained."""
    max_upload: int
    """Bytes of the largest request."""


class ServedAnswer(Answer):
    """What the model says of the slices of the files that were sent."""

    pictures: list[str] | None = None
    """Each slice as the model saw it, a PNG in Base64; None where they were not asked for."""


class ServedMap(Record):
    """The map of one method."""

    method: str
    title: str
    """The name of the method in print."""
    class_name: str = Field(validation_alias="class", serialization_alias="class")
    """The class explained."""
    layers: list[str]
    """Layers that were used; none for methods on the whole network."""
    empty: str | None
    """Why the map is empty; None where it is not."""
    map: str
    """The map as grey levels, 255 where evidence is greatest; a PNG in Base64."""
    overlay: str
    """The map in colours over its slice; a PNG in Base64."""


class Explained(ResultFile):
    """Maps of one slice."""

    origin: ModelOrigin
    slice: SlicePrediction
    picture: str
    """The slice as the model saw it; a PNG in Base64."""
    maps: list[ServedMap]


class Problem(Record):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    """The name of the status."""
    status: int
    detail: str
    """What was found, what was expected and what to do."""


def encode_png(image: np.ndarray) -> str:
    """Return an image, uint8 (H, W) or (H, W, 3), as a PNG in Base64."""
    return base64.b64encode(png_bytes(image)).decode()
