import pytest

from mriscope.errors import BadRow, BadRowsError, MissingExtraError, need, suggest


def test_near_names_are_suggested_and_all_where_none_is_near():
    known = ["learning_rate", "batch_size", "epochs"]
    assert suggest("lr", known) == "did you mean learning_rate?"
    assert suggest("epoch", known) == "did you mean epochs?"
    assert suggest("xyz", known) == "choose one of batch_size, epochs, learning_rate"


def test_bad_rows_are_listed_up_to_twenty_and_counted():
    error = BadRowsError("set", [BadRow(row, f"{row}.png", "is empty") for row in range(23)], 40)
    lines = str(error).splitlines()
    assert lines[0].startswith("set: 23 of 40 rows are unusable")
    assert lines[1] == "  row 0 (0.png): is empty"
    assert lines[20] == "  row 19 (19.png): is empty"
    assert lines[21:] == ["  ... and 3 more"]
    assert len(error.rows) == 23


def test_a_missing_package_names_its_extra():
    assert need("ui", "json").loads("1") == 1
    with pytest.raises(MissingExtraError, match=r"no_such_package is not installed; run: pip install 'mriscope\[ui\]'"):
        need("ui", "no_such_package")
