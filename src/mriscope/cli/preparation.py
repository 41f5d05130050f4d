"""The command that prepares volumes."""

from pathlib import Path
from typing import Annotated

import typer

from mriscope import choices
from mriscope.cli.console import print_json
from mriscope.cli.early import check_data
from mriscope.cli.options import AsJson
from mriscope.cli.reading import LabelColumn, Series, SubjectColumn, SubjectPattern

app = typer.Typer()


@app.command(epilog="Example: mriscope prepare bids --out prepared --slices 32")
def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Volumes: NIfTI or DICOM files in class folders, a CSV file of them, or BIDS."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the slices and the page.")],
    orientation: Annotated[
        choices.Orientation,
        typer.Option(help="header: RAS+ by the affine; axes: the axes are right, anterior and superior."),
    ] = "header",
    strip: Annotated[
        choices.SkullStripping,
        typer.Option(help="deepbet removes skull and scalp; none leaves them, and says where there are some."),
    ] = "deepbet",
    bias: Annotated[choices.BiasCorrection, typer.Option(help="n4 removes the bias field.")] = "n4",
    registration: Annotated[
        choices.Registration,
        typer.Option(help="affine brings brains to the MNI152 template; none takes them to be there."),
    ] = "affine",
    intensity: Annotated[
        choices.Intensity,
        typer.Option(
            help="minmax: 0 to 255 for each slice, as the public set; tissue: white matter at 217 in each volume; "
            "percentiles: 0.1 to 99.9 of each brain."
        ),
    ] = "minmax",
    plane: Annotated[str, typer.Option(help="axial, coronal or sagittal.")] = "axial",
    slices: Annotated[
        str,
        typer.Option(metavar="LOW:HIGH|N|all", help="Those of a slab in mm, the N of highest entropy, or all."),
    ] = "-12:34",
    spacing: Annotated[float, typer.Option(metavar="MM", help="Distance between slices.")] = 1.5,
    size: Annotated[int, typer.Option(help="Height and width of a slice in pixels.")] = 128,
    stretch: Annotated[
        bool, typer.Option("--stretch/--square-pixels", help="Fill the square, as the public set does.")
    ] = True,
    series: Series = None,
    label_column: LabelColumn = None,
    subject_column: SubjectColumn = None,
    subject_pattern: SubjectPattern = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Volumes at a time; each takes about 2 GB.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Prepare slices of T1 volumes.

    Each volume is turned to RAS+, stripped of its skull, freed of its bias field, registered to the MNI152 template
    and cut into slices like those of the public set. data/*.parquet, which every command takes as a source,
    prepare.html with a picture of each step, and prepare.json are written. Finished volumes are skipped, so that the
    same command resumes after a kill. Exit code 1: some volumes failed; each is listed with its reason.
    """
    from mriscope.data.read_options import with_options

    check_data(source)
    from mriscope.preparation.options import PrepareOptions

    steps = PrepareOptions(
        orientation=orientation,
        strip=strip,
        bias=bias,
        registration=registration,
        intensity=intensity,
        plane=plane,
        slices=slices,
        spacing=spacing,
        size=size,
        stretch=stretch,
    )
    from mriscope.reports.preparation import preparation_text
    from mriscope.workflows.prepare import prepare_source

    told = {"label_column": label_column, "subject_column": subject_column, "subject_pattern": subject_pattern}
    source = with_options(source, series=series, **told)
    result = prepare_source(source, out, options=steps, jobs=jobs)
    if as_json:
        print_json(result.to_json())
    else:
        print(preparation_text(result), f"written to {out}; look at {out / 'prepare.html'}", sep="\n")
        if len(result.failed) < len(result.volumes):
            print(f"next: mriscope data info {out}")
    if result.failed:
        raise typer.Exit(1)
