"""What commands print: in any encoding, with any name, and when nobody reads it any more."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import png

from mriscope import cli
from mriscope.cli import console

COMMAND = [sys.executable, "-m", "mriscope"]


def test_a_reader_that_has_gone_ends_a_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, "--help"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""


def test_output_that_has_no_room_is_named() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"mriscope: the output, or a file: No space left on device\n"


def test_work_goes_on_where_nobody_reads_the_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        errors = console._Errors(stream)
        print("epoch 1", file=errors, flush=True)
        print("epoch 2", file=errors, flush=True)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "utf-8"])
def test_what_an_encoding_lacks_is_replaced(encoding: str, tmp_path: Path) -> None:
    for name in ("Well", "M\u00e4\u017fig\u202e", "a\x1b[31m"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(png(len(name)))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [*COMMAND, "data", "info", str(tmp_path / "data")]
    table = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert table.returncode == 0, table.stderr
    shown = table.stdout.decode(encoding)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[31m" in shown
    assert ("M\u00e4\u017fig" in shown) == (encoding == "utf-8")
    listed = subprocess.run([*words, "--json"], env=environment, capture_output=True, check=False)
    assert set(json.loads(listed.stdout.decode(encoding))["classes"]) == {
        "Well",
        "M\u00e4\u017fig\ufffd",
        "a\ufffd[31m",
    }


def test_signs_of_our_own_have_a_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    console.set_up_streams()
    print("0.5 (0.4\u20130.6), 8\u00d78, \u4e2d")
    sys.stdout.flush()
    assert stream.buffer.getvalue() == b"0.5 (0.4-0.6), 8x8, ?\n"  # pyright: ignore[reportAttributeAccessIssue]
    print("to nowhere", file=sys.stderr)
    sys.stderr.close()


def test_a_name_in_a_message_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run_app(["data", "info", "no\x1b]0;title\x07such\u202e"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mriscope: no\\u001b]0;title\\u0007such\\u202e does not exist")
    assert cli._run_app(["data", "info", "~nobody-of-that-name/x"]) == 2
    assert "~nobody-of-that-name/x does not exist" in capsys.readouterr().err
