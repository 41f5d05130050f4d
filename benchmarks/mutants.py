"""Measure which share of small faults, put into a module at random, its own tests find.

    nice .venv/bin/python benchmarks/mutants.py                         # 40 mutants of each of MODULES
    nice .venv/bin/python benchmarks/mutants.py evaluation/metrics -n 20 --seed 1

A mutant is the module with one operator, number, truth value, condition or call changed. The tests are collected once,
and run once to learn which of them run which lines of the module. Each mutant is then tried in a forked child, whose
functions are given the changed code: by the tests that run the changed line, the fastest first, as many as fit into a
minute, and one at least. The first failing test kills it, and so does an end without an answer, or running ten times as
long as its tests did. Functions are changed in this process alone: a fault that only a test's subprocess would meet
survives. mutmut 3 and cosmic-ray start Python anew for each mutant: with torch that takes hours; the sample of equal
chance here takes minutes, and its share gets Wilson's interval.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.abc import InspectLoader
from itertools import accumulate, islice
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "evaluation/metrics": ("evaluation_metrics", "evaluation_scoring", "evaluation_pooling"),
    "evaluation/intervals": ("evaluation_intervals", "evaluation_differences", "evaluation_crossval_tests"),
    "audit/subjects": ("audit_subjects",),
    "audit/joining": ("audit_joining",),
    "audit/leakage": ("audit_leakage", "audit_repair"),
    "explain/cams": ("explain_formulas", "explain_probes", "explain_maps"),
}
"""Modules, and the test files that are theirs."""
SECONDS = 60
"""So long may the tests of one mutant take where nothing is wrong."""
OPPOSITES: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
}


@dataclass(frozen=True)
class Mutant:
    """A module with one place changed: what was changed, on which lines, and the code of it all."""

    told: str
    lines: range
    code: CodeType


@dataclass(frozen=True)
class Trace:
    """What a test took alone, in seconds, and the lines of the module that it ran."""

    seconds: float
    lines: frozenset[int]


Traced = tuple[Trace, pytest.Item]


def places(node: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """Yield what can be changed inside functions, in the order of the text; annotations and decorators stay."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        within = inside or (isinstance(node, ast.FunctionDef) and field == "body")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                if within and changeable(child):
                    yield child
                yield from places(child, within)


def changeable(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return type(node.op) in OPPOSITES
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not | ast.USub | ast.Invert)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.Call):
        return bool(node.keywords) and node.keywords[-1].arg is not None
    return isinstance(node, ast.BoolOp | ast.If | ast.IfExp)


def change(node: ast.AST) -> None:
    """Change one node in place."""
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            node.op = OPPOSITES[type(node.op)]()
        case ast.Compare():
            node.ops[0] = OPPOSITES[type(node.ops[0])]()
        case ast.UnaryOp():
            node.operand = ast.UnaryOp(node.op, node.operand)  # once more undoes it
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Call():
            node.keywords.pop()
        case ast.If() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)


def mutate(source: str, number: int, file: str = "<module>") -> Mutant:
    """Return the mutant of a module's text whose place has this number."""
    tree = ast.parse(source)
    node: Any = next(islice(places(tree), number, None))
    shown = node.test if isinstance(node, ast.If) else node
    before = ast.unparse(shown)
    change(node)
    after = ast.unparse(node.test if isinstance(node, ast.If) else node)
    lines = range(shown.lineno, (shown.end_lineno or shown.lineno) + 1)
    return Mutant(f"{before}  ->  {after}", lines, InspectLoader.source_to_code(ast.fix_missing_locations(tree), file))


def install(code: CodeType) -> None:
    """Give the functions of a module that are in this process the code of its mutant."""
    fresh = {(one.co_qualname, one.co_firstlineno): one for one in inner_codes(code)}
    for one in gc.get_objects():  # isinstance would ask objects that answer for others
        if type(one) is FunctionType and one.__code__.co_filename == code.co_filename:
            one.__code__ = fresh[one.__code__.co_qualname, one.__code__.co_firstlineno]


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from inner_codes(one)


