"""Addresses at which no MLflow answers: pages of other programs, refused, silent and broken-off connections."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def page(status: int) -> Iterator[str]:
    """Serve one page of HTML with a status, whatever is asked."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Retry-After", "3600")
            self.end_headers()
            self.wfile.write(b"<html>a page</html>")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def refused() -> Iterator[str]:
    """Name a port at which nothing listens, though it is taken."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[socket.socket]]]:
    """Take connections; yields the address and those that came."""
    taken: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
                handle(taken[-1])
            except OSError:
                return

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


@contextmanager
def silent() -> Iterator[str]:
    """Take connections and never answer."""
    with listening(lambda _: None) as (address, _):
        yield address


@contextmanager
def half_dead() -> Iterator[str]:
    """Say at once that all is well, and never answer what MLflow asks, as a proxy does before a server that hangs."""

    def answer(connection: socket.socket) -> None:
        if connection.recv(4096).startswith(b"GET /health"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")

    with listening(answer) as (address, _):
        yield address


@contextmanager
def broken_off() -> Iterator[str]:
    """Take connections and end them without an answer."""
    with listening(lambda connection: connection.shutdown(socket.SHUT_RDWR)) as (address, _):
        yield address


KINDS: dict[str, tuple[Callable[[], AbstractContextManager[str]], str]] = {
    "404": (partial(page, 404), "error code 404"),
    "500": (partial(page, 500), "500"),
    "503, come back in an hour": (partial(page, 503), "503"),
    "HTML": (partial(page, 200), "not in a valid JSON format"),
    "refused": (refused, "Connection refused"),
    "broken off": (broken_off, "Connection reset|closed connection|Broken pipe"),
    "silent": (silent, "timed out"),
    "half dead": (half_dead, "timed out"),
}
"""Each with how it is made, and a pattern of the reason that is told."""
