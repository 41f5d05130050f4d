import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from mriscope.data.slices import SliceSet
from mriscope.evaluation import plots, titles
from mriscope.evaluation.calibration import reliability_curve
from mriscope.evaluation.intervals import Estimate
from mriscope.evaluation.predictions import Predictions

READABLE = ["Non-demented", "Very mild", "Mild", "Moderate"]
LABELS, PREDICTED = [2, 2, 2, 2, 3, 3, 0, 1], [2, 2, 2, 3, 3, 0, 0, 1]
HISTORY = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "train_accuracy": 0.5 + epoch / 10,
        "validation_loss": 1.2 / epoch,
        "validation_accuracy": 0.4 + epoch / 10,
        "learning_rate": 1e-3 / epoch,
    }
    for epoch in (1, 2, 3)
]


@pytest.fixture
def predictions() -> Predictions:
    return Predictions.of(LABELS, np.eye(4)[PREDICTED])


@pytest.fixture
def slices() -> SliceSet:
    images = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((8, 6), np.uint8)
    return SliceSet.of(images, [0, 2, 3] * 4, subjects=range(100, 112))


def every_figure(predictions: Predictions, slices: SliceSet, **words: Any) -> list[Figure]:
    return [
        plots.training_curves(HISTORY, 2, **words),
        plots.confusion(predictions, **words),
        plots.roc_curves(predictions, **words),
        plots.reliability({"as it is": reliability_curve(predictions, resamples=5)}, **words),
        plots.sample_slices(slices, 2, **words),
    ]


def xs(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata(), float)


def ys(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), float)


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def test_curves_show_the_history() -> None:
    figure = plots.training_curves(HISTORY, best_epoch=2)
    loss, accuracy = figure.axes
    train, validation, best = loss.lines
    np.testing.assert_allclose(xs(train), [1, 2, 3])
    np.testing.assert_allclose(ys(train), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(ys(validation), [1.2, 0.6, 0.4])
    np.testing.assert_allclose(xs(best), 2)
    np.testing.assert_allclose(ys(accuracy.lines[1]), [50, 60, 70])
    assert (loss.get_xlabel(), loss.get_ylabel(), accuracy.get_ylabel()) == ("Epoch", "Loss", "Accuracy (%)")
    legend = loss.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Train", "Validation", "Kept: epoch 2"]
    assert "Learning rate 0.001 at first, 0.000333 at last" in words_of(figure)


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_curves_leave_out_what_is_missing(nothing: object) -> None:
    rows = [{**row, "validation_loss": nothing, "learning_rate": nothing} for row in HISTORY]
    figure = plots.training_curves(rows)
    assert np.isnan(ys(figure.axes[0].lines[1])).all()
    assert len(figure.axes[0].lines) == 2
    assert not [text for text in words_of(figure) if "Learning rate" in text]
    plots.png_bytes(figure)


def test_curves_of_one_epoch_and_of_csv_text_are_drawn() -> None:
    figure = plots.training_curves([{name: str(value) for name, value in HISTORY[0].items()}])
    plots.png_bytes(figure)
    low, high = figure.axes[0].get_xlim()
    assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]
    assert "Learning rate 0.001 throughout" in words_of(figure)
    plots.png_bytes(plots.training_curves([]))


