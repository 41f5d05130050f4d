"""The arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from mriscope import choices

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that `mriscope train` wrote.")]
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
LOCAL_STORE = "sqlite:///mlruns/mlflow.db"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Manifest = Annotated[
    str | None,
    typer.Option(metavar="CSV", help="Gives the slices their subjects: path, subject, position.", show_default=False),
]
SOURCE = "A parquet file, a folder of parquet files or of class folders, hf:owner/name, or phantom."