def in_child(work: Callable[[], Any], limit: float) -> Any:
    """Return what a function returns in a forked child; None where it gives no answer within a limit of seconds.

    It has a folder of its own for temporary files, caches and hypothesis' examples, so that none meets another's.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def answer() -> None:
        from hypothesis.configuration import set_hypothesis_home_dir  # pytest's plugin has to come before it

        tempfile.tempdir = folder
        set_hypothesis_home_dir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        theirs.send(work())

    with tempfile.TemporaryDirectory() as folder:
        child = context.Process(target=answer)
        child.start()
        theirs.close()
        try:
            return ours.recv() if ours.poll(limit) else None
        except EOFError:
            return None
        finally:
            child.kill()
            child.join()


def trace_test(item: pytest.Item, file: str) -> Trace:
    """Run a test, with fixtures of its own, and note which lines of a file it runs."""
    lines = set[int]()

    def note(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        lines.add(frame.f_lineno)
        return note

    begin = time.monotonic()
    threading.settrace(note)
    sys.settrace(note)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    return Trace(time.monotonic() - begin, frozenset(lines))


def choose_tests(traced: list[Traced], mutant: Mutant) -> list[Traced]:
    """Return the tests that run the changed lines, the fastest first, as many as fit into SECONDS, and one at least."""
    able = sorted((one for one in traced if one[0].lines & {*mutant.lines}), key=lambda one: one[0].seconds)
    ends = accumulate(trace.seconds for trace, _ in able)
    return [one for place, (one, end) in enumerate(zip(able, ends, strict=True)) if end <= SECONDS or place == 0]


def survives(session: pytest.Session, tests: list[Traced], mutant: Mutant) -> bool:
    """Return whether tests pass on a mutant."""

    def all_pass() -> bool:
        install(mutant.code)
        items = [item for _, item in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return False
        return True

    return in_child(all_pass, 10 * (1 + sum(trace.seconds for trace, _ in tests))) is True


@dataclass(frozen=True)
class Bench:
    """A plugin of pytest that tries mutants with the tests that were collected."""

    modules: list[str]
    count: int
    seed: int

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        totals = [self.measure(module, session) for module in self.modules]
        killed, tried = map(sum, zip(*totals, strict=True))
        print(row("all", killed, tried))
        return True  # nothing is left to run

    def measure(self, module: str, session: pytest.Session) -> tuple[int, int]:
        """Print the mutants of a module that survive; return how many were killed, and how many tried."""
        begin = time.monotonic()
        file = str(importlib.import_module(f"mriscope.{module.replace('/', '.')}").__file__)
        items = [item for item in session.items if item.path.stem.removeprefix("test_") in MODULES[module]]

        def trace_all() -> list[Trace] | None:
            traces = [trace_test(item, file) for item in items]
            return None if session.testsfailed else traces

        traces = in_child(trace_all, 3600)
        if traces is None:
            raise pytest.UsageError(f"the tests of {module} fail, or take an hour, without any change")
        traced, source = list(zip(traces, items, strict=True)), Path(file).read_text(encoding="utf-8")
        unchanged = Mutant("nothing", range(len(source)), InspectLoader.source_to_code(source, file))
        if not survives(session, choose_tests(traced, unchanged), unchanged):
            raise pytest.UsageError(f"the tests of {module} kill it where nothing is changed")
        there = sum(1 for _ in places(ast.parse(source)))
        chosen = random.Random(self.seed).sample(range(there), min(self.count, there))
        killed = 0
        for number in sorted(chosen):
            mutant = mutate(source, number, file)
            tests = choose_tests(traced, mutant)
            if survives(session, tests, mutant):
                print(f"  {module}.py:{mutant.lines[0]}  {mutant.told}  ({len(tests)} tests)", flush=True)
            else:
                killed += 1
        print(f"{row(module, killed, len(chosen))}; {there} places, {time.monotonic() - begin:.0f} s", flush=True)
        return killed, len(chosen)


def row(name: str, killed: int, tried: int) -> str:
    interval = binomtest(killed, tried).proportion_ci(method="wilson")
    return f"{name}: {killed} of {tried} killed, {killed / tried:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], default=[])
    parser.add_argument("-n", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    modules = options.modules or list(MODULES)
    os.chdir(ROOT)
    files = [f"tests/test_{name}.py" for module in modules for name in MODULES[module]]
    os.environ.pop("MRISCOPE_DATA", None)  # without the real slices every machine tells the same
    plain = ["-q", "-s", "-n", "0", "-p", "no:cacheprovider", "-o", "addopts="]
    sys.exit(pytest.main([*plain, *files], plugins=[Bench(modules, options.n, options.seed)]))


if __name__ == "__main__":
    main()