def test_confusion_shows_counts_and_shares_by_severity(predictions: Predictions) -> None:
    axes = plots.confusion(predictions).axes[0]
    cells = np.array([text.get_text() for text in axes.texts]).reshape(4, 4)
    assert cells.tolist() == [
        ["3\n75.0 %", "1\n25.0 %", "0\n0.0 %", "0\n0.0 %"],
        ["0\n0.0 %", "1\n50.0 %", "1\n50.0 %", "0\n0.0 %"],
        ["0\n0.0 %", "0\n0.0 %", "1\n100.0 %", "0\n0.0 %"],
        ["0\n0.0 %", "0\n0.0 %", "0\n0.0 %", "1\n100.0 %"],
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == READABLE
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["Non-demented\n(n = 4)", "Very mild\n(n = 2)"]
    shading = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shading[0], [75, 25, 0, 0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")


def test_a_class_without_slices_has_no_share(predictions: Predictions) -> None:
    chosen = predictions.labels != 1
    axes = plots.confusion(Predictions.of(predictions.labels[chosen], predictions.probabilities[chosen])).axes[0]
    assert [text.get_text() for text in axes.texts][12:] == ["0\n–"] * 4


def test_roc_curves_are_those_of_each_class() -> None:
    scores = [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]]
    figure = plots.roc_curves(Predictions.of([0, 0, 1, 1], scores, class_names=("MCI", "AD")))
    axes = figure.axes[0]
    chance, first, _ = axes.lines
    assert chance.get_label() == "Chance: 0.500"
    assert first.get_label() == "MCI: 0.875"
    np.testing.assert_allclose(xs(first), [0, 0, 50, 100])
    np.testing.assert_allclose(ys(first), [0, 50, 100, 100])
    assert axes.get_xlabel() == "False positive rate (% of the slices of other classes)"


def test_a_class_without_a_curve_is_left_out_and_named(predictions: Predictions) -> None:
    chosen = predictions.labels != 1
    figure = plots.roc_curves(Predictions.of(predictions.labels[chosen], predictions.probabilities[chosen]), note="N.")
    assert [str(line.get_label()).split(":")[0] for line in figure.axes[0].lines] == ["Chance", *READABLE[:3]]
    assert "No curve for Moderate: it needs slices of the class and of another. N." in words_of(figure)


def test_samples_are_of_their_class_and_say_their_subject(slices: SliceSet) -> None:
    figure = plots.sample_slices(slices, n_per_class=3, seed=1)
    grid = np.array(figure.axes).reshape(3, 4)
    assert [axes.get_title() for axes in grid[0]] == READABLE
    for column, label in zip(grid.T, [2, 3, 0, 1], strict=True):
        for axes in column if label != 1 else []:
            row = int(np.asarray(axes.images[0].get_array())[0, 0])  # the pixels of slice number r are r
            assert slices.labels[row] == label
            assert axes.texts[0].get_text() == f"subject {100 + row}"
    assert [text.get_text() for text in grid[0, 3].texts] == ["no slices"]
    assert not grid[0, 3].images


def test_samples_are_drawn_by_seed_and_no_slice_twice(slices: SliceSet) -> None:
    def drawn(seed: int) -> list[int]:
        axes = plots.sample_slices(slices, 6, seed).axes
        return [int(np.asarray(one.images[0].get_array())[0, 0]) for one in axes if one.images]

    assert drawn(0) == drawn(0) != drawn(1)
    assert sorted(drawn(0)) == list(range(12))


def test_an_unknown_subject_is_not_shown() -> None:
    figure = plots.sample_slices(SliceSet.of(np.zeros((4, 8, 8), np.uint8), [0, 1, 2, 3]), 1)
    assert not [text for text in words_of(figure) if "subject" in text]


def test_each_figure_carries_its_title_and_note(predictions: Predictions, slices: SliceSet) -> None:
    for figure in every_figure(predictions, slices, title="One $x$ and $y$", note="LEAKY: by slice"):
        assert figure.get_suptitle() == r"One \$x\$ and \$y\$"  # a dollar sign begins no formula
        assert "LEAKY: by slice" in figure.get_supxlabel()
        assert plots.png_bytes(figure).startswith(b"\x89PNG\r\n\x1a\n")


def _out_of_view(figure: Figure) -> set[Text]:
    """Labels of ticks beyond the limits of their axis, or of axes switched off, which are never drawn."""
    return {
        label
        for axes in figure.axes
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        if not axes.axison or not min(limits) <= place <= max(limits)
    }


def _overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share ground once the figure is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    hidden = _out_of_view(figure)
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]
    boxes = [(text, text.get_window_extent(canvas.get_renderer()).padded(-1)) for text in texts if text not in hidden]
    return [
        (one.get_text(), other.get_text())
        for place, (one, box) in enumerate(boxes)
        for other, next_box in boxes[place + 1 :]
        if box.overlaps(next_box)
    ]


