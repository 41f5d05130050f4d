"""A model that answers requests: files are read beside each other, and one thread computes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import nn

from mriscope.choices import Plane
from mriscope.data.batches import scaled
from mriscope.data.content import read_content
from mriscope.data.images import Images
from mriscope.data.sandbox import Sandbox
from mriscope.data.volumes import Cut
from mriscope.errors import ArgumentError, UnknownNameError
from mriscope.explain.maps import Explanation, explain
from mriscope.explain.methods import METHODS, check_method
from mriscope.explain.overlays import overlay
from mriscope.models.registration import Estimator
from mriscope.serving.answers import Explained, ServedAnswer, ServedMap, ServedModel, encode_png
from mriscope.serving.forms import Upload
from mriscope.serving.guard import busy
from mriscope.serving.worker import AT_ONCE, BusyError, Worker
from mriscope.workflows._answer import make_answer
from mriscope.workflows.predict import TrainedModel

MAX_SLICES = 512  # of one request
MAX_METHODS = 3  # of one request
READERS = 2  # files that are decoded at a time, and children that parse volumes
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class MapOptions:
    """What maps a request asks for.

    Args:
        methods: names among METHODS, at most MAX_METHODS.
        class_name: the class to explain; None the predicted one.
        layer: dotted name; None takes the last convolution.
        index: which slice of a volume.
        alpha: share of the colours in overlays, from 0 to 1.
    """

    methods: tuple[str, ...] = ("gradcam",)
    class_name: str | None = None
    layer: str | None = None
    index: int = 0
    alpha: float = 0.5


class Service:
    """The model with its worker and its parsers; use it as a context manager.

    Args:
        model: of a run.
        card: its model card.
        max_upload: bytes of the largest request, to be told.

    Raises:
        DataError: the model answers for whole subjects, not for slices.
    """

    def __init__(self, model: TrainedModel, card: str, max_upload: int) -> None:
        self.model, self._open = model, ExitStack()
        size = model.description.size
        model.compute(np.zeros((1, size, size), np.uint8))  # the first time takes longest
        self.worker = Worker(model.compute)
        self._sandbox = Sandbox(READERS)
        self._reading = asyncio.Semaphore(READERS)
        network = model.network
        explained = not isinstance(network, Estimator)
        self.described = ServedModel(
            description=model.description,
            card=card,
            methods=METHODS if explained else {},
            layers=[name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)] if explained else [],
            max_upload=max_upload,
        )

    def __enter__(self) -> Self:
        """Start the thread."""
        self._open.enter_context(self._sandbox)
        self._open.enter_context(self.worker)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread and the parsers."""
        self._open.close()

    async def predict(self, uploads: Sequence[Upload], plane: Plane | None, *, pictures: bool) -> ServedAnswer:
        """Predict the slices of files.

        Raises:
            DataError: a file holds no slice.
            ArgumentError: too many slices, or two volumes of one name, which would be answered together.
            ProblemError: too many requests wait.
        """
        read = [await self._read(upload, plane) for upload in uploads]
        volumes = Counter(one.origins[0].volume for one in read)
        if twice := [name for name, count in volumes.items() if name and count > 1]:
            raise ArgumentError(f"two volumes are called {twice[0]}; give each file a name of its own")
        images, paths = np.concatenate([one.images for one in read]), [path for one in read for path in one.paths]
        if len(images) > MAX_SLICES:
            raise ArgumentError(f"the files hold {len(images)} slices; send at most {MAX_SLICES} in one request")
        found = [
            await _wait(self.worker.predict, images[start : start + AT_ONCE])
            for start in range(0, len(images), AT_ONCE)
        ]
        probabilities, distances = (np.concatenate(column) for column in zip(*found, strict=True))
        origins = [origin for one in read for origin in one.origins]
        answer = make_answer(self.model.description, paths, probabilities, distances, origins)
        shown = await asyncio.to_thread(lambda: [encode_png(one) for one in images]) if pictures else None
        return ServedAnswer(**dict(answer), pictures=shown)

    async def explain(self, upload: Upload, plane: Plane | None, options: MapOptions) -> Explained:
        """Compute maps of one slice.

        Raises:
            DataError: the file holds no slice.
            UnknownNameError: there is no such method, class or layer.
            ArgumentError: there is no such slice, too many methods, or an estimator.
            ProblemError: too many requests wait.
        """
        methods = self._check(options)
        read = await self._read(upload, plane)
        if not 0 <= options.index < len(read):
            raise ArgumentError(f"slice is {options.index}; the file holds {len(read)}, counted from 0")
        images, path = read.images[options.index : options.index + 1], read.paths[options.index]
        probabilities, distances = await _wait(self.worker.predict, images)
        answer = make_answer(self.model.description, [path], probabilities, distances, [read.origins[options.index]])
        found = await _wait(self.worker.call, lambda: self._compute_maps(images, methods, options))
        maps = [self._serve_map(name, one, images[0], options.alpha) for name, one in found.items()]
        return Explained(origin=answer.origin, slice=answer.slices[0], picture=encode_png(images[0]), maps=maps)

    def _check(self, options: MapOptions) -> tuple[str, ...]:
        if not self.described.methods:
            name = self.model.description.origin.model
            raise ArgumentError(f"{name} has no layers whose maps could be explained; serve a network's run")
        methods = tuple(dict.fromkeys(check_method(name) for name in options.methods))
        if not 1 <= len(methods) <= MAX_METHODS:
            raise ArgumentError(f"methods names {len(methods)}; name 1 to {MAX_METHODS} in one request")
        if options.class_name is not None and options.class_name not in self.model.class_names:
            raise UnknownNameError("class", options.class_name, self.model.class_names)
        return methods

    def _compute_maps(
        self, images: np.ndarray, methods: tuple[str, ...], options: MapOptions
    ) -> dict[str, Explanation]:
        chosen = None if options.class_name is None else self.model.class_names.index(options.class_name)
        pixels = scaled(torch.from_numpy(np.array(images)), self.model.description.scale)
        return explain(self.model.network, pixels, methods, chosen, layer=options.layer)

    def _serve_map(self, name: str, found: Explanation, image: np.ndarray, alpha: float) -> ServedMap:
        heat = found.maps[0].cpu().numpy()
        return ServedMap(
            method=name,
            title=METHODS[name],
            class_name=self.model.class_names[int(found.classes[0])],
            layers=list(found.layers),
            empty=found.reasons[0],
            map=encode_png(np.rint(heat * 255).astype(np.uint8)),
            overlay=encode_png(overlay(image, heat, alpha=alpha)),
        )

    async def _read(self, upload: Upload, plane: Plane | None) -> Images:
        described = self.model.description
        cut = Cut(plane or described.plane, described.slices)
        async with self._reading:
            return await asyncio.to_thread(
                read_content,
                upload.name,
                upload.content,
                self._sandbox,
                size=described.size,
                stretch=described.stretch,
                cut=cut,
            )


async def _wait(submit: Callable[..., Any], work: Any) -> Any:
    try:
        return await asyncio.wrap_future(submit(work))
    except BusyError:
        raise busy() from None
