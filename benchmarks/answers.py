"""What answers promise: slices out of distribution that are flagged, and how often prediction sets hold the true class.

    python3 run.py bench answers

Trains compact_cnn on the source that MRISCOPE_DATA names (runs/bench_answers; a finished run there is taken as it is,
and `python benchmarks/answers.py RUN` takes another). The images that are no axial, upright brain slices are 300 at
most; photographs come from scikit-learn and matplotlib, and from the folder that MRISCOPE_PHOTOGRAPHS names.
"""

import os
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression

import mriscope
from mriscope.data.anatomy import load_atlas
from mriscope.data.decoding import resize
from mriscope.data.slices import SliceSet
from mriscope.data.splits import by_subject
from mriscope.evaluation.calibration import fit_temperature, with_temperature
from mriscope.evaluation.conformal import fit_conformal, share_covered
from mriscope.evaluation.predictions import Predictions
from mriscope.recipe import read_recipe
from mriscope.run_directory import RunDirectory
from mriscope.workflows._load import load

DRAWS = 50
RECIPE = "compact_cnn"


def main() -> None:
    source = os.environ["MRISCOPE_DATA"]
    if len(sys.argv) > 1:
        run = RunDirectory(Path(sys.argv[1]))
    else:
        run = mriscope.train(read_recipe(RECIPE).model_copy(update={"data": source}), "runs/bench_answers")
    slices = load(source, recipe=run.recipe).slices
    print_flagged(run, slices)
    print_coverage(slices)


def print_flagged(run: RunDirectory, slices: SliceSet) -> None:
    """Print the share flagged of each kind of other images, and of the run's test slices."""
    model, size = mriscope.load_model(run.path), run.recipe.input.size
    row_of = {path: row for row, path in enumerate(slices.paths.tolist())}
    test = slices.images[[row_of[path] for path in run.parts().test]]
    groups = other_images(test, size)
    print(f"flagged as out of distribution, {run.recipe.model}, threshold {model.description.inference.distance}")
    flagged = {name: share_flagged(model, images) for name, images in {**groups, "test slices": test}.items()}
    for name, images in {**groups, "test slices": test}.items():
        print(f"  {name:28} {flagged[name]:6.1%} of {len(images)}")
    count = sum(map(len, groups.values()))
    share = sum(flagged[name] * len(one) for name, one in groups.items()) / count
    print(f"  all {count} other images         {share:6.1%}")


def share_flagged(model: mriscope.TrainedModel, images: np.ndarray) -> float:
    return float(np.mean([bool(one.out_of_distribution) for one in model.predict(images).slices]))


