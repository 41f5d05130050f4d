import pytest

from mriscope.files import remove_unfinished, replacing, write_text


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "new folder" / "a.txt"
    write_text(file, "one")
    write_text(file, "two")
    assert file.read_text() == "two"
    assert list(file.parent.iterdir()) == [file]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(OSError, match="disk full"), replacing(file) as draft:
        draft.write_text("half")
        raise OSError("disk full")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / ".a.txt.123.unfinished").write_text("half")
    (tmp_path / "b.txt").write_text("whole")
    remove_unfinished(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["b.txt"]
