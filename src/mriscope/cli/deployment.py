"""Commands that use a trained model: predict, export, serve."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mriscope.choices import ExportFormat
from mriscope.cli.console import print_json
from mriscope.cli.early import check_images, check_run
from mriscope.cli.options import AsJson, Device, Executor, RunFolder, parse_bytes
from mriscope.errors import ArgumentError, need
from mriscope.imports import lasting_imports

app = typer.Typer()
VARIABLE = "MRISCOPE_TOKEN"

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="Images, volumes (NIfTI, DICOM, MATLAB), tables, folders of them or patterns. With --out images and "
        "parquet files, also at addresses as s3://bucket/set.",
    ),
]


@app.command(epilog="Example: mriscope predict mriscope-demo/run slice1.png slice2.jpg --json")
def predict(
    run: RunFolder,
    images: Images,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="RUN is the folder of an ONNX export; needs no torch."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write answers part by part to a folder, for any number of slices; the same command goes on.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    executor: Executor = "auto",
) -> None:
    """Predict images with a run.

    Each slice gets calibrated probabilities, the set of classes that cannot be excluded, and whether it is out of
    distribution, beside what the model is and how it did on unseen subjects. The slices of a volume, or of a
    subject whose name files tell, also get one answer together.
    """
    if not onnx:
        check_run(run)
    from mriscope.reports.answer import answer_text, parts_text

    if out is not None:
        if onnx or as_json:
            raise ArgumentError("--out writes parquet files with a run; leave --onnx and --json out")
        with lasting_imports():
            from mriscope.workflows.predict_parts import predict_parts

        done = predict_parts(run, images, out, device=device, executor=executor)
        print(parts_text(done), f"written to {out}", sep="\n")
        if done.failures:
            raise typer.Exit(1)
        return
    check_images(images)
    if onnx:
        from mriscope.workflows.predict_onnx import predict_onnx

        answer = predict_onnx(run, images)
    else:
        with lasting_imports():
            from mriscope.workflows.predict import predict_images

        answer = predict_images(run, images, device=device)
    print_json(answer.to_json()) if as_json else print(answer_text(answer))


@app.command(epilog="Example: mriscope export mriscope-demo/run --format onnx --out exported")
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the export.")],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="A graph that needs no torch, weights for a hub, a model for MLflow, or a page that needs no server.",
        ),
    ] = "onnx",
    licence: Annotated[str, typer.Option("--license", help="Of the weights, for the card.")] = "other",
    evaluation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of `mriscope evaluate --covariates FILE --out DIR`: what is left beside covariates, for the card.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Export a run's model for other programs.

    The graph is compared with torch on 256 slices of the run's test part before it is written. A description and a
    model card lie beside it.
    """
    check_run(run)
    from mriscope.workflows.export import export_run

    files = export_run(run, out, form=form, licence=licence, evaluation=evaluation)
    print("\n".join(map(str, files)))


@app.command(epilog="Example: mriscope serve mriscope-demo/run")
def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="Address to listen at; another than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Largest request, such as 500kB.")] = "8MiB",
    token: Annotated[
        str | None,
        typer.Option(
            envvar=VARIABLE,
            help="What callers have to send; by the variable no list of processes shows it.",
            show_default=False,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further name by which the server may be called.", show_default=False),
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve a run's model: a page to drop images on, and an API over HTTP. Needs the extra "serve".

    Uploads stay in memory and are never logged. (`mriscope ui` shows tracked runs; this asks the model of one.)
    """
    size = parse_bytes(max_upload)
    os.environ.pop(VARIABLE, None)  # the processes that parse volumes need not know it
    check_run(run)
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        need("serve", module)
    from mriscope.serving.server import serve_run

    serve_run(
        run,
        lambda address: print(f"{address} (Ctrl-C ends it)", flush=True),
        host=host,
        port=port,
        max_upload=size,
        token=token,
        allowed_hosts=allowed_host or (),
        device=device,
    )
