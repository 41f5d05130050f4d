"""Run the server: where it listens, who is let in, how it stops."""

import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from mriscope.errors import ArgumentError, MriscopeError
from mriscope.run_directory import open_run
from mriscope.serving.app import make_app
from mriscope.serving.guard import LOOPBACK, Admission
from mriscope.serving.service import Service
from mriscope.workflows.export import make_card
from mriscope.workflows.predict import load_model

MAX_UPLOAD = 8 * 2**20
_SHORTEST = 16  # characters of a token


def serve_run(
    run: str | Path,
    announce: Callable[[str], None],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_upload: int = MAX_UPLOAD,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    device: str = "auto",
) -> None:
    """Serve the model of a run, until Ctrl-C or SIGTERM.

    Args:
        run: the run directory.
        announce: is called with the address of the page once it answers.
        host: the address to listen at.
        port: the port; 0 takes a free one.
        max_upload: bytes of the largest request.
        token: what callers have to send; needed where others than this machine can call.
        allowed_hosts: further names by which the server may be called.
        device: auto, cpu or cuda.

    Raises:
        RunError: no finished run.
        ArgumentError: others could call without a token, or with one that is soon guessed.
        MriscopeError: the address cannot be used.
    """
    _check_token(host, token)
    model = load_model(run, device)
    service = Service(model, make_card(open_run(run), model), max_upload)
    admission = Admission({*LOOPBACK, host.lower(), *(name.lower() for name in allowed_hosts)}, token)
    with _listen(host, port) as listening:
        config = uvicorn.Config(
            make_app(service, admission),
            http="h11",  # pure Python, whatever else is installed
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=10,
        )
        server = _AnnouncedServer(config, lambda: announce(_address(host, listening.getsockname()[1])))
        with suppress(KeyboardInterrupt):
            server.run([listening])


class _AnnouncedServer(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._announce()


def _check_token(host: str, token: str | None) -> None:
    if token is not None and not re.fullmatch("[!-~]([ -~]*[!-~])?", token):
        raise ArgumentError(
            "the token is empty, has characters that are no ASCII, or a space or line end at its ends, which no header "
            "carries; take letters and digits"
        )
    if token is not None and len(token) < _SHORTEST:
        raise ArgumentError(f"the token has {len(token)} characters; give at least {_SHORTEST} that nobody can guess")
    if token is None and host not in LOOPBACK:
        raise ArgumentError(f"at {host} others could ask the model; give a token that they have to send, with --token")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:  # ValueError: what can be no name, such as a..b or one of 300 characters
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a machine"
        raise MriscopeError(f"there is no address {host} ({reason}); name another with --host") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        reason = f"{host}, port {port} cannot be used ({error.strerror})"
        raise MriscopeError(f"{reason}; name others with --host and --port") from error
    return listening


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
