"""Counts and times of requests, for Prometheus."""

import time
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Meter:
    """An ASGI application that counts what another answers.

    Args:
        app: what answers.
        paths: those that are counted by name; all else is "other", so that nobody can fill the registry.
        registry: where counts are kept.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str], registry: CollectorRegistry) -> None:
        self._app, self._paths = app, paths
        self._requests = Counter("mriscope_requests", "Requests answered.", ["path", "status"], registry=registry)
        self._seconds = Histogram("mriscope_request_seconds", "From request to answer.", ["path"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, begin = scope["path"] if scope["path"] in self._paths else "other", time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.labels(path, str(message["status"])).inc()
                self._seconds.labels(path).observe(time.perf_counter() - begin)
            await send(message)

        await self._app(scope, receive, send_counted)