def test_no_text_overlaps_another(predictions: Predictions, slices: SliceSet) -> None:
    long = "baseline_cnn: " + titles.headline("accuracy", Estimate(0.9, 0.85, 0.95), "by_subject") + " and more words"
    for figure in every_figure(predictions, slices, title=long, note="A note that says what is to be minded. " * 5):
        assert _overlaps(figure) == []
    many = Predictions.of([0, 1], np.eye(6)[[0, 1]], class_names=["no tumor at all", "glioma", "b", "c", "d", "MCI"])
    assert _overlaps(plots.confusion(many)) == []


def test_a_headline_has_its_interval_and_protocol() -> None:
    share, area, unbounded = Estimate(0.9, 0.85, 0.951), Estimate(0.9, 0.8, 0.95), Estimate(-0.1, np.nan, np.nan)
    for found, expected in (
        (("accuracy", share, "by_subject"), "Accuracy 90.0 % (95 % interval 85.0 to 95.1), split by subject"),
        (("macro_f1", share, "published"), "Macro-F1 90.0 % (95 % interval 85.0 to 95.1), published split"),
        (("auroc", area, "by_slice"), "AUROC 0.900 (95 % interval 0.800 to 0.950), split by slice"),
        (("quadratic_kappa", unbounded, "by_slice"), "Quadratic kappa -0.100 (no interval), split by slice"),
        (("auroc", Estimate(np.nan, np.nan, np.nan), "by_slice"), "AUROC undefined, split by slice"),
    ):
        assert titles.headline(*found) == expected


def test_a_title_says_that_a_split_is_leaky_or_that_nobody_knows() -> None:
    share = Estimate(0.9, 0.85, 0.951)
    begin = "Accuracy 90.0 % (95 % interval 85.0 to 95.1)"
    for leaky, end in ((True, ", LEAKY: train and test share subjects"), (None, ", subjects unknown"), (False, "")):
        assert titles.headline("accuracy", share, "published", leaky=leaky) == f"{begin}, published split{end}"
        assert titles.split_title("by_slice", leaky) == f"split by slice{end}"


def test_class_names_become_readable() -> None:
    names = ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented", "MCI_late")
    assert [titles.class_title(name) for name in names] == [*READABLE, "MCI late"]


def test_colours_stay_apart_for_the_colour_blind() -> None:
    assert len({to_hex(colour) for colour in plots.COLOURS}) == len(plots.COLOURS)
    red_blind = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])  # Machado 2009
    seen = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in plots.COLOURS[:4]]) @ red_blind.T
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1e3 * np.eye(4)
    assert apart.min() > 40


def test_a_saved_figure_is_a_whole_png(predictions: Predictions, tmp_path: Path) -> None:
    plots.save(plots.confusion(predictions), tmp_path / "c.png")
    content = (tmp_path / "c.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20], "big") == 1200  # width in pixels
    assert content == plots.png_bytes(plots.confusion(predictions))
    assert [file.name for file in tmp_path.iterdir()] == ["c.png"]


def test_nothing_leaks_into_pyplot() -> None:
    code = (
        "import sys, numpy as np\n"
        "from mriscope.evaluation import plots\n"
        "from mriscope.evaluation.predictions import Predictions\n"
        "plots.png_bytes(plots.confusion(Predictions.of([0, 1], np.eye(4)[[0, 1]])))\n"
        "print({'matplotlib.pyplot', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_reliability_curve_shows_its_points_intervals_and_counts() -> None:
    p = Predictions.of([0] * 3 + [1], [[0.95, 0.05]] * 2 + [[0.75, 0.25]] * 2, class_names=("a", "b"))
    curve = reliability_curve(p, resamples=50)
    axes = plots.reliability({"cost $5": curve, "other": curve}).axes[0]
    diagonal, line, _ = axes.lines
    np.testing.assert_allclose(ys(diagonal), xs(diagonal))
    np.testing.assert_allclose(xs(line), [75, 95], rtol=1e-6)
    assert ys(line).tolist() == [50, 100]
    intervals, points = axes.collections[:2]
    assert isinstance(intervals, LineCollection)
    assert isinstance(points, PathCollection)
    assert np.array(intervals.get_segments())[0, :, 1].tolist() == [0, 100]
    assert points.get_sizes().tolist() == [220, 220]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Confidence is what it says", r"cost \$5", "other"]
