"""Errors as problem+json (RFC 9457): each says in a sentence what was found, what was expected and what to do."""

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mriscope.errors import MriscopeError
from mriscope.serving.answers import Problem

LOG = logging.getLogger("mriscope")
MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that is answered with a problem.

    Args:
        status: of HTTP.
        detail: the sentence.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def respond(self) -> Response:
        """Make the answer."""
        problem = Problem(title=HTTPStatus(self.status).phrase, status=self.status, detail=self.detail)
        return Response(problem.model_dump_json(), self.status, self.headers, MEDIA_TYPE)


def answer_with_problems(app: FastAPI) -> None:
    """Answer every error of an app with a problem; what was sent is in no log."""

    @app.exception_handler(ProblemError)
    async def of_request(_request: Request, error: ProblemError) -> Response:
        return error.respond()

    @app.exception_handler(MriscopeError)
    async def of_user(_request: Request, error: MriscopeError) -> Response:
        return ProblemError(422, str(error)).respond()

    @app.exception_handler(RequestValidationError)
    async def of_values(_request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5])
        return ProblemError(422, f"the request does not fit: {told}; see /docs").respond()

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        told = {
            404: f"there is nothing at {request.url.path}; see /docs for what there is",
            405: f"{request.url.path} does not take {request.method}; see /docs for what it takes",
        }
        return ProblemError(error.status_code, told.get(error.status_code, str(error.detail)), error.headers).respond()

    @app.exception_handler(Exception)
    async def of_ours(_request: Request, error: Exception) -> Response:
        places = "".join(traceback.format_tb(error.__traceback__))  # without its message, which may hold what was sent
        LOG.error("a request failed with %s\n%s", type(error).__name__, places)
        return ProblemError(500, "the server failed at this request; its log says where").respond()
