"""A condition on what is known of slices, such as `age >= 60 and sex == 'F'`: parsed by hand, never run as a program.

Unknown values follow Kleene's logic of three values (Kleene, 1938): a comparison with one is unknown, `not` of it too,
and a slice counts only where the whole condition is known to be true.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mriscope.data.slices import SliceSet
from mriscope.errors import ArgumentError, suggest

EXAMPLE = "age >= 60 and sex == 'F'"
_LONGEST, _DEEPEST = 2000, 40
_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}


@dataclass(frozen=True)
class _Truth:
    """Where a condition is true, and where that is known; bool (N,) each."""

    true: np.ndarray
    known: np.ndarray


class Condition:
    """A condition on columns; checks its form at once, and its names and kinds where it meets columns.

    Args:
        text: comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`) of a column with numbers or quoted texts,
            joined by `and`, `or`, `not` and brackets.

    Raises:
        ArgumentError: it is no such condition.

    Example:
        >>> columns = {"age": np.array([50.0, 70.0, np.nan]), "sex": np.array(["F", "M", "F"])}
        >>> Condition("age >= 60 or sex == 'F'").select(columns).tolist()
        [True, True, True]
        >>> Condition("not age < 60").select(columns).tolist()
        [False, True, False]
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        if not self.text or len(self.text) > _LONGEST:
            raise self._error(f"it has {len(self.text)} characters, where 1 to {_LONGEST:,} are expected")
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
            raise self._error(f"it cannot be read{place}") from None
        self.names = tuple(dict.fromkeys(self._check(self._tree, 0)))

    def select(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return where the condition is known to be true, bool (N,).

        Args:
            columns: float64 (N,) with nan, or str (N,) with "", where unknown.

        Raises:
            ArgumentError: the condition names a column that is not there, or compares texts with numbers.
        """
        for name in self.names:
            if name not in columns:
                raise ArgumentError(
                    f"--where {self.text!r}: nothing called {name!r} is known of these slices, "
                    f"{suggest(name, columns)}; --covariates FILE adds covariates"
                )
        found = self._evaluate(self._tree, columns)
        return found.true & found.known

    def _check(self, node: ast.AST, depth: int) -> list[str]:
        """Return the names of columns below a node; refuse whatever is no condition."""
        if depth > _DEEPEST:
            raise self._error(f"its brackets are over {_DEEPEST} deep")
        if isinstance(node, ast.BoolOp):
            return [name for one in node.values for name in self._check(one, depth + 1)]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._check(node.operand, depth + 1)
        if isinstance(node, ast.Compare):
            return [name for left, kind, right in _pairs(node) for name in self._check_pair(left, kind, right)]
        raise self._error(f"{ast.unparse(node)!r} is no comparison")

    def _check_pair(self, left: ast.expr, kind: ast.cmpop, right: ast.expr) -> list[str]:
        if isinstance(kind, ast.In | ast.NotIn):
            if isinstance(left, ast.Name) and isinstance(right, ast.List | ast.Tuple | ast.Set) and right.elts:
                for one in right.elts:
                    self._value(one)
                return [left.id]
            raise self._error("`in` takes a column and a list, such as sex in ['F', 'M']")
        if type(kind) not in _OPERATORS:
            raise self._error("`is` compares no values; write ==")
        names = [one.id for one in (left, right) if isinstance(one, ast.Name)]
        if len(names) != 1:
            what = "two columns" if names else "no column"
            raise self._error(f"a comparison names {what}; compare a column with a number or a quoted text")
        self._value(left if isinstance(right, ast.Name) else right)
        return names

    def _value(self, node: ast.expr) -> float | str:
        sign = -1 if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else 1
        value = getattr(node.operand if isinstance(node, ast.UnaryOp) and sign == -1 else node, "value", None)
        if isinstance(value, str) and sign == 1:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return sign * float(value)
        raise self._error(f"{ast.unparse(node)!r} is neither a number nor a quoted text")

    def _evaluate(self, node: ast.expr, columns: Mapping[str, np.ndarray]) -> _Truth:
        if isinstance(node, ast.UnaryOp):
            one = self._evaluate(node.operand, columns)
            return _Truth(~one.true, one.known)
        if isinstance(node, ast.BoolOp):
            return _join([self._evaluate(one, columns) for one in node.values], isinstance(node.op, ast.And))
        assert isinstance(node, ast.Compare), "_check lets nothing else pass"
        return _join([self._compare(*pair, columns) for pair in _pairs(node)], True)

    def _compare(self, left: ast.expr, kind: ast.cmpop, right: ast.expr, columns: Mapping[str, np.ndarray]) -> _Truth:
        if not isinstance(left, ast.Name):  # 60 <= age is age >= 60
            left, right, kind = right, left, _MIRRORED.get(type(kind), type(kind))()
        assert isinstance(left, ast.Name), "_check_pair lets nothing else pass"
        column = columns[left.id]
        known = column != "" if column.dtype.kind == "U" else ~np.isnan(column)
        if isinstance(kind, ast.In | ast.NotIn):
            values = [self._fitting(left.id, one, column) for one in getattr(right, "elts", ())]
            return _Truth(np.isin(column, values) != isinstance(kind, ast.NotIn), known)
        value = self._fitting(left.id, right, column)
        if isinstance(value, str) and not isinstance(kind, ast.Eq | ast.NotEq):
            raise self._error(f"{left.id} holds texts, which have no order; use ==, != or in")
        return _Truth(_OPERATORS[type(kind)](column, value), known)

    def _fitting(self, name: str, node: ast.expr, column: np.ndarray) -> float | str:
        """Return a value of the column's kind."""
        value = self._value(node)
        if isinstance(value, str) == (column.dtype.kind == "U"):
            return value
        holds, given = ("texts", "a number") if column.dtype.kind == "U" else ("numbers", "a text")
        hint = "; put it in quotes" if holds == "texts" else "; leave the quotes out"
        raise self._error(f"{name} holds {holds}, and is compared with {given}{hint}")

    def _error(self, reason: str) -> ArgumentError:
        shown = self.text if len(self.text) <= 80 else f"{self.text[:77]}..."
        return ArgumentError(f"--where {shown!r}: {reason}; write a condition such as {EXAMPLE}")


def columns_of(slices: SliceSet) -> dict[str, np.ndarray]:
    """Return what a condition may name: every covariate, and class, subject, session, part and position."""
    return {
        **slices.covariates,
        "class": np.array(slices.class_names)[slices.labels],
        "subject": slices.subject_names,
        "session": slices.sessions,
        "part": slices.parts,
        "position": slices.positions,
    }


def _pairs(node: ast.Compare) -> list[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """Return the comparisons of a chain: 60 <= age < 80 has two."""
    return list(zip([node.left, *node.comparators], node.ops, node.comparators, strict=False))


def _join(several: list[_Truth], every: bool) -> _Truth:
    """Join by `and` (every) or `or`: one false (true) decides, whatever is unknown."""
    decided = np.asarray(np.stack([one.known & (one.true != every) for one in several]).any(axis=0))
    known = np.asarray(np.stack([one.known for one in several]).all(axis=0))
    return _Truth(np.where(decided, not every, every), decided | known)
