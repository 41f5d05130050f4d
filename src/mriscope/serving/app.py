"""The web application: routes, their documentation, the page, and what watches over them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp

from mriscope.choices import Method, Plane
from mriscope.reports.answer import NO_DIAGNOSIS
from mriscope.reports.model_page import served_page
from mriscope.results.records import ResultFile
from mriscope.serving.answers import Explained, Problem, ServedAnswer, ServedModel
from mriscope.serving.forms import read_form
from mriscope.serving.guard import Admission, Guard
from mriscope.serving.meter import Meter
from mriscope.serving.problems import MEDIA_TYPE, ProblemError, answer_with_problems
from mriscope.serving.service import MAX_METHODS, MapOptions, Service
from mriscope.version import __version__

PLANES = "Of volumes; else that of training. A DICOM file of one image is read in its own plane."
TAKEN = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "application/dicom", "application/octet-stream")
"""Kinds of files; what one is, its content tells, whatever it is called."""
USUAL: list[Method] = ["gradcam"]
_EVERYWHERE = (401, 403, 421, 500)
_OF_UPLOADS = (*_EVERYWHERE, 400, 408, 413, 415, 422, 503)


def make_app(service: Service, admission: Admission) -> ASGIApp:
    """Make the application.

    Args:
        service: the model; it is started and stopped with the application.
        admission: who is answered.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with service:
            yield

    app = FastAPI(
        title="mriscope",
        version=__version__,
        description=f"Classes of brain-MRI slices by one trained model. {NO_DIAGNOSIS}",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages fetch scripts from other hosts
        redoc_url=None,
    )
    answer_with_problems(app)
    _add_model_routes(app, service)
    registry = CollectorRegistry()
    _add_state_routes(app, service, registry)
    _add_page(app)
    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    return Meter(Guard(app, admission), paths, registry)


def _problems(statuses: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema(mode="serialization")}}
    return {status: {"description": "Why there is no answer.", "content": content} for status in statuses}


def _upload(files: str) -> dict[str, Any]:
    """Return the documentation of a body with files, which the route reads by itself to keep them in memory."""
    file = {"type": "string", "format": "binary"}
    schema = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": file if files == "one" else {"type": "array", "items": file, "minItems": 1}},
    }
    content = {"schema": schema, "encoding": {"file": {"contentType": ", ".join(TAKEN)}}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def _add_model_routes(app: FastAPI, service: Service) -> None:
    limit = service.described.max_upload

    @app.get("/api/v1/model", response_model=ServedModel, responses=_problems(_EVERYWHERE), tags=["model"])
    async def model() -> Response:
        """Return what the model is, how it did on unseen subjects, and its card."""
        return _json(service.described)

    @app.post(
        "/api/v1/predict",
        response_model=ServedAnswer,
        responses=_problems(_OF_UPLOADS),
        openapi_extra=_upload("several"),
        tags=["model"],
    )
    async def predict(
        request: Request,
        plane: Annotated[Plane | None, Query(description=PLANES)] = None,
        pictures: Annotated[bool, Query(description="Send each slice back as the model saw it.")] = False,
    ) -> Response:
        """Predict the slices of files: pictures (JPEG, PNG, TIFF, BMP), NIfTI volumes and DICOM files.

        Slices of a volume also get one answer together, as do those of one subject where names of files tell it.
        """
        form = await read_form(request, limit)
        return _json(await service.predict(form.files, plane, pictures=pictures))

    @app.post(
        "/api/v1/explain",
        response_model=Explained,
        responses=_problems(_OF_UPLOADS),
        openapi_extra=_upload("one"),
        tags=["model"],
    )
    async def explain(
        request: Request,
        methods: Annotated[list[Method], Query(max_length=MAX_METHODS, description="Methods of explanation.")] = USUAL,
        class_name: Annotated[
            str | None, Query(alias="class", description="The class to explain; else the predicted one.")
        ] = None,
        layer: Annotated[str | None, Query(description="Whose maps count; else the last convolution's.")] = None,
        index: Annotated[int, Query(alias="slice", ge=0, lt=2**31, description="Which slice of a volume, from 0.")] = 0,
        alpha: Annotated[float, Query(ge=0, le=1, description="Share of the colours in overlays.")] = 0.5,
        plane: Annotated[Plane | None, Query(description=PLANES)] = None,
    ) -> Response:
        """Compute maps of one slice: which places count for a class, as grey levels and as colours over the slice."""
        (upload, *others) = (await read_form(request, limit)).files
        if others:
            raise ProblemError(422, f"there are {1 + len(others)} files in the request; send one to be explained")
        return _json(await service.explain(upload, plane, MapOptions(tuple(methods), class_name, layer, index, alpha)))


def _json(result: ResultFile) -> Response:
    return Response(result.to_json(), media_type="application/json")


def _add_state_routes(app: FastAPI, service: Service, registry: CollectorRegistry) -> None:
    waiting = Gauge("mriscope_waiting_jobs", "Jobs that wait for the model.", registry=registry)
    waiting.set_function(lambda: service.worker.waiting)
    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", response_class=Response, responses={**text, **_problems(_EVERYWHERE)}, tags=["state"])
    async def metrics() -> Response:
        """Return counts and times, as Prometheus reads them."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", response_class=Response, responses={**text, **_problems((403, 421, 500))}, tags=["state"])
    async def healthz() -> Response:
        """Tell that the server runs."""
        return Response("ok", media_type="text/plain")

    @app.get("/readyz", response_class=Response, responses={**text, **_problems((403, 421, 500, 503))}, tags=["state"])
    async def readyz() -> Response:
        """Tell whether another request would be taken."""
        if not service.worker.ready:
            raise ProblemError(503, "the model takes no more requests just now", {"Retry-After": "1"})
        return Response("ok", media_type="text/plain")


def _add_page(app: FastAPI) -> None:
    for path, (content, kind) in served_page().items():
        app.add_route(path, _file(content, kind), include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer
