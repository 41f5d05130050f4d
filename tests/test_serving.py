"""The API: the model's own answers, limits that hold, who is let in, and nothing kept of what was sent."""

import base64
import io
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from served import DATA, SIZE, Client, multipart, serving
from volume_files import axial_series, brain, enhanced, write_dicoms, write_nifti

import mriscope
from mriscope.cli.options import parse_bytes
from mriscope.data.slices import CLASS_NAMES
from mriscope.explain import explain
from mriscope.explain.overlays import overlay, png_bytes
from mriscope.results import Answer
from mriscope.serving.answers import ServedModel
from mriscope.serving.guard import host_of
from mriscope.serving.server import serve_run

NAME = "Planted^Name"


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def model(run):
    return mriscope.load_model(run.path, "cpu")


@pytest.fixture(scope="module")
def server(run, model):
    with serving(run, model) as (client, _):
        yield client


@pytest.fixture(scope="module")
def images():
    return mriscope.read(DATA, size=SIZE).images


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def probabilities(reply) -> np.ndarray:
    assert reply.status == 200, reply.content
    return np.array([[one["probabilities"][name] for name in CLASS_NAMES] for one in reply.json["slices"]])


def test_the_answer_is_that_of_predict(server, model, run, images, tmp_path):
    reply = server.send("/api/v1/predict?pictures=true", ("one.png", png_bytes(images[3])))
    (tmp_path / "one.png").write_bytes(png_bytes(images[3]))
    expected = mriscope.predict(run.path, [tmp_path / "one.png"], device="cpu")
    told = Answer.from_json(reply.content)
    assert (told.origin, told.inference) == (expected.origin, expected.inference)
    (one,), (other,) = told.slices, expected.slices
    assert (one.path, one.class_name, one.prediction_set, one.out_of_distribution) == (
        *("one.png", other.class_name, other.prediction_set, other.out_of_distribution),
    )
    np.testing.assert_allclose(
        [*reply.json["slices"][0]["probabilities"].values()], [*other.probabilities.values()], atol=1e-5
    )
    np.testing.assert_array_equal(decoded(reply.json["pictures"][0]), images[3])


def test_one_request_agrees_with_64_slices_at_once_and_with_requests_side_by_side(server, model, images):
    files = [(f"{row}.png", png_bytes(images[row])) for row in range(64)]
    together = probabilities(server.send("/api/v1/predict", *files))
    with ThreadPoolExecutor(8) as threads:
        alone = np.concatenate(list(threads.map(lambda one: probabilities(server.send("/api/v1/predict", one)), files)))
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(together, model.compute(images[:64])[0], atol=1e-6)


def test_a_volume_is_answered_slice_by_slice(server, model, tmp_path):
    content = write_nifti(tmp_path / "scan.nii.gz", brain(1, (SIZE, SIZE, 20))).read_bytes()
    reply = server.send("/api/v1/predict?pictures=true", ("scan.nii.gz", content))
    assert [one["path"] for one in reply.json["slices"]] == [f"scan.nii.gz#z{index:03d}" for index in range(20)]
    shown = np.stack([decoded(one) for one in reply.json["pictures"]])
    np.testing.assert_allclose(probabilities(reply), model.compute(shown)[0], atol=1e-6)
    local = model.predict([tmp_path / "scan.nii.gz"])
    (one,), (expected,) = reply.json["subjects"], local.subjects
    assert (one["unit"], one["name"], one["n_slices"]) == ("volume", "scan.nii.gz", 20)
    np.testing.assert_allclose([*one["probabilities"].values()], [*expected.probabilities.values()], atol=1e-6)
    assert one["prediction_set"] == expected.prediction_set
    assert one["share_out_of_distribution"] == expected.share_out_of_distribution
    assert [row["position"] for row in reply.json["slices"]] == [row.position for row in local.slices]


def test_frames_of_a_dicom_file_are_a_volume_and_files_named_for_a_subject_are_its_own(server, tmp_path):
    voxels = brain(1, (SIZE, SIZE, 6))
    (file,) = write_dicoms(tmp_path, [enhanced(axial_series(voxels))])
    reply = server.send("/api/v1/predict", ("frames.dcm", file.read_bytes()))
    assert [(one["unit"], one["name"], one["n_slices"]) for one in reply.json["subjects"]] == [
        ("volume", "frames.dcm", 6)
    ]
    assert not any(secret in reply.content for secret in (b"Doe", b"MRN-4711"))
    content = write_nifti(tmp_path / "scan.nii", voxels).read_bytes()
    reply = server.send("/api/v1/predict", ("sub-01_ses-1_T1w.nii", content), ("sub-01_ses-2_T1w.nii", content))
    assert [(one["unit"], one["name"], one["n_slices"]) for one in reply.json["subjects"]] == [
        ("subject", "sub-01", 12)
    ]


def test_volumes_of_one_name_are_not_answered_together(server, images, tmp_path):
    contents = [write_nifti(tmp_path / "scan.nii", brain(seed, (SIZE, SIZE, 3))).read_bytes() for seed in (1, 2)]
    reply = server.send("/api/v1/predict", *(("scan.nii", content) for content in contents))
    assert (reply.status, reply.detail) == (422, "two volumes are called scan.nii; give each file a name of its own")
    reply = server.send("/api/v1/predict", *zip(("a.nii", "b.nii"), contents, strict=True))
    assert [(one["name"], one["n_slices"]) for one in reply.json["subjects"]] == [("a.nii", 3), ("b.nii", 3)]
    assert server.send("/api/v1/predict", *[("one.png", png_bytes(images[0]))] * 2).status == 200


def test_maps_are_those_of_explain(server, model, images):
    reply = server.send(
        "/api/v1/explain?methods=hirescam&methods=gradxinput&class=Non_Demented&alpha=0.25",
        ("one.png", png_bytes(images[3])),
    )
    assert reply.status == 200, reply.content
    chosen = model.class_names.index("Non_Demented")
    pixels = mriscope.scaled(torch.from_numpy(images[3:4].copy()), model.description.scale)
    expected = explain(model.network, pixels, ("hirescam", "gradxinput"), chosen)
    for one in reply.json["maps"]:
        heat = expected[one["method"]].maps[0].numpy()
        assert one["class"] == "Non_Demented"
        assert np.abs(decoded(one["map"]) - heat * 255).max() <= 0.51
        drawn = decoded(one["overlay"]).astype(int)
        assert np.abs(drawn - overlay(images[3], heat, alpha=0.25)).max() <= 1
    assert [one["method"] for one in reply.json["maps"]] == ["hirescam", "gradxinput"]
    assert reply.json["maps"][0]["layers"]
    assert reply.json["maps"][1]["layers"] == []


def test_the_model_tells_what_it_is(server, model, run):
    told = ServedModel.from_json(server.ask("/api/v1/model").content)
    assert told.description == model.description
    assert f"# {run.name}" in told.card
    assert {"gradcam", "occlusion"} <= set(told.methods)
    assert told.layers == [name for name, one in model.network.named_modules() if isinstance(one, torch.nn.Conv2d)]


def test_an_estimator_is_served_and_has_no_maps(tmp_path, images):
    settings = {"model": "nearest_neighbour", "data": DATA, "input": {"size": SIZE}}
    run = mriscope.train(mriscope.make_recipe(settings), tmp_path / "run", device="cpu", silent=True)
    model = mriscope.load_model(run.path, "cpu")
    with serving(run, model) as (client, _):
        reply = client.send("/api/v1/predict", ("one.png", png_bytes(images[0])))
        np.testing.assert_allclose(probabilities(reply), model.compute(images[:1])[0], atol=1e-6)
        assert client.ask("/api/v1/model").json["methods"] == {}
        reply = client.send("/api/v1/explain", ("one.png", png_bytes(images[0])))
        assert (reply.status, "no layers" in reply.detail) == (422, True)


def test_a_model_of_whole_subjects_is_not_served(tmp_path):
    settings = {"model": "tissue_histograms", "data": DATA, "input": {"size": SIZE}}
    run = mriscope.train(mriscope.make_recipe(settings), tmp_path / "run", device="cpu", silent=True)
    with pytest.raises(mriscope.DataError, match="looks at all slices of a subject"):
        serve_run(run.path, print, device="cpu")


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/v1/explain?methods=gradcamm", 422, "methods"),
        ("/api/v1/explain?class=Healthy", 422, "there is no class 'Healthy'"),
        ("/api/v1/explain?layer=features.9", 422, "there is no layer 'features.9'"),
        ("/api/v1/explain?slice=1", 422, "slice is 1; the file holds 1"),
        ("/api/v1/explain?alpha=2", 422, "alpha"),
        ("/api/v1/predict?plane=oblique", 422, "plane"),
        ("/api/v2/predict", 404, "there is nothing at /api/v2/predict"),
        ("/api/v1/model", 405, "does not take POST"),
    ],
)
def test_mistakes_are_told_in_a_sentence(server, images, path, status, told):
    reply = server.send(path, ("one.png", png_bytes(images[0])))
    assert (reply.status, told in reply.detail) == (status, True), reply.detail


@pytest.mark.parametrize(
    ("body", "kind", "status", "told"),
    [
        (b"{}", "application/json", 415, "no multipart/form-data"),
        (b"x", "multipart/form-data", 400, "Missing boundary"),
        (b"nonsense", "multipart/form-data; boundary=limit", 400, "can be read"),
        (multipart([("a.png", b"")], "picture")[0], "multipart/form-data; boundary=limit", 422, "no file"),
        (multipart([("<b>.png", b"text")])[0], "multipart/form-data; boundary=limit", 422, "<b>.png is no JPEG"),
        (multipart([("a", b"")] * 65)[0], "multipart/form-data; boundary=limit", 400, "Too many files"),
    ],
)
def test_bodies_that_hold_no_image_are_refused(server, body, kind, status, told):
    reply = server.ask("/api/v1/predict", method="POST", body=body, headers={"Content-Type": kind})
    assert (reply.status, told in reply.detail) == (status, True), reply.detail


def test_a_volume_of_too_many_slices_is_refused(server, tmp_path):
    content = write_nifti(tmp_path / "long.nii.gz", brain(1, (4, 4, 600))).read_bytes()
    reply = server.send("/api/v1/predict", ("long.nii.gz", content))
    assert (reply.status, "hold 600 slices; send at most 512" in reply.detail) == (422, True)


# Limits


