"""Conditions on slices: what they select, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mriscope.data.where import Condition
from mriscope.errors import ArgumentError

COLUMNS = {
    "age": np.array([50.0, 60, 70, np.nan]),
    "sex": np.array(["F", "M", "", "F"]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age >= 60", [0, 1, 1, 0]),
        ("60 <= age", [0, 1, 1, 0]),
        ("60 < age < 80", [0, 0, 1, 0]),
        ("not age < 60", [0, 1, 1, 0]),
        ("age == 50 or sex == 'F'", [1, 0, 0, 1]),
        ("age >= 60 and sex != 'F'", [0, 1, 0, 0]),
        ("not (age >= 60 and sex == 'F')", [1, 1, 0, 0]),
        ("not (age >= 60 or sex == 'M')", [1, 0, 0, 0]),
        ("sex in ['F', 'X']", [1, 0, 0, 1]),
        ("age not in (50, 60)", [0, 0, 1, 0]),
        ("age > -1.5e1", [1, 1, 1, 0]),
    ],
)
def test_a_condition_selects_what_it_is_known_to_be_true_of(text: str, expected: list[int]) -> None:
    assert Condition(text).select(COLUMNS).tolist() == [bool(one) for one in expected]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 characters"),
        ("age >=", "cannot be read"),
        ("age", "no comparison"),
        ("__import__('os').system('x') == 1", "no column"),
        ("age.real == 1", "no column"),
        ("age == sex", "two columns"),
        ("age is 3", "write =="),
        ("age == [1]", "neither a number nor"),
        ("age == True", "neither a number nor"),
        ("age + 1 == 3", "no column"),
        ("1 == 1", "no column"),
        ("age in 3", "takes a column and a list"),
        ("'F' in sex", "takes a column and a list"),
        ("(lambda: 1)() == age", "neither a number nor"),
        ("not " * 300 + "age == 1", "deep"),
        ("age == 1" + " or age == 1" * 300, "characters"),
        ("age == 1\x00", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_refused_at_once(text: str, told: str) -> None:
    with pytest.raises(ArgumentError, match="--where") as caught:
        Condition(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agee == 1", "did you mean age"),
        ("age == '60'", "leave the quotes out"),
        ("sex == 1", "put it in quotes"),
        ("sex < 'F'", "have no order"),
    ],
)
def test_columns_of_another_name_or_kind_are_refused(text: str, told: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Condition(text).select(COLUMNS)
    assert told in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_gives_a_condition_or_one_sentence(text: str) -> None:
    try:
        found = Condition(text).select(COLUMNS)
    except ArgumentError:
        return
    assert found.shape == (4,)
