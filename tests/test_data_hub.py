"""fetch: the hub's own client, against its cache on disk and against a hub on this machine."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pytest
from data_files import png, write_parquet

from mriscope.data.readers import read
from mriscope.errors import DataError

COMMIT = "a" * 40
API = "/api/datasets/someone/slices"
FILES = {f"data/{part}-00000-of-00001.parquet": seed for seed, part in enumerate(("train", "test"))}
READ = """
import sys
from mriscope.data.readers import read
from mriscope.errors import DataError
try:
    found = read(sys.argv[1])
    print(found.parts.tolist(), found.labels.tolist())
except DataError as error:
    print(error)
"""


def read_in_a_process(source: str, cache: Path, address: str) -> str:
    """What a process of its own reads: the hub's client takes its address from the environment, at import."""
    own = {
        name: text for name, text in os.environ.items() if "proxy" not in name.lower() and not name.startswith("HF_")
    }
    hub = {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ, source], env=own | hub, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_shards(folder: Path) -> Path:
    for name, seed in FILES.items():
        write_parquet(folder / name, [(png(seed), "a.png", seed)])
    return folder


def fill(cache: Path) -> None:
    """Put the data set into a cache as the hub's client lays it out."""
    repository = cache / "datasets--someone--slices"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write_shards(repository / "snapshots" / COMMIT)


def refusal() -> str:
    with pytest.raises(DataError) as error:
        read("hf:someone/slices")
    assert str(error.value).endswith("; connect and run `mriscope data fetch`, or pass a folder with --data") or (
        "expected" in str(error.value)
    )
    return str(error.value)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no hub."""
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub on this machine with one data set, and the requests it got."""
    folder = write_shards(tmp_path / "served")
    (folder / "README.md").write_text("a card")
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            place = self.path.partition("?")[0]
            if place == f"{API}/revision/main":
                self.answer(json.dumps({"id": "someone/slices", "sha": COMMIT, "siblings": []}).encode())
            elif place == f"{API}/tree/{COMMIT}":
                self.answer(json.dumps([self.listed(name) for name in ("README.md", *FILES)]).encode())
            elif place.startswith(f"/datasets/someone/slices/resolve/{COMMIT}/"):
                self.answer((folder / place.partition(f"{COMMIT}/")[2]).read_bytes())
            else:
                self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def listed(self, name: str) -> dict[str, object]:
            return {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": "0" * 40}

        def answer(self, content: bytes, status: int = 200, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {
                "Content-Length": str(len(content)),
                "ETag": hashlib.sha256(content).hexdigest(),
                "X-Repo-Commit": COMMIT,
            }
            for name, text in (headers | (more or {})).items():
                self.send_header(name, text)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_data_set_is_downloaded_once_and_whole(tmp_path: Path, hub: tuple[str, list[str]], offline: Path):
    address, asked = hub
    assert read_in_a_process("hf:someone/slices", offline, address) == "['train', 'test'] [0, 1]"
    fetched = [request for request in asked if request.startswith("GET /datasets")]
    assert sorted(fetched) == [f"GET /datasets/someone/slices/resolve/{COMMIT}/{name}" for name in sorted(FILES)]
    assert read("hf:someone/slices").labels.tolist() == [0, 1]
    next(offline.rglob("snapshots/*/data/test-*.parquet")).unlink()
    assert "(IncompleteSnapshotError) and is not in the hub cache" in refusal()


def test_the_hub_has_no_such_data_set(tmp_path: Path, hub: tuple[str, list[str]]):
    assert read_in_a_process("hf:someone/else", tmp_path, hub[0]) == (
        "hf:someone/else could not be reached (RepositoryNotFoundError) and is not in the hub cache; connect and run "
        "`mriscope data fetch`, or pass a folder with --data"
    )


def test_offline_the_cache_serves(offline: Path):
    assert refusal().startswith("hf:someone/slices could not be reached (LocalEntryNotFoundError) and is not in")
    fill(offline)
    for source in ("hf:someone/slices", "hf://someone/slices"):
        assert read(source).parts.tolist() == ["train", "test"]


@pytest.mark.parametrize(
    "error", [RuntimeError("Cannot send a request"), OSError("no route"), ValueError("odd answer")]
)
def test_the_cache_serves_whatever_the_client_met(offline: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    real = huggingface_hub.snapshot_download

    def failing(*arguments: Any, local_files_only: bool, **options: Any) -> str:
        if not local_files_only:
            raise error
        return real(*arguments, local_files_only=True, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    assert f"could not be reached ({type(error).__name__})" in refusal()
    fill(offline)
    assert len(read("hf:someone/slices")) == 2


def test_nobody_answers(offline: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "could not be reached" in refusal()
    fill(offline)
    assert len(read("hf:someone/slices")) == 2


def test_a_cached_data_set_without_parquet_files_is_refused(offline: Path):
    fill(offline)
    for path in offline.rglob("*.parquet"):
        path.unlink()
    assert refusal().startswith(
        "hf:someone/slices holds no image files (.jpg, .jpeg, .png, .tif, .tiff, .bmp); expected"
    )
