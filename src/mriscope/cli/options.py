"""The arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that `mriscope train` wrote.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for what is written.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Resume = Annotated[bool, typer.Option("--resume/--fresh", help="Go on where a run was broken off, or begin it anew.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave unusable rows out and list them in bad_rows.csv, instead of stopping.")
]
Track = Annotated[
    str,
    typer.Option(
        metavar="URI", envvar="MRISCOPE_TRACK", help="Where MLflow keeps a record: a server, a database, or none."
    ),
]
LOCAL_STORE = "sqlite:///mlruns/mlflow.db"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Manifest = Annotated[
    str | None,
    typer.Option(metavar="CSV", help="Gives the slices their subjects: path, subject, position.", show_default=False),
]
Plane = Annotated[
    str | None,
    typer.Option(help="Of volumes: axial (the default), coronal or sagittal.", show_default=False),
]
Slices = Annotated[
    str | None,
    typer.Option(
        metavar="all|N|LOW:HIGH",
        help="Of volumes: all slices (the default), the N of highest entropy, or those of a slab in mm.",
        show_default=False,
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Which of several volumes: their file names in BIDS, the number or description of a DICOM series.",
        show_default=False,
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column of the labels in BIDS tables.", show_default=False)
]
SOURCE = (
    "A parquet file; a folder of parquet files, of class folders with images, NIfTI or DICOM files, or in BIDS; "
    "hf:owner/name, or phantom."
)
