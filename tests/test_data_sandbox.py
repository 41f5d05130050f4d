"""Parsing in children: answers in order, limits that end a child and not the reading, and no crash on mutations."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from volume_files import brain, write_nifti
from volume_mutations import CUT, kinds, try_mutations

from mriscope.data.parsing import answer
from mriscope.data.sandbox import Answer, Sandbox
from mriscope.errors import DataError

POSIX = pytest.mark.skipif(os.name != "posix", reason="only POSIX systems limit a process")


def nifti(path: Path) -> dict:
    return {"task": "nifti", "files": [str(path)], **CUT}


def test_answers_come_in_order_and_are_those_of_this_process(tmp_path: Path):
    paths = [write_nifti(tmp_path / f"{seed}.nii", brain(seed, (6, 7, 3 + seed))) for seed in range(8)]
    with Sandbox(children=2) as sandbox:
        found = list(sandbox.map(paths, nifti))
    assert [path for path, _ in found] == paths
    for path, told in found:
        expected = answer(nifti(path))
        assert isinstance(told, Answer)
        assert told.images is not None
        assert expected.images is not None
        assert np.array_equal(told.images, expected.images)
        assert told.facts == expected.facts


def test_a_file_that_is_gone_costs_itself_alone(tmp_path: Path):
    there = write_nifti(tmp_path / "a.nii", brain(0))
    with Sandbox(children=1) as sandbox:
        lost, whole, refused = (told for _, told in sandbox.map([tmp_path / "b.nii", there, None], self_or_none))
    assert str(lost) == "cannot be read (No such file or directory)"
    assert isinstance(whole, Answer)
    assert str(refused) == "is not asked for"


def self_or_none(path: Path | None) -> dict | DataError:
    return DataError("is not asked for") if path is None else nifti(path)


@POSIX
def test_a_child_that_is_killed_is_replaced(tmp_path: Path):
    path = write_nifti(tmp_path / "a.nii", brain(0))
    with Sandbox(children=1) as sandbox:
        ((_, first),) = sandbox.map([path], nifti)
        child = sandbox._started[0]
        child._process.send_signal(signal.SIGKILL)
        child._process.wait()
        ((_, second),) = sandbox.map([path], nifti)
        assert len(sandbox._started) == 2
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)


@POSIX
def test_more_memory_than_the_limit_is_an_error_of_that_file(tmp_path: Path):
    large = write_nifti(tmp_path / "large.nii.gz", np.zeros((400, 400, 400), np.uint8))
    small = write_nifti(tmp_path / "small.nii", brain(0))
    with Sandbox(children=1, memory=600 * 2**20) as sandbox:
        (_, failed), (_, read) = sandbox.map([large, small], nifti)
    assert isinstance(failed, DataError)
    assert "needs more memory" in str(failed) or "ended the process" in str(failed)
    assert isinstance(read, Answer), read


@POSIX
def test_more_processor_time_than_the_limit_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    large = write_nifti(tmp_path / "large.nii", np.zeros((300, 300, 300), np.uint8))
    monkeypatch.setattr("mriscope.data.sandbox.SECONDS", 1e-3)
    monkeypatch.setattr("mriscope.data.sandbox.SECONDS_PER_MIB", 0)
    with Sandbox(children=1) as sandbox:
        ((_, told),) = sandbox.map([large], nifti)
    assert str(told) == "takes longer to parse than any file of its size should; it is damaged or forged"


@pytest.mark.parametrize("name", ["nifti", "nifti.gz", "dicom", "jpeg2000", "matlab"])
def test_mutations_give_slices_or_a_sentence(tmp_path: Path, name: str):
    """A short run of benchmarks/volume_mutations.py, with seeds of its own; nothing but a DataError is let pass."""
    with Sandbox(children=1) as sandbox:
        found = list(try_mutations(kinds(tmp_path)[name], range(100_000, 100_060), tmp_path, sandbox))
        ended = len(sandbox._started) - 1
    assert len(found) == 60
    assert ended <= 6  # a child that a file ends is replaced, but few files do


@POSIX
def test_an_image_that_claims_more_pixels_within_takes_no_memory(tmp_path: Path):
    """A JPEG 2000 stream of 40 x 36 pixels that says that it has 20,000 x 20,000."""
    kind = kinds(tmp_path)["jpeg2000"]
    content = bytearray(kind.content)
    size = content.index(b"\xff\x51") + 6  # of the marker SIZ: width, height, offsets, then those of a tile
    for at in (size, size + 4, size + 16, size + 20):
        content[at : at + 4] = (20_000).to_bytes(4, "big")
    (tmp_path / "forged").write_bytes(content)
    (tmp_path / "sound").write_bytes(kind.content)
    with Sandbox(children=1) as sandbox:
        ((_, sound),) = sandbox.map(kind.requests(tmp_path / "sound")[1:], lambda request: request)
        ((_, forged),) = sandbox.map(kind.requests(tmp_path / "forged")[1:], lambda request: request)
    assert isinstance(sound, Answer), sound
    assert str(forged) == "holds a JPEG 2000 image that is not of 40×36 pixels, as it tells"
