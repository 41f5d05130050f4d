"""The arguments and options that several commands take."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mriscope import choices
from mriscope.errors import ArgumentError

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that `mriscope train` wrote.")]
RecipeName = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe that `mriscope recipes` lists.")
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for what is written.", show_default=False)]
Device = Annotated[choices.Device, typer.Option(help="Where to compute; auto is a GPU where there is one.")]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Resume an unfinished run, or start over.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave unusable rows out and list them in bad_rows.csv, instead of stopping.")
]
Track = Annotated[
    str,
    typer.Option(metavar="URI", envvar="MRISCOPE_TRACK", help="MLflow tracking: a server, a database, or none."),
]
Executor = Annotated[
    str,
    typer.Option(
        metavar="WHERE",
        help="serial, processes[:N], or ray[:ADDRESS]; auto is processes where several cores and no GPU are there.",
    ),
]
LOCAL_STORE = "sqlite:///mlruns/mlflow.db"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Manifest = Annotated[
    str | None,
    typer.Option(
        metavar="CSV",
        help="What is known of slices, by path or subject: subject, session, position, covariates.",
        show_default=False,
    ),
]
Covariates = Annotated[
    str | None,
    typer.Option(
        metavar="CSV",
        help="Covariates such as age, by path or subject, beside those that the source brings.",
        show_default=False,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION",
        help="Evaluate only slices that it is true of, such as 'age >= 60 and sex == \"F\"'.",
        show_default=False,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=16, max=1024, help="Bring every slice to this height and width in pixels.", show_default=False),
]
SOURCE = (
    "A parquet file; a CSV file of paths and labels; a folder of parquet files, of class folders with images, NIfTI or "
    "DICOM files, or in BIDS; hf:owner/name, or phantom."
)


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as 8MiB, 500kB or 4096.

    Raises:
        ArgumentError: it is none, or nothing.

    Example:
        >>> parse_bytes("8MiB"), parse_bytes("0.5kB")
        (8388608, 500)
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})", text.strip().lower())
    if found is None or found[2] not in units or float(found[1]) * units[found[2]] < 1:
        raise ArgumentError(f"{text!r} is no size; give one such as 8MiB or 500kB")
    return int(float(found[1]) * units[found[2]])
