"""Commands that use a trained model: predict, export, serve."""

from pathlib import Path
from typing import Annotated

import typer

from mriscope.cli.options import AsJson, Device

app = typer.Typer()

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG or PNG files, or folders of them.")]


@app.command(epilog="Example: mriscope predict mriscope-demo/run slice1.png slice2.jpg --json")
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that `mriscope train` wrote.")],
    images: Images,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Predict images with a run.

    Each gets calibrated probabilities, the set of classes that cannot be excluded, and whether it is out of
    distribution, beside what the model is and how it did on unseen subjects.
    """
    from mriscope.reports.answer import answer_text
    from mriscope.workflows.predict import predict_images

    answer = predict_images(run, images, device=device)
    print(answer.to_json() if as_json else answer_text(answer))
