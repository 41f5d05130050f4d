"""The bench of mutants, on a function of three lines."""

import ast
from typing import Any

import mutants

SOURCE = '''
def count(numbers: list[int], most: int = 3) -> int | None:
    """Count those up to a number."""
    found: list[int | str] = sorted(numbers, reverse=True)
    if not found and most > 2:
        return -1
    return len(found) + len([one for one in found if one <= most])
'''


def test_every_place_is_changed_once_and_annotations_defaults_and_docstrings_stay() -> None:
    numbers = range(sum(1 for _ in mutants.places(ast.parse(SOURCE))))
    found = [mutants.mutate(SOURCE, number) for number in numbers]
    assert [(one.told, list(one.lines)) for one in found] == [
        ("sorted(numbers, reverse=True)  ->  sorted(numbers)", [4]),
        ("True  ->  False", [4]),
        ("not found and most > 2  ->  not (not found and most > 2)", [5]),
        ("not found and most > 2  ->  not found or most > 2", [5]),
        ("not found  ->  not not found", [5]),
        ("most > 2  ->  most >= 2", [5]),
        ("2  ->  3", [5]),
        ("-1  ->  --1", [6]),
        ("1  ->  2", [6]),
        (
            "len(found) + len([one for one in found if one <= most])  ->  "
            "len(found) - len([one for one in found if one <= most])",
            [7],
        ),
        ("one <= most  ->  one < most", [7]),
    ]


def test_a_function_that_is_known_elsewhere_gets_the_changed_code() -> None:
    space: dict = {}
    exec(compile(SOURCE, "<counted>", "exec"), space)
    count = space["count"]
    assert (count([1, 3, 5]), count([])) == (5, -1)
    mutants.install(mutants.mutate(SOURCE, 10, "<counted>").code)
    assert count([1, 3, 5]) == 4
    mutants.install(mutants.mutate(SOURCE, 7, "<counted>").code)
    assert count([]) == 1


def test_the_fastest_tests_that_run_a_line_are_chosen_within_a_minute() -> None:
    lines = frozenset({4, 5})
    other = frozenset({6})
    tried = ("a", 50.0, lines), ("b", 1.0, lines), ("c", 0.1, other), ("d", 20.0, lines)
    traced: Any = [(mutants.Trace(seconds, ran), name) for name, seconds, ran in tried]
    tests = mutants.choose_tests(traced, mutants.mutate(SOURCE, 1))
    assert [name for _, name in tests] == ["b", "d"]
    alone: Any = [(mutants.Trace(70.0, lines), "slow")]
    assert mutants.choose_tests(alone, mutants.mutate(SOURCE, 1)) == alone
    assert mutants.choose_tests(traced, mutants.mutate(SOURCE, 9)) == []
