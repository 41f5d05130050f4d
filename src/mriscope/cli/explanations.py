"""Commands that explain a run: explain, explain-compare."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from mriscope.choices import Method
from mriscope.cli.console import print_json
from mriscope.cli.early import check_data, check_images, check_run
from mriscope.cli.options import AsJson, Device, Out, RunFolder

app = typer.Typer()


def complete_methods(incomplete: str) -> list[str]:
    """Complete the last of several names with commas between them."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in (*get_args(Method), "all") if name.startswith(last)]


Layer = Annotated[str | None, typer.Option(help="Dotted name; default: the last convolution.", show_default=False)]
Moved = Annotated[
    str | None, typer.Option("--data", metavar="SOURCE", help="Where the run's data is now, if it moved.")
]
Seed = Annotated[int, typer.Option(help="Of the sample of slices.")]


@app.command(epilog="Example: mriscope explain mriscope-demo/run --methods gradcam,layercam --n 12 --out explained")
def explain(
    run: RunFolder,
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help=f"With commas between, such as gradcam,layercam; or all. Known: {', '.join(get_args(Method))}.",
            autocompletion=complete_methods,
        ),
    ] = "gradcam",
    images: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="An image or a folder of them; may be repeated.")
    ] = None,
    layer: Layer = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="The class to explain; default: the predicted one.")
    ] = None,
    count: Annotated[
        int, typer.Option("--n", min=1, max=200, help="How many test slices, where no images are named.")
    ] = 8,
    seed: Seed = 0,
    exponents: Annotated[
        bool, typer.Option("--study-exponents", help="Raise maps to the reference study's power for each class.")
    ] = False,
    flip_smooth: Annotated[
        bool, typer.Option("--flip-smooth", help="Mean of the maps of each slice, its mirror image, and both dimmed.")
    ] = False,
    eigen_smooth: Annotated[
        bool, typer.Option("--eigen-smooth", help="First principal component of a map's channels, not their sum.")
    ] = False,
    colormap: Annotated[
        str, typer.Option(help="Of matplotlib; inferno, magma and viridis are perceptually uniform, jet is not.")
    ] = "inferno",
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the colours.")] = 0.5,
    by_strength: Annotated[
        bool,
        typer.Option("--alpha-by-strength", help="Multiply the opacity by the map: anatomy shows where it is weak."),
    ] = False,
    background: Annotated[
        bool, typer.Option("--colour-background", help="Colour the map outside the brain too.")
    ] = False,
    data: Moved = None,
    out: Out = None,
    device: Device = "auto",
) -> None:
    """Compute and draw a run's maps.

    Each method gives an overlay of each slice; a grid and a web page show them all, beside the plain slices.
    """
    check_run(run, class_name)
    check_data(data)
    check_images(images or [])
    from mriscope.workflows.explain import PAGE, ExplainOptions, explain_run, parse_methods

    names = parse_methods(methods)
    options = ExplainOptions(
        layer, class_name, exponents, colormap, alpha, by_strength, background, names, flip_smooth, eigen_smooth
    )
    folder = out or run / "explain"
    written = explain_run(run, folder, options, images=images, count=count, seed=seed, source=data, device=device)
    print(f"{len(written)} pictures in {folder}; begin with {folder / PAGE}")


@app.command(name="explain-compare", epilog="Example: mriscope explain-compare mriscope-demo/run --n 32 --out compared")
def explain_compare(
    run: RunFolder,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="As for explain. Default: those that cost few passes.",
            show_default=False,
            autocompletion=complete_methods,
        ),
    ] = None,
    count: Annotated[int, typer.Option("--n", min=2, max=2000, help="How many test slices.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sample of slices, random maps and resampling.")] = 0,
    layer: Layer = None,
    data: Moved = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare explanation methods.

    Methods are compared by faithfulness to the model, by how much their maps change when its weights become random, by
    localisation and by speed, beside random and centre maps. The predicted class is explained.
    """
    check_run(run)
    check_data(data)
    from mriscope.reports.explanation_comparison import comparison_text
    from mriscope.workflows.explain import parse_methods
    from mriscope.workflows.explain_compare import compare_methods

    names = None if methods is None else parse_methods(methods)
    folder = out or run / "explain_compare"
    result = compare_methods(run, folder, names, count=count, seed=seed, source=data, layer=layer, device=device)
    if as_json:
        print_json(result.to_json())
        return
    print(comparison_text(result))
    print(
        f"\nwritten: {folder}/explain_compare.html, .csv, .json, explain_compare_regions.csv"
        + (", and cohort.png" if result.cohort.file else "")
    )
