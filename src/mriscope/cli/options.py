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
    str | None, typer.Option(metavar="NAME", help="Of tables (parquet, CSV, BIDS): the labels.", show_default=False)
]
ImageColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of parquet files: the column of the images.", show_default=False)
]
SubjectColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of tables: the column of the subjects.", show_default=False)
]
SubjectPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Finds (?P<subject>...), and (?P<session>...) and (?P<position>...) if they are there, in paths.",
        show_default=False,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=16, max=1024, help="Bring every slice to this height and width in pixels.", show_default=False),
]
Stretch = Annotated[
    bool | None,
    typer.Option("--stretch", help="Fill the square, instead of keeping the aspect on black.", show_default=False),
]
SOURCE = (
    "A parquet file; a CSV file of paths and labels; a folder of parquet files, of class folders with images, NIfTI or "
    "DICOM files, or in BIDS; hf:owner/name, or phantom."
)