def other_images(test: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """300 images that are no axial, upright brain slices, uint8 (N, size, size) by kind."""
    stream = np.random.default_rng(0)
    brains = test[stream.permutation(len(test))[:110]]
    return {
        "photographs": _stack(_photographs(stream), size)[:80],
        "generated": _stack(_generated(stream), size),
        "noise": _stack(_noise(stream), size),
        "coronal and sagittal planes": _stack(_planes(load_atlas().tissue), size),
        "turned by 90 degrees": np.ascontiguousarray(np.rot90(brains[:30], 1, (1, 2))),
        "upside down": np.ascontiguousarray(brains[30:60, ::-1]),
        "inverted": 255 - brains[60:80],
        "two brains in one": np.concatenate([brains[80:95, :, ::2], brains[95:110, :, ::2]], axis=2),
    }


def _planes(atlas: np.ndarray) -> list[np.ndarray]:
    grey = np.clip(atlas * 255 / 1.1, 0, 255).astype(np.uint8)
    places = [(axis, int(share * grey.shape[axis])) for axis in (0, 1) for share in np.linspace(0.25, 0.75, 20)]
    return [_square(np.rot90(np.take(grey, at, axis))) for axis, at in places]


def _photographs(stream: np.random.Generator) -> list[np.ndarray]:
    """Random square crops of photographs, at least 64 pixels wide."""
    folders = [Path(str(files("sklearn.datasets").joinpath("images")))]
    folders.append(Path(str(files("matplotlib").joinpath("mpl-data", "sample_data"))))
    folders += [Path(os.environ["MRISCOPE_PHOTOGRAPHS"])] if "MRISCOPE_PHOTOGRAPHS" in os.environ else []
    named = sorted(path for one in folders for path in one.iterdir() if path.suffix in (".jpg", ".png"))
    crops = []
    for path in named * (80 // len(named) + 1):
        grey = np.asarray(Image.open(path).convert("L"))
        side = int(stream.integers(min(64, *grey.shape), min(grey.shape) + 1))
        top, left = (int(stream.integers(0, length - side + 1)) for length in grey.shape)
        crops.append(grey[top : top + side, left : left + side])
    return crops


def _generated(stream: np.random.Generator) -> list[np.ndarray]:
    """Ramps, boards, text and ellipses; the last are the nearest to a brain."""
    ramps = [np.rot90(np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1)), turn) for turn in range(4)]
    cells = [(n, np.indices((128 // n, 128 // n)).sum(axis=0) % 2 * 255) for n in (4, 16)]
    boards = [np.kron(board, np.ones((n, n))).astype(np.uint8) for n, board in cells]
    flat = [np.full((128, 128), grey, np.uint8) for grey in (0, 80, 255)]
    drawn = []
    for number in range(31):
        picture = Image.new("L", (128, 128))
        pen = ImageDraw.Draw(picture)
        if number % 2:
            pen.text((20, 50), f"slice {number}", fill=255)
        for _ in range(1 + number % 3):
            (x, y), (w, h) = stream.integers(10, 60, 2).tolist(), stream.integers(20, 60, 2).tolist()
            pen.ellipse((x, y, x + w, y + h), fill=int(stream.integers(60, 255)))
        drawn.append(np.asarray(picture))
    return [*ramps, *boards, *flat, *drawn]


def _noise(stream: np.random.Generator) -> list[np.ndarray]:
    white = [stream.integers(0, 256, (128, 128), np.uint8) for _ in range(10)]
    dark = [np.clip(stream.normal(0, 20, (128, 128)), 0, 255).astype(np.uint8) for _ in range(5)]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128))) + 1 / 128
    pink = []
    for _ in range(15):
        field = np.fft.ifft2(np.fft.fft2(stream.normal(size=(128, 128))) / frequency**1.5).real
        pink.append((255 * (field - field.min()) / np.ptp(field)).astype(np.uint8))
    return [*white, *dark, *pink]


def _square(image: np.ndarray) -> np.ndarray:
    side = max(image.shape)
    canvas = np.zeros((side, side), np.uint8)
    top, left = ((side - length) // 2 for length in image.shape)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _stack(images: list[np.ndarray], size: int) -> np.ndarray:
    return np.stack([resize(np.ascontiguousarray(one), size) for one in images])


def print_coverage(slices: SliceSet) -> None:
    """Print the coverage on test subjects over draws by subject, of logistic regressions on 8 by 8 grey values."""
    size = slices.images.shape[1]
    features = np.stack([resize(one, 8) for one in slices.images]).reshape(len(slices), -1) / 255
    shares = []
    for seed in range(DRAWS):
        split = by_subject(slices, test=0.25, validation=0.33, seed=seed)
        model = LogisticRegression(max_iter=300).fit(features[split.train], slices.labels[split.train])
        probabilities = np.zeros((len(slices), len(slices.class_names)))
        probabilities[:, model.classes_] = model.predict_proba(features)
        validation, test = (
            Predictions.of(
                slices.labels[rows], probabilities[rows], subjects=slices.subjects[rows], class_names=slices.class_names
            )
            for rows in (split.validation, split.test)
        )
        temperature = fit_temperature(validation)
        conformal = fit_conformal(with_temperature(validation, temperature), unseen=True)
        shares.append(share_covered(with_temperature(test, temperature), conformal))
    mean, error = np.mean(shares), np.std(shares, ddof=1) / np.sqrt(DRAWS)
    print(f"coverage at 90 %, logistic regression on 8×8 grey values of {size}×{size}, {DRAWS} draws by subject:")
    print(f"  mean {mean:.1%} (standard error {error:.1%}), from {min(shares):.1%} to {max(shares):.1%}")


if __name__ == "__main__":
    main()
