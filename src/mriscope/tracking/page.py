"""Serve MLflow's page to this machine alone."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from mriscope.errors import MriscopeError, need
from mriscope.tracking.store import ALWAYS, EXPERIMENT, artifacts_uri, connect, is_sqlite, redact, sqlite_file, store_of

HOST = "127.0.0.1"
_SECONDS_TO_STOP = 10


def show_page(uri: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve MLflow's page of a database, until Ctrl-C or SIGTERM.

    Args:
        uri: of the database.
        port: from 1 to 65535.
        announce: is called with the address of the table of runs once it answers.

    Raises:
        MissingExtraError: the extra "ui" is not installed.
        MriscopeError: there is no such database, the port is taken, or MLflow's server ends by itself.
    """
    store = store_of(uri)
    if store.startswith("http"):
        raise MriscopeError(f"{redact(uri)} has a page of its own; open that address in a browser")
    if is_sqlite(store) and not sqlite_file(store).is_file():
        raise MriscopeError(f"no runs are tracked in {redact(uri)} yet; train a recipe, or name the database")
    need("ui", "flask")
    _check_port(port)
    _, experiment = connect(store, EXPERIMENT)
    with tempfile.TemporaryFile("w+") as log, _server(store, port, log) as server:
        _wait_until_up(server, port, log)
        announce(f"http://{HOST}:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning")
        server.wait()
        raise MriscopeError(f"MLflow's server ended: {_last_line(log)}")


def _check_port(port: int) -> None:
    """Raise MriscopeError where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no hindrance
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise MriscopeError(f"port {port} cannot be used ({error.strerror}); name another with --port") from error


@contextmanager
def _server(store: str, port: int, log: IO[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run MLflow's server in a session of its own, which is gone when the block ends, however it ends."""
    arguments = ["server", "--backend-store-uri", store, "--host", HOST, "--port", str(port), "--workers", "1"]
    if is_sqlite(store):  # for runs that come in through this server; the others say where their files are
        arguments += ["--artifacts-destination", artifacts_uri(store)]
    variables = {**os.environ, **ALWAYS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # half the memory
    command = [sys.executable, "-m", "mlflow", *arguments]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env=variables, stdout=log, stderr=log, text=True, start_new_session=True)  # noqa: S603
    try:
        with suppress(KeyboardInterrupt):
            yield server
    finally:
        _stop(server)
        signal.signal(signal.SIGTERM, before)


def _stop(server: "subprocess.Popen[str]") -> None:
    server.terminate()  # it passes this on to its worker
    with suppress(subprocess.TimeoutExpired):
        server.wait(_SECONDS_TO_STOP)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _wait_until_up(server: "subprocess.Popen[str]", port: int, log: IO[str]) -> None:
    """Wait until the server answers; raise MriscopeError if it ends instead."""
    while server.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise MriscopeError(f"MLflow's server did not start: {_last_line(log)}")


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    *_, last = ["it printed nothing", *log.read().strip().splitlines()]
    return last
