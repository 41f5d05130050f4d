"""Evaluate a CSV file of predictions that another program wrote."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mriscope.cli.console import print_json
from mriscope.cli.reading import Reading
from mriscope.errors import ArgumentError
from mriscope.imports import lasting_imports


@dataclass(frozen=True)
class TableReading:
    """How a CSV file of predictions is read."""

    split: Annotated[
        str | None,
        typer.Option(
            metavar="published|rest|PATH",
            help="Of a CSV file with --data: which slices trained the model; rest are those that the file lacks, PATH "
            "is a file of `mriscope split`. Default: its rows of the part train.",
            show_default=False,
        ),
    ] = None
    predicted_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a CSV file: the predicted class.", show_default=False)
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...", help="Of a CSV file: what the labels 0, 1, ... are called.", show_default=False
        ),
    ] = None
    positive: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="Of a CSV file with two classes and one column of probabilities: whose they are.",
            show_default=False,
        ),
    ] = None
    logits: Annotated[bool, typer.Option("--logits", help="Of a CSV file: its columns of classes hold logits.")] = False


AS_CALLED = TableReading()


def is_table(path: Path) -> bool:
    """Tell whether a path names a CSV file, whatever it is called, rather than a run directory."""
    return path.is_file() or (path.suffix.lower() in (".csv", ".tsv") and not path.is_dir())


def refuse_given(options: dict[str, Any], reason: str) -> None:
    """Refuse options that do not go with the others.

    Raises:
        ArgumentError: one is given.
    """
    for name, value in options.items():
        if value not in (None, False):
            raise ArgumentError(f"--{name.replace('_', '-')} {reason}")


def refuse_table_reading(table: TableReading, run: Path) -> None:
    """Refuse options of a CSV file where a run is evaluated.

    Raises:
        ArgumentError: one is given.
    """
    refuse_given(asdict(table), f"says how a CSV file of predictions is evaluated, and {run} is none")


def evaluate_published(
    file: Path, table: TableReading, reading: Reading, source: str | None, *, as_json: bool, **chosen: Any
) -> int:
    """Evaluate a CSV file of predictions, print what was found, and return the exit code.

    --label-column and --subject-column are of the table; a pattern is of the source's paths, or else of the table's.
    """
    with lasting_imports():
        from mriscope.evaluation.prediction_table import ColumnChoice
        from mriscope.reports.published import published_text
        from mriscope.workflows.evaluate_table import evaluate_table, exit_code

    classes = None
    if table.classes is not None:
        classes = tuple(name.strip() for name in table.classes.split(","))
    columns = ColumnChoice(
        label=reading.label_column,
        predicted=table.predicted_column,
        subject=reading.subject_column,
        classes=classes,
        positive=table.positive,
        logits=table.logits,
    )
    of_source = replace(reading, label_column=None, subject_column=None)
    pattern = None
    if source is None:
        pattern, of_source = reading.subject_pattern, replace(of_source, subject_pattern=None)
    found = evaluate_table(
        file,
        columns=columns,
        source=of_source.of_another(source),
        split=table.split,
        subject_pattern=pattern,
        **chosen,
    )
    print_json(found.to_json()) if as_json else print(published_text(found))
    return exit_code(found)
