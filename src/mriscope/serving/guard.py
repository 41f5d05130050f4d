"""What every request passes first: the names that the server goes by, the token, and how many are answered at once."""

import hmac
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mriscope.serving.problems import ProblemError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECURED = ("/api/", "/metrics")
"""Beginnings of the paths that need a token where there is one; the page itself holds nothing secret."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Admission:
    """Who is answered.

    Args:
        hosts: names and addresses by which the server may be called.
        token: None where everybody may ask, as on this machine alone.
        at_once: how many uploads are taken in at a time.
    """

    hosts: Collection[str] = LOOPBACK
    token: str | None = None
    at_once: int = 32


class Guard:
    """An ASGI application that refuses requests, and adds headers to every answer.

    A foreign Host header is refused, as a page elsewhere may have given its own name this machine's address (DNS
    rebinding); so is a foreign Origin.

    Args:
        app: what answers the rest.
        admission: who is answered.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        uploads = scope["method"] == "POST"
        if refused := self._refuse(scope["path"], Headers(scope=scope)) or (self._refuse_more() if uploads else None):
            await refused.respond()(scope, receive, send_secured)
            return
        self._uploads += uploads
        try:
            # What failed has been answered and logged; its message is dropped, as it may hold what was sent.
            with suppress(Exception):
                await self._app(scope, receive, send_secured)
        finally:
            self._uploads -= uploads

    def _refuse(self, path: str, headers: Headers) -> ProblemError | None:
        admission = self._admission
        if host_of(headers.get("host", "")) not in admission.hosts:
            return ProblemError(421, "the Host header names another server; name this one as --allowed-host does")
        origin = headers.get("origin")
        if origin is not None and host_of(origin.partition("://")[2].partition("/")[0]) not in admission.hosts:
            return ProblemError(403, "the request comes from a page of another site")
        if admission.token is None or not path.startswith(SECURED):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), admission.token.encode()):
            return None
        return ProblemError(
            401,
            "the token is missing or wrong; send it as `Authorization: Bearer TOKEN`",
            {"WWW-Authenticate": "Bearer"},
        )

    def _refuse_more(self) -> ProblemError | None:
        return busy() if self._uploads >= self._admission.at_once else None


def busy() -> ProblemError:
    """Return the answer to a request that there is no room for."""
    return ProblemError(503, "too many requests wait for the model; ask again in a second", {"Retry-After": "1"})


def host_of(address: str) -> str:
    """Return the name or address in host:port, in lower case and without the brackets of IPv6; "" where it is none.

    Example:
        >>> host_of("LocalHost:8000"), host_of("[::1]:8000"), host_of("127.0.0.1")
        ('localhost', '::1', '127.0.0.1')
    """
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@?#\s]+))(?::[0-9]+)?", address.lower())
    return (found[1] or found[2]).rstrip(".") if found else ""