def send_without_end(client: Client, head: str, part: bytes, count: int) -> tuple[int, int]:
    """Send a request whose body never seems to end; return the status and how many bytes were taken."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(head.encode())
        answer: list[bytes] = []
        reader = threading.Thread(target=lambda: answer.append(receive(connection)))
        reader.start()
        taken = 0
        try:
            while taken < count and reader.is_alive():
                connection.sendall(part)
                taken += len(part)
        except OSError:
            pass  # the server has hung up
        reader.join()
    return int(answer[0].split()[1]), taken


def receive(connection: socket.socket) -> bytes:
    found = b""
    try:
        while not found.endswith(b"}") and (part := connection.recv(65536)):
            found += part
    except OSError:
        pass
    return found


HEAD = "POST /api/v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
BEGIN = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
MIB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory so")
@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_uploads_of_a_gigabyte_end_early_and_take_no_memory(server, how):
    declared = f"Content-Length: {1024 * MIB}\r\n\r\n" if how == "declared" else "Transfer-Encoding: chunked\r\n\r\n"
    part = bytes(MIB) if how == "declared" else f"{MIB:x}\r\n".encode() + bytes(MIB) + b"\r\n"
    begin = "" if how == "declared" else f"{len(BEGIN):x}\r\n{BEGIN.decode()}\r\n"
    before = resident()
    status, taken = send_without_end(server, HEAD + declared + begin, part, 1024 * MIB)
    assert status == 413
    assert taken < 128 * MIB
    assert resident() - before < 50 * MIB
    assert server.ask("/healthz").status == 200


def test_who_waits_to_be_told_is_told_at_once(server):
    head = f"{HEAD}Expect: 100-continue\r\nContent-Length: {2**21 + 1}\r\n\r\n"
    assert send_without_end(server, head, b"", 0)[0] == 413


def test_a_length_that_says_too_little_gains_nothing(server):
    status, _ = send_without_end(server, f"{HEAD}Content-Length: 10\r\n\r\n", BEGIN + bytes(4 * MIB), 1)
    assert status in (400, 422)  # the ten bytes are answered; what follows is no request
    assert server.ask("/healthz").status == 200


def test_a_length_that_says_too_much_leaves_the_server_well(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{HEAD}Content-Length: {MIB}\r\n\r\n".encode() + BEGIN)
    assert server.ask("/readyz").status == 200


def test_the_limit_is_inclusive(server):
    def reply_to(length: int) -> int:
        body, _ = multipart([("a", b"")])
        return server.send("/api/v1/predict", ("a", bytes(length - len(body)))).status

    assert [reply_to(2**21), reply_to(2**21 + 1)] == [422, 413]


def test_more_than_may_wait_is_refused_with_a_time_to_come_back(run, model, images):
    with serving(run, model, at_once=1) as (client, _):
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n".encode() + BEGIN)
            reply = client.send("/api/v1/predict", ("one.png", png_bytes(images[0])))
            while reply.status == 200:  # the slow one has not been met yet
                reply = client.send("/api/v1/predict", ("one.png", png_bytes(images[0])))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "ask again" in reply.detail


def test_a_full_queue_is_answered_likewise(run, model, images):
    with serving(run, model) as (client, service):
        let_go, begun = threading.Event(), threading.Event()
        service.worker.call(lambda: (begun.set(), let_go.wait(30)))
        assert begun.wait(30)
        while service.worker.ready:
            service.worker.call(lambda: None)
        replies = [client.send("/api/v1/predict", ("one.png", png_bytes(images[0]))), client.ask("/readyz")]
        let_go.set()
        assert [(one.status, one.headers["retry-after"]) for one in replies] == [(503, "1"), (503, "1")]
        assert client.ask("/healthz").status == 200


# Who is let in


@pytest.mark.parametrize("host", ["evil.example", "localhost@evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_a_foreign_host_header_is_refused(server, host):
    reply = server.ask("/api/v1/model", headers={"Host": host})
    assert reply.status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST."])
def test_names_of_this_machine_are_let_in(server, host):
    assert server.ask("/api/v1/model", headers={"Host": host}).status == 200


def test_a_foreign_page_is_refused(server):
    assert server.ask("/api/v1/model", headers={"Origin": "http://evil.example"}).status == 403
    assert server.ask("/api/v1/model", headers={"Origin": "null"}).status == 403
    assert server.ask("/api/v1/model", headers={"Origin": "http://["}).status == 403
    assert server.ask("/api/v1/model", headers={"Origin": server.url[:-1]}).status == 200


def test_hosts_are_read_strictly():
    assert [host_of(one) for one in ("a b", "a/b", "user@localhost", "localhost:x", "[::1]x", "a:1:2")] == [""] * 6


def test_a_token_guards_the_model_and_not_the_page(run, model, images):
    with serving(run, model, token="sixteen letters!") as (client, _):
        for headers in ({}, {"Authorization": "Bearer sixteen letters?"}, {"Authorization": "Basic sixteen letters!"}):
            reply = client.send("/api/v1/predict", ("one.png", png_bytes(images[0])), headers=headers)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert "token is missing or wrong" in reply.detail
            assert client.ask("/metrics", headers=headers).status == 401
        headers = {"Authorization": "Bearer sixteen letters!"}
        assert client.send("/api/v1/predict", ("one.png", png_bytes(images[0])), headers=headers).status == 200
        assert [client.ask(path).status for path in ("/", "/healthz", "/readyz", "/docs")] == [200] * 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "0.0.0.0"}, "give a token that they have to send, with --token"),
        ({"token": "short"}, "the token has 5 characters"),
        ({"token": "sixteen letters of\n"}, "the token is empty, has characters that are no ASCII, or a space"),
        ({"token": "sëchzehn Buchstaben"}, "the token is empty, has characters that are no ASCII"),
        ({"host": "256.1.1.1", "token": "x" * 16}, "there is no address 256.1.1.1"),
        ({"host": "a..b", "token": "x" * 16}, "there is no address a..b (it is no name of a machine)"),
    ],
)
def test_unsafe_and_impossible_addresses_are_refused(run, options, told):
    with pytest.raises(mriscope.MriscopeError, match=re.escape(told)):
        serve_run(run.path, print, device="cpu", **options)


@pytest.mark.parametrize(
    ("text", "size"), [("8MiB", 2**23), ("500kB", 500_000), ("4096", 4096), ("1.5 GiB", 3 * 2**29), ("7b", 7)]
)
def test_sizes_are_read_with_their_units(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "MiB", "-1", "8 MiBs", "1e9", "0.1b"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(mriscope.ArgumentError, match="is no size; give one such as 8MiB"):
        parse_bytes(text)


def test_every_answer_has_its_policy(server):
    for path in ("/", "/docs", "/nothing", "/api/v1/model"):
        headers = server.ask(path).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_metrics_count_what_was_answered(run, model, images):
    with serving(run, model) as (client, _):
        for _ in range(3):
            client.send("/api/v1/predict", ("one.png", png_bytes(images[0])))
        client.ask("/nothing/patient")
        text = client.ask("/metrics").content.decode()
    assert 'mriscope_requests_total{path="/api/v1/predict",status="200"} 3.0' in text
    assert 'mriscope_requests_total{path="other",status="404"} 1.0' in text
    assert "patient" not in text


# Nothing is kept


def test_uploads_stay_in_memory_and_names_are_nowhere(server, images, tmp_path, monkeypatch, caplog, capfd):
    def spool(*_: object, **__: object) -> None:
        raise AssertionError("an upload went to a disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", spool)
    monkeypatch.setattr(tempfile, "TemporaryFile", spool)
    caplog.set_level(logging.DEBUG)
    (dicom,) = write_dicoms(tmp_path, axial_series(brain(2, (SIZE, SIZE, 4)), PatientName=NAME)[:1])
    content = dicom.read_bytes()
    assert NAME.encode() in content
    large = png_bytes(images[0]) + bytes(MIB + MIB // 2)  # above the megabyte from which parsers spool by default
    replies = [
        server.send("/api/v1/predict?pictures=true", ("scan.dcm", content)),
        server.send("/api/v1/explain", ("scan.dcm", content)),
        server.send("/api/v1/predict", ("cut.dcm", content[:-500])),
        server.send("/api/v1/predict", ("forged.dcm", content[:400] + NAME.encode() * 9)),
        server.send("/api/v1/predict", ("large", large)),
        server.ask("/metrics"),
    ]
    assert [one.status for one in replies[:2]] == [200, 200]
    assert all(one.status in (200, 422) for one in replies)
    said = "".join([*(one.content.decode() for one in replies), caplog.text, *capfd.readouterr()])
    for secret in (NAME, "Planted", "MRN-4711", "T1 MPRAGE", "1.2.3.4"):
        assert secret not in said


def test_what_fails_is_logged_without_what_was_sent(run, model, images, monkeypatch, caplog, capfd):
    def fail(*_: object, **__: object) -> None:
        raise ValueError(NAME)

    with serving(run, model) as (client, service):
        monkeypatch.setattr(service, "predict", fail)
        reply = client.send("/api/v1/predict", ("one.png", png_bytes(images[0])))
        assert (reply.status, "its log says where" in reply.detail) == (500, True)
        assert client.ask("/healthz").status == 200
    assert "a request failed with ValueError" in caplog.text
    assert "Planted" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_the_command_serves_until_it_is_told_to_stop(run, images):
    command = [sys.executable, "-m", "mriscope", "serve", str(run.path), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        try:
            line = server.stdout.readline()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\n", line), server.stderr.read()
            client = Client(int(line.split(":")[2].split("/")[0]))
            assert client.send("/api/v1/predict", ("one.png", png_bytes(images[0]))).status == 200
            assert client.send("/api/v1/predict", ("secret name", b"no picture")).status == 422
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        assert server.stdout.read() + server.stderr.read() == ""
