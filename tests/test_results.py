"""Typed results: what they accept, what they refuse, and what they write."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mriscope.data.phantom import make_phantom
from mriscope.data.splits import read_split
from mriscope.errors import DataError, MriscopeError, RunError, WriteError
from mriscope.recipe import make_recipe
from mriscope.reports.audit import audit_page, audit_text
from mriscope.reports.crossvalidation import crossvalidation_markdown, crossvalidation_text
from mriscope.reports.page import run_page
from mriscope.reports.text import metrics_text
from mriscope.results import (
    Audit,
    CrossValidation,
    Environment,
    Estimate,
    ExplainComparison,
    ImportedMetrics,
    Interval,
    Metrics,
    Number,
    Record,
    ResultFile,
    RunsEstimate,
    SplitRecord,
    describe_problems,
)
from mriscope.run_directory import RunDirectory
from mriscope.tracking.records import final_metrics, initial_tags


class Score(ResultFile):
    """A small result of its own."""

    REMEDY = "measure again"
    SCHEMA = 2

    name: str
    score: Estimate
    counts: tuple[int, ...] = ()


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "score.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_an_estimate_without_bounds_is_null_in_json_and_nan_in_python() -> None:
    estimate = Estimate(0.5, np.nan, math.nan)
    assert estimate.to_json() == {"value": 0.5, "low": None, "high": None, "method": None, "reliable": None}
    assert (estimate.is_defined, estimate.has_interval) == (True, False)
    adapter = TypeAdapter(Estimate)
    assert json.loads(adapter.dump_json(estimate)) == estimate.to_json()
    assert adapter.validate_json('{"value": 0.5, "low": null, "high": null}') == estimate
    assert not Estimate(math.nan, math.nan, math.nan).is_defined
    assert Estimate(1.0, 0.0, 2.0).has_interval
    spread = RunsEstimate(0.5, 0.4, 0.6, 0.45, math.nan)
    numbers = {"value": 0.5, "low": 0.4, "high": 0.6, "least": 0.45, "greatest": None}
    assert spread.to_json() == {**numbers, "method": None, "reliable": None}
    named = Estimate(0.5, 0.4, 0.6, method="Wilson", reliable=True)
    assert adapter.validate_json(adapter.dump_json(named)) == named


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999", "9" * 400, "true", '"1"', "[1]", "{}"])
def test_a_number_is_finite_or_null(number: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Number).validate_json(number)
    assert TypeAdapter(Number).validate_json("-3") == -3


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    score = Score(name="ä", score=Estimate(0.25, 0.0, math.nan), counts=(1, 2))
    score.write(tmp_path / "below" / "score.json")
    assert Score.read(tmp_path / "below" / "score.json") == score
    text = (tmp_path / "below" / "score.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "schema_version": 2,
        "name": "ä",
        "score": {"value": 0.25, "low": 0.0, "high": None, "method": None, "reliable": None},
        "counts": [1, 2],
    }
    assert next(iter(json.loads(text))) == "schema_version"
    with pytest.raises(WriteError):
        score.write(tmp_path / "below" / "score.json" / "under")


def test_files_of_earlier_versions_are_read_and_those_of_later_ones_refused(tmp_path: Path) -> None:
    content = {"name": "a", "score": {"value": 1, "low": 0, "high": 2}}
    for version in ({}, {"schema_version": 0}, {"schema_version": 1}, {"schema_version": 2}):
        found = Score.read(written(tmp_path, json.dumps({**content, **version, "of a later release": [1]})))
        assert found.schema_version == 2
        assert found.score == Estimate(1.0, 0.0, 2.0)
    with pytest.raises(RunError, match="schema_version holds 3 and should be a version from 0 to 2") as caught:
        Score.read(written(tmp_path, '{"schema_version": 3}'))
    assert "missing" not in str(caught.value)  # fields may have other names there


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "name is missing, score is missing"),
        ("[]", "it should be an object"),
        ("", "it is no valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "it is no valid JSON .recursion limit"),
        (b"\xff\xfe", "it is no valid JSON"),
        ('{"name": "\\ud800"}', "it is no valid JSON"),
        ('{"name": 1, "score": {"value": 0, "low": 0, "high": 0}}', "name holds 1 and should be a valid string"),
        ('{"name": "a", "score": {"value": "0", "low": 0, "high": 0}}', "score.value holds '0' and should be a valid"),
        ('{"name": "a", "score": {"value": 1e999, "low": 0, "high": 0}}', "score.value holds inf and should be a fin"),
        ('{"name": "a", "score": []}', "score holds a list of 0 and should be"),
        ('{"name": "a", "score": {"value": 0, "low": 0}}', "score.high is missing"),
    ],
)
def test_a_damaged_file_is_named_with_its_field_and_what_was_expected(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(RunError, match=problem) as caught:
        Score.read(path)
    assert str(caught.value).startswith(f"{path} is damaged: ")
    assert str(caught.value).endswith("; measure again")
    assert len(str(caught.value)) < 1000
    with pytest.raises(DataError, match=r"; mend it$"):
        Score.read(path, error=DataError, remedy="mend it")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"score.json cannot be read \(No such file or directory\); measure again"):
        Score.read(tmp_path / "score.json")
    with pytest.raises(RunError, match="cannot be read"):
        Score.read(tmp_path)


def test_long_values_and_many_problems_are_cut_short() -> None:
    with pytest.raises(ValidationError) as caught:
        Score.from_json(json.dumps({"name": [1] * 1000, "score": "x" * 10_000, "counts": ["y" * 5000] * 100}))
    text = describe_problems(caught.value)
    assert text.endswith("and 97 more")
    assert len(text) < 1000


def test_records_cannot_be_changed_and_take_no_other_type_in_silence() -> None:
    interval = Interval(level=0.95, unit="subject", resamples=100)
    assert isinstance(interval, Record)
    with pytest.raises(ValidationError):
        interval.level = 0.5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        Interval(level=0.95, unit="subject", resamples="100")  # pyright: ignore[reportArgumentType]


# Files of the version before there was a schema version

GOLDEN = Path(__file__).parent / "golden"
KINDS: dict[str, type[ResultFile]] = {
    "metrics": Metrics,
    "evaluation": Metrics,
    "imported_metrics": ImportedMetrics,
    "environment": Environment,
    "imported_environment": Environment,
    "split": SplitRecord,
    "split_file": SplitRecord,
    "summary": CrossValidation,
    "explain_compare": ExplainComparison,
    "audit": Audit,
    "audit_alone": Audit,
}


def lacks(there: Any, here: Any) -> list[str]:
    """Where `here` lacks or changes what was `there`, as paths."""
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [f"{row}.{path}" for row, pair in enumerate(zip(there, here, strict=True)) for path in lacks(*pair)]
    if isinstance(there, dict) and isinstance(here, dict):
        return [f"{key}.{path}" for key in there for path in lacks(there[key], here.get(key, "nothing"))]
    return [] if there == here else [f"{there!r} became {here!r}"]


@pytest.mark.parametrize("name", KINDS)
def test_files_written_before_there_was_a_version_are_read_and_lose_nothing(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text(encoding="utf-8")
    assert "schema_version" not in text
    found = KINDS[name].read(GOLDEN / f"{name}.json")
    assert found.schema_version == 1
    assert lacks(json.loads(text), json.loads(found.to_json())) == []
    assert KINDS[name].from_json(found.to_json()) == found


# Damage

PHANTOM = make_phantom(subjects=12, slices=6, size=32).slices
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    "",
    "x",
    "<script>",
    "\x00",
    "1e999",
    [],
    {},
    [None],
    {"a": 1},
    10**400,
    1e308,
)
BROKEN = (b"\xff", b"\\ud800", b"}", b"]", b",", b'"', b"NaN", b"-Infinity", b"1e999", b"\x00", b"[" * 300)


def mutate(content: bytes, random: np.random.Generator) -> bytes:
    """A file with one to three fields changed, left out or added, or with a few bytes changed."""
    if random.random() < 0.25:
        broken = bytearray(content)
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(len(broken)))
            broken[place : place + int(random.integers(0, 30))] = BROKEN[random.integers(len(BROKEN))]
        return bytes(broken)
    tree = json.loads(content)
    for _ in range(random.integers(1, 4)):
        place, key, above = tree, None, tree
        while isinstance(place, dict | list) and place:
            above, keys = place, list(place) if isinstance(place, dict) else range(len(place))
            key = keys[random.integers(len(keys))]
            place = above[key]
            if random.random() < 0.3:
                break
        if key is None:
            continue
        change = random.random()
        if change < 0.2:
            del above[key]
        elif change < 0.3:
            above[key] = [place] * int(random.choice([1, 2, 300]))
        else:
            above[key] = ODD[random.integers(len(ODD))]
    return json.dumps(tree).encode()


def use(name: str, found: Any, folder: Path) -> None:
    """Do with a result that was read what the commands do with it."""
    found.to_json()
    if isinstance(found, Metrics):
        metrics_text(found)
        environment = Environment.read(GOLDEN / "environment.json")
        run_page("run", found, "model: x", environment, [])
        final_metrics(found)
    elif isinstance(found, Environment):
        run_page("run", Metrics.read(GOLDEN / "metrics.json"), "model: x", found, [])
        initial_tags(make_recipe({"model": "x"}), found)
    elif isinstance(found, CrossValidation):
        crossvalidation_text(found)
        crossvalidation_markdown(found)
    elif isinstance(found, Audit):
        audit_text(found)
        audit_page(found, next_steps=(), pictures={}, strips=(), strips_caption="")
    elif name == "split":
        found.write(folder / "split.json")
        read_split(folder / "split.json", PHANTOM)


@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_read_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    random, content = np.random.default_rng([7, *name.encode()]), (GOLDEN / f"{name}.json").read_bytes()
    refused = []
    for _ in range(int(os.environ.get("MRISCOPE_MUTATIONS", "60"))):
        path = written(tmp_path, mutate(content, random))
        try:
            use(name, KINDS[name].read(path), tmp_path)
        except MriscopeError as error:
            refused.append(str(error))
    assert all(len(text) < 2000 and "\n" not in text for text in refused)
    assert len(refused) > 10  # most mutations are of consequence


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (file, content)
        for file in ("metrics.json", "split.json", "environment.json")
        for content in ("{}", "[]", "null", "[" * 100_000 + "]" * 100_000)
    ],
)
def test_a_damaged_file_of_a_run_is_named_by_its_directory(file: str, content: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for name in ("metrics.json", "split.json", "environment.json"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    assert (run.protocol, run.leaky, len(run.parts().test), run.imported) == ("by_subject", False, 18, False)
    (tmp_path / file).write_text(content)
    with pytest.raises(RunError, match=rf"{file} is damaged: .+; train"):
        _ = (RunDirectory(tmp_path).environment, run.metrics(), run.parts())
