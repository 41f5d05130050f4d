"""A server on a free port of this machine, and how it is asked."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

import mriscope
from mriscope.recipe import make_recipe
from mriscope.serving.app import make_app
from mriscope.serving.guard import LOOPBACK, Admission
from mriscope.serving.service import Service
from mriscope.workflows.export import make_card
from mriscope.workflows.predict import TrainedModel

SIZE = 32
DATA = "phantom:subjects=24,slices=3"


def train_tiny(folder: Path) -> Any:
    settings = {"model": "compact_cnn", "data": DATA, "input": {"size": SIZE}, "training": {"epochs": 1}}
    return mriscope.train(make_recipe(settings), folder, device="cpu", silent=True)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def detail(self) -> str:
        """The sentence of a problem, once its form is found right."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == self.status
        return self.json["detail"]


@dataclass(frozen=True)
class Client:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, *, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def send(self, path: str, *files: tuple[str, bytes], headers: dict[str, str] | None = None) -> Reply:
        body, kind = multipart(files)
        return self.ask(path, method="POST", body=body, headers={"Content-Type": kind, **(headers or {})})


def multipart(files: Any, field: str = "file") -> tuple[bytes, str]:
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files
    ]
    return b"\r\n".join([*parts, b"--limit--\r\n"]), "multipart/form-data; boundary=limit"


@contextmanager
def serving(
    run: Any, model: TrainedModel, *, max_upload: int = 2**21, token: str | None = None, at_once: int = 32
) -> Iterator[tuple[Client, Service]]:
    """Serve a model from a thread of this process."""
    service = Service(model, make_card(run, model), max_upload)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = make_app(service, Admission(LOOPBACK, token, at_once))
        server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", access_log=False, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Client(listening.getsockname()[1]), service
        finally:
            server.should_exit = True
            thread.join()
