"""Compare the exported page in Chromium with torch on 256 slices of the run's test part, each dropped as a file.

    python benchmarks/page_agreement.py RUN

RUN is the directory of a network's run whose source can still be read; docs/serving.md has the figures. The slices are
JPEG files of quality 95, which Chromium and Pillow decode each by itself, and then PNG files.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page

import mriscope
from mriscope.run_directory import open_run
from mriscope.workflows._baselines import load_own
from mriscope.workflows.export import export_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browser import chromium, watched

COUNT = 256
ASK = """async (files) => {
  const all = [];
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const { answer, images } = await window.backend.predict(new File([bytes], name));
    all.push({ ...answer.slices[0], pixels: Array.from(images[0]) });
  }
  return all;
}"""


def main() -> None:
    run = open_run(sys.argv[1])
    slices, split = load_own(run)
    images = slices.images[split.test[np.linspace(0, len(split.test) - 1, COUNT).astype(int)]]
    model = mriscope.load_model(run.path, "cpu")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        export_run(run.path, folder, form="html")
        with watched(browser, (Path(folder) / "index.html").as_uri()) as shown:
            for kind, options in (("JPEG", {"quality": 95}), ("PNG", {})):
                print(compare(shown.page, model, [encoded(image, kind, **options) for image in images], kind))
            assert shown.problems == []


def encoded(image: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def compare(page: Page, model: mriscope.TrainedModel, files: list[bytes], kind: str) -> str:
    """Ask the page and torch about the same files."""
    found = page.evaluate(ASK, [[f"a.{kind.lower()}", base64.b64encode(one).decode()] for one in files])
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{row:03}.{kind.lower()}") for row in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        expected = model.predict(paths).slices
        pixels = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
    shares = np.array([list(one["probabilities"].values()) for one in found])
    apart = np.abs(shares - [list(one.probabilities.values()) for one in expected]).max()
    theirs = np.array([one["pixels"] for one in found], np.uint8).reshape(pixels.shape)
    told = sum(
        (one["class"], one["prediction_set"], one["out_of_distribution"])
        != (other.class_name, other.prediction_set, other.out_of_distribution)
        for one, other in zip(found, expected, strict=True)
    )
    grey = int(np.sum(theirs != pixels))
    return (
        f"{len(files)} {kind} files: probabilities differ by {apart:.2g} at most, and {grey} pixels; "
        f"{told} answers have another class, prediction set or flag"
    )


if __name__ == "__main__":
    main()
