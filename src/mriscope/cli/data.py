"""Commands about data: whose slices a source holds, and what a split of them shares."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from mriscope.cli.console import print_json
from mriscope.cli.early import check_data
from mriscope.cli.options import (
    SOURCE,
    AsJson,
    Covariates,
    Manifest,
    Size,
    SkipBad,
)
from mriscope.cli.reading import AS_NAMED, Reading, takes_reading
from mriscope.data.reading_ahead import reading_ahead
from mriscope.imports import lasting_imports

_WANTED_LATER = (
    *("scipy.sparse.csgraph", "scipy.sparse.linalg", "scipy.spatial.distance", "scipy.linalg", "threadpoolctl"),
    *("pyarrow.compute", "rich.progress", "matplotlib.backends.backend_agg"),
)
"""What an audit imports in its midst, and better while its files are read."""

app = typer.Typer()
data_app = typer.Typer(help="Describe data, or download it.", rich_markup_mode=None)


@data_app.command("info", epilog="Example: mriscope data info phantom")
@takes_reading
def data_info(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    manifest: Manifest = None,
    covariates: Covariates = None,
    reading: Reading = AS_NAMED,
    size: Size = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Describe what a source holds.

    Slices, size, published parts, classes and subjects are counted. Subjects that the source does not name
    are recovered from pixels where those leave no doubt.
    """
    check_data(source, manifest)
    check_data(None, covariates)
    from mriscope.reports.text import slices_text
    from mriscope.workflows.data_info import describe_source

    summary = describe_source(
        reading.of(source), size=size, manifest=manifest, skip_bad=skip_bad, covariates=covariates
    )
    if as_json:
        print_json(summary.to_json())
        return
    print(slices_text(reading.of(source), summary))
    if summary.covariate_table is not None:
        from mriscope.reports.confounds import covariates_text

        print(covariates_text(summary.covariate_table))


@data_app.command("fetch", epilog="Example: mriscope data fetch hf:Falah/Alzheimer_MRI")
def data_fetch(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="hf:owner/name.")] = "hf:Falah/Alzheimer_MRI",
) -> None:
    """Download a data set.

    It comes from the Hugging Face hub; the folder that holds it is printed.
    """
    from mriscope.data.readers import fetch

    print(fetch(source))


@app.command(epilog="Example: mriscope audit hf:Falah/Alzheimer_MRI --out audit")
@takes_reading
def audit(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="published|PATH",
            help="The split to audit, or a run's split.json. Default: published, where the source publishes one.",
            show_default=False,
        ),
    ] = None,
    manifest: Manifest = None,
    covariates: Covariates = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what is written.")] = Path("audit"),
    repair: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a split without shared subjects (repaired.json) to this folder, and audit it there.",
            show_default=False,
        ),
    ] = None,
    reading: Reading = AS_NAMED,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Audit a source, and a split of it, for data leakage.

    Finds subjects in both train and test, exact, near and altered copies, conflicting labels, files that tell the
    class, and scores that need no training. audit.json, audit.html and slices.csv, which --manifest takes, are written.
    Exit code 3: a test slice is proven to be of a subject of the training part, or a copy (exact, all but equal, or
    altered); 4: for some test slice that cannot be told; 0: each is proven to be of another subject; 5: no split was
    audited.
    """
    check_data(source, manifest, None if split == "published" else split)
    check_data(None, covariates)
    named = reading.of(source)
    with reading_ahead(named), lasting_imports():
        from mriscope.reports.audit import audit_text, repair_text
        from mriscope.workflows.audit import audit_source, exit_code

        for name in _WANTED_LATER:
            import_module(name)
    found = audit_source(
        named, out, split=split, manifest=manifest, covariates=covariates, repair=repair, skip_bad=skip_bad
    )
    if as_json:
        print_json(found.to_json())
    else:
        print(audit_text(found), f"written to {out}; begin with {out / 'audit.html'}", sep="\n\n")
        if found.repaired is not None:
            print(repair_text(found.repaired))
    raise typer.Exit(exit_code(found))
