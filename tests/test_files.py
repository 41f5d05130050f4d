import pytest

from mriscope.errors import WriteError
from mriscope.files import remove_unfinished, replacing, write_text


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
