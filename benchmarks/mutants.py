"""Measure which share of small faults, put into a module at random, its own tests find.

    nice .venv/bin/python benchmarks/mutants.py                         # 40 mutants of each of MODULES
    nice .venv/bin/python benchmarks/mutants.py evaluation/metrics -n 20 --seed 1

A mutant is the module with one operator, number, truth value, condition or call changed. Each is tried on a copy of the
package, in a forked child in which torch is imported already; the first failing test kills it, and so does running ten
times as long as the module itself. mutmut 3 and cosmic-ray try every mutant, or start Python anew for each: with torch
that takes hours; the sample of equal chance here takes minutes, and its share gets Wilson's interval.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "evaluation/metrics": ("evaluation_metrics", "evaluation_scoring", "evaluation_pooling"),
    "evaluation/intervals": ("evaluation_intervals", "evaluation_differences", "evaluation_crossval_tests"),
    "audit/subjects": ("audit_subjects",),
    "audit/leakage": ("audit_leakage", "audit_repair"),
    "explain/cams": ("explain_formulas", "explain_probes", "explain_maps"),
}
"""Modules, and the test files that are theirs."""
HEAVY = ("torch", "numpy", "scipy.stats", "scipy.ndimage", "sklearn.metrics", "pydantic", "pyarrow", "PIL")
OPPOSITES: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
}


def mutants(source: str) -> list[tuple[int, str, str]]:
    """List the mutants of a module: line, what was changed, and the module's text."""
    count = sum(1 for _ in places(ast.parse(source)))
    found = []
    for number in range(count):
        tree = ast.parse(source)
        node = next(node for place, node in enumerate(places(tree)) if place == number)
        before = ast.unparse(node)
        change(node)
        found.append((getattr(node, "lineno", 0), f"{before}  ->  {ast.unparse(node)}", ast.unparse(tree)))
    return found


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes inside functions that can be changed; annotations, defaults of types and docstrings stay."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in (node for statement in function.body for node in ast.walk(statement)):
                if isinstance(node, ast.FunctionDef):
                    break  # its own turn comes
                if changeable(node):
                    yield node


def changeable(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in OPPOSITES
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not | ast.USub | ast.Invert)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.AugAssign):
        return type(node.op) in OPPOSITES
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
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
            node.operand = node.operand if isinstance(node.op, ast.UAdd) else ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Call():
            node.keywords.pop()
        case ast.If() | ast.IfExp():
            node.test = ast.UnaryOp(ast.Not(), node.test)


def survives(folder: Path, tests: list[str], limit: float) -> bool:
    """Run tests in a child on the package in a folder; return whether all pass within a limit of seconds."""
    child = os.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(folder)
        sys.path.insert(0, str(folder))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-o", "addopts=", *tests]) != 0)
    begin = time.monotonic()
    while time.monotonic() - begin < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def measure(module: str, folder: Path, count: int, chance: random.Random) -> tuple[int, int]:
    """Print the mutants of a module that survive; return how many were killed, and how many tried."""
    path = folder / "mriscope" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    tests = [f"tests/test_{name}.py" for name in MODULES[module]]
    begin = time.monotonic()
    if not survives(folder, tests, 600):
        raise SystemExit(f"the tests of {module} fail, or take ten minutes, without any change")
    limit = 10 * (time.monotonic() - begin)
    found = mutants(source)
    chosen = chance.sample(found, min(count, len(found)))
    killed = 0
    for line, told, text in chosen:
        path.write_text(text, encoding="utf-8")
        if survives(folder, tests, limit):
            print(f"  survives: {module}.py:{line}  {told}", flush=True)
        else:
            killed += 1
    path.write_text(source, encoding="utf-8")
    print(f"{row(module, killed, len(chosen))}, of {len(found)} mutants, {time.monotonic() - begin:.0f} s", flush=True)
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
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.chdir(ROOT)
    for name in HEAVY:
        importlib.import_module(name)
    totals = []
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(ROOT / "src", place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(place, quiet=2)
        for module in options.modules or MODULES:
            totals.append(measure(module, Path(place), options.n, random.Random(options.seed)))
    killed, tried = map(sum, zip(*totals, strict=True))
    print(row("all", killed, tried))


if __name__ == "__main__":
    main()
