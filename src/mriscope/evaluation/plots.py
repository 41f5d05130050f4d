"""Draw every figure of a run, free of pyplot: no display, no global state.

Each function takes a `title`, such as `mriscope.evaluation.titles.headline` makes, and a `note` that is set small under
it. Figures are 8 inches wide with type that reads at 800 pixels, in colours that the colour-blind can tell apart (Okabe
and Ito, 2008).
"""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mriscope.data.slices import UNKNOWN, SliceSet
from mriscope.errors import check_type
from mriscope.evaluation.calibration import Reliability
from mriscope.evaluation.metrics import class_auroc, confusion_matrix, roc_curve
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.titles import UNRELIABLE, class_title, to_words
from mriscope.files import write_bytes
from mriscope.results import Estimate

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
LINES = ("-", "--", "-.", ":")

_DOTS_PER_INCH = 150
_QUIET = "0.35"
_LEGEND: dict[str, Any] = {"framealpha": 1, "edgecolor": "white"}  # hides the lines behind its text


def training_curves(
    history: Sequence[Mapping[str, Any]], best_epoch: int | None = None, *, title: str = "", note: str = ""
) -> Figure:
    """Draw loss and accuracy of the training and validation parts by epoch.

    Args:
        history: a row per epoch with the keys epoch, train_loss, train_accuracy, validation_loss, validation_accuracy
            and learning_rate; accuracies in [0, 1]. A value may be None or nan where there is none.
        best_epoch: the epoch whose weights were kept; marked.
        title: stands above the figure.
        note: stands small under it, after the learning rate.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    epochs = _column(history, "epoch")
    panels = (("loss", "Loss", 1), ("accuracy", "Accuracy (%)", 100))
    for axes, (name, label, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        for part, colour, line in (("train", COLOURS[0], "-"), ("validation", COLOURS[5], "--")):
            values = scale * _column(history, f"{part}_{name}")
            axes.plot(epochs, values, line, color=colour, label=to_words(part), marker="o", markersize=3)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=_QUIET, linestyle=":", label=f"Kept: epoch {best_epoch}")
        axes.set(xlabel="Epoch", ylabel=label, xlim=(epochs.min(initial=1) - 0.5, epochs.max(initial=1) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _style_axes(axes)
    figure.axes[0].legend(**_LEGEND)
    return _add_texts(figure, title, "; ".join(filter(None, [_learning_rate(history), note])))


def confusion(predictions: Predictions, *, title: str = "", note: str = "") -> Figure:
    """Draw the confusion matrix, least severe class first: counts, and each row's shares by number and shade."""
    order, names = _order_classes(predictions.class_names, predictions.severity_ranks)
    table = confusion_matrix(predictions)[np.ix_(order, order)]
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(8, 5.8), layout="constrained")
    axes = figure.subplots()
    shading = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), count in np.ndenumerate(table):
        share = f"{shares[row, column]:.1f} %" if table[row].any() else "–"
        colour = "white" if shares[row, column] > 55 else "black"
        axes.text(column, row, f"{count:,}\n{share}", ha="center", va="center", color=colour)
    rows = [f"{name}\n(n = {count:,})" for name, count in zip(names, table.sum(axis=1), strict=True)]
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(names) > 4 else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_yticks(range(len(names)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    figure.colorbar(shading, label="Share of the true class (%)", shrink=0.8).outline.set_visible(False)
    return _add_texts(figure, title, note)


def roc_curves(predictions: Predictions, *, title: str = "", note: str = "") -> Figure:
    """Draw the ROC curve of each class against the rest; a class without one is left out, and the note says so."""
    order, names = _order_classes(predictions.class_names, predictions.severity_ranks)
    areas = class_auroc(predictions)[order]
    figure = Figure(figsize=(8, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="0.7", linewidth=1, label="Chance: 0.500")
    for place, (row, name, area) in enumerate(zip(order, names, areas, strict=True)):
        if np.isnan(area):
            continue
        false, true = roc_curve(predictions, int(row))
        colour, line = COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]
        axes.plot(100 * false, 100 * true, line, color=colour, linewidth=2, label=f"{name}: {area:.3f}")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.set_xlabel("False positive rate (% of the slices of other classes)")
    axes.set_ylabel("True positive rate (% of the slices of the class)")
    _style_axes(axes)
    axes.legend(loc="lower right", title="AUROC, one class against the rest", **_LEGEND)
    left_out = [name for name, area in zip(names, areas, strict=True) if np.isnan(area)]
    missing = f"No curve for {', '.join(left_out)}: it needs slices of the class and of another." if left_out else ""
    return _add_texts(figure, title, " ".join(filter(None, [missing, note])))


def reliability(curves: Mapping[str, Reliability], *, title: str = "", note: str = "") -> Figure:
    """Draw accuracy against confidence: predictions over the diagonal are right more often than they claim.

    Args:
        curves: by what the legend calls them; each point has its interval, and its area grows with their count.
        title: stands above the figure.
        note: stands small under it.
    """
    figure = Figure(figsize=(8, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="0.7", linewidth=1, label="Confidence is what it says")
    for (name, curve), colour, line in zip(curves.items(), COLOURS, LINES, strict=False):
        confidence, accuracy = 100 * curve.confidence, 100 * curve.accuracy
        axes.plot(confidence, accuracy, line, color=colour, label=_escape_formulas(name))
        axes.vlines(confidence, 100 * curve.low, 100 * curve.high, color=colour, linewidth=1.2, alpha=0.6)
        axes.scatter(confidence, accuracy, 20 + 400 * curve.counts / curve.counts.sum(), color=colour, alpha=0.8)
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.set_xlabel("Confidence: probability of the predicted class (%)")
    axes.set_ylabel("Accuracy: predictions that are right (%)")
    _style_axes(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, fontsize=9, **_LEGEND)
    means = "A point grows with its predictions; its line is the 95 % interval, which a single subject does not have."
    return _add_texts(figure, title, " ".join(filter(None, [note and f"{note}.", means])))


def sample_slices(slices: SliceSet, n_per_class: int = 4, seed: int = 0, *, title: str = "", note: str = "") -> Figure:
    """Draw slices at random, a column per class, least severe first; the subject stands under each if known.

    Args:
        slices: to draw from.
        n_per_class: at most so many of each class.
        seed: of the draw.
        title: stands above the figure.
        note: stands small under it.
    """
    check_type("slices", slices, SliceSet, "what mriscope.read gives")
    order, names = _order_classes(slices.class_names, slices.severity)
    height, width = slices.images.shape[1:]
    row_height = 8 / len(names) * height / width + 0.15
    figure = Figure(figsize=(8, row_height * n_per_class + 0.3 * (1 + bool(title) + bool(note))), layout="constrained")
    grid = figure.subplots(n_per_class, len(names), squeeze=False)
    random = np.random.default_rng(seed)
    for column, label, name in zip(grid.T, order, names, strict=True):
        rows = random.permutation(np.flatnonzero(slices.labels == label))[:n_per_class]
        column[0].set_title(textwrap.fill(name, 20), fontsize=11)
        for axes in column:
            axes.set_axis_off()
            axes.set_box_aspect(height / width)
        if not len(rows):
            column[0].text(0.5, 0.5, "no slices", ha="center", va="center", color=_QUIET)
        for axes, row in zip(column, rows, strict=False):
            axes.imshow(slices.images[row], cmap="gray", vmin=0, vmax=255)
            _set_subject(axes, int(slices.subjects[row]))
    return _add_texts(figure, title, note)


def ranked(
    names: Sequence[str],
    estimates: Sequence[Estimate],
    reported: Sequence[float | None] | None = None,
    *,
    label: str = "Accuracy (%)",
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw a line for each name, the first on top: its value with its interval, and one reported elsewhere.

    An interval that is not reliable is not drawn.

    Args:
        names: what stands at the left.
        estimates: shares in [0, 1], shown in per cent.
        reported: shares that the reference study gives, or None; one far off the others is an arrow with its number.
        label: of the axis.
        title: stands above the figure.
        note: stands small under it.
    """
    figure = Figure(figsize=(8, 1.3 + 0.27 * len(names)), layout="constrained")
    axes = figure.subplots()
    values, low, high = (100 * np.array([getattr(one, name) for one in estimates]) for name in ("value", "low", "high"))
    left, right = _range(np.concatenate([values, low, high]))  # no narrower for intervals that are not drawn
    unsure = np.array([one.reliable is False for one in estimates], np.bool_)
    low, high = np.where(unsure, np.nan, low), np.where(unsure, np.nan, high)
    rows = np.arange(len(names))
    axes.hlines(rows, low, high, color=COLOURS[0], linewidth=2)
    axes.plot(values, rows, "o", color=COLOURS[0], label="Ours, with its interval")
    _mark_reported(axes, reported or (), left, right)
    for row, (value, least, most) in enumerate(zip(values, low, high, strict=True)):
        interval = f"{least:.1f} to {most:.1f}" if not np.isnan(least) else UNRELIABLE if unsure[row] else "no interval"
        text = f"{value:.1f} ({interval})"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set(xlim=(left, right), ylim=(len(names) - 0.4, -0.6), xlabel=label)
    axes.set_yticks(
        rows, [_escape_formulas(name if len(name) <= 48 else f"{name[:47]}…") for name in names], fontsize=9
    )
    axes.tick_params(axis="y", length=0)
    _style_axes(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, fontsize=9, **_LEGEND)
    return _add_texts(figure, title, note)


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as a PNG, 1,200 pixels wide; equal figures give equal bytes."""
    buffer = io.BytesIO()
    fast: dict[str, Any] = {"compress_level": 3}  # 2 % larger than level 6, in half the time
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None}, pil_kwargs=fast)
    return buffer.getvalue()


def similarity_histogram(
    same: np.ndarray, other: np.ndarray, threshold: float | None = None, *, title: str = "", note: str = ""
) -> Figure:
    """Draw how similar slices of one subject and slices of two are.

    Args:
        same: float (N,), correlation of each slice with the nearest of its own subject; nan where it has no other.
        other: float (M,), correlation with the nearest slice of another subject; nan where unknown.
        threshold: that tells the two apart; marked.
        title: stands above the figure.
        note: stands small under it.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([same, other])
    bins = np.linspace(np.nanmin(both), np.nanmax(both) + 1e-6, 81)
    for values, colour, label in ((other, COLOURS[1], "another subject"), (same, COLOURS[0], "the same subject")):
        axes.hist(values[~np.isnan(values)], bins.tolist(), color=colour, alpha=0.8, label=f"Nearest slice of {label}")
    if threshold is not None:
        axes.axvline(threshold, color=_QUIET, linestyle=":", label=f"Threshold {threshold:.3f}")
    axes.set(xlabel="Pixel correlation", ylabel="Slices")
    axes.legend(loc="upper left", **_LEGEND)
    _style_axes(axes)
    return _add_texts(figure, title, note)


def control_scores(
    rows: Sequence[tuple[str, float, float, float]], majority: float, *, title: str = "", note: str = ""
) -> Figure:
    """Draw accuracies of controls, each a row with its interval or range, against the share of the most common class.

    Args:
        rows: name, value, low and high of each, in [0, 1]; low and high may be nan.
        majority: in [0, 1]; marked.
        title: stands above the figure.
        note: stands small under it.
    """
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, value, low, high) in enumerate(rows):
        axes.plot([100 * low, 100 * high], [place, place], "-", color=COLOURS[0], linewidth=2.5)
        axes.plot(100 * value, place, "o", color=COLOURS[0], markersize=7)
        side, align = (-10, "right") if value > 0.85 else (10, "left")
        end = 100 * np.nanmin([low, value]) if value > 0.85 else 100 * np.nanmax([high, value])
        words: dict[str, Any] = {"xytext": (side, 0), "textcoords": "offset points", "ha": align, "va": "center"}
        axes.annotate(f"{100 * value:.1f} %", (float(end), place), fontsize=9, **words)
    axes.axvline(100 * majority, color=COLOURS[5], linestyle="--", label="Always the most common class")
    axes.set(xlabel="Accuracy (%)", xlim=(0, 102), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, **_LEGEND)
    _style_axes(axes)
    return _add_texts(figure, title, note)


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure as a PNG file, which appears whole or not at all.

    Raises:
        WriteError: the file cannot be written.
    """
    write_bytes(path, png_bytes(figure))


def _order_classes(class_names: Sequence[str], ranks: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    """Return the labels by rising severity (as they are where it is not known), and readable names in that order."""
    order = np.arange(len(class_names)) if ranks is None else np.argsort(ranks)
    return order, [_escape_formulas(class_title(class_names[int(row)])) for row in order]


def _column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [row.get(key) for row in history]
    return np.array([np.nan if value is None or value == "" else float(value) for value in values])


def _learning_rate(history: Sequence[Mapping[str, Any]]) -> str:
    rates = _column(history, "learning_rate")
    rates = rates[~np.isnan(rates)]
    if not len(rates):
        return ""
    if rates.min() == rates.max():
        return f"Learning rate {rates[0]:.3g} throughout"
    peak = f", at most {rates.max():.3g}" if rates.max() > max(rates[0], rates[-1]) else ""
    return f"Learning rate {rates[0]:.3g} at first, {rates[-1]:.3g} at last{peak}"


def _set_subject(axes: Axes, subject: int) -> None:
    if subject != UNKNOWN:
        axes.text(0.5, -0.02, f"subject {subject}", transform=axes.transAxes, ha="center", va="top", fontsize=8)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the limits of an axis of per cents, with room on both sides but little beyond 0 and 100."""
    least, most = np.nanmin(values), np.nanmax(values)
    room = max(0.15 * (most - least), 0.5)
    return max(float(least - room), -0.05 * room), min(float(most + room), 100 + 0.2 * room)


def _mark_reported(axes: Axes, reported: Sequence[float | None], left: float, right: float) -> None:
    """Mark each reported value with a diamond; beyond the limits, with an arrow at the edge and its digits."""
    look: dict[str, Any] = {"color": COLOURS[5], "markersize": 8, "markerfacecolor": "none", "markeredgewidth": 1.4}
    found = [(row, 100 * share) for row, share in enumerate(reported) if share is not None]
    edge = 0.02 * (right - left)
    if found:
        axes.plot([], [], "D", linestyle="", label="Reported by the study", **look)
    for row, value in found:
        place = min(max(value, left + edge), right - edge)
        if left <= value <= right:
            axes.plot(value, row, "D", **look)
            continue
        mark, side, align = ("<", 8, "left") if value < left else (">", -8, "right")
        axes.plot(place, row, mark, **look)
        words: dict[str, Any] = {"xytext": (side, 0), "textcoords": "offset points", "ha": align, "va": "center"}
        axes.annotate(f"{value:.1f}", (place, row), color=COLOURS[5], fontsize=8, **words)


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _add_texts(figure: Figure, title: str, note: str) -> Figure:
    """Add the title above and the note under the figure, both wrapped to its width."""
    if title:
        text = textwrap.fill(_escape_formulas(title), 84)
        figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if note:
        figure.supxlabel(textwrap.fill(_escape_formulas(note), 115), x=0.01, ha="left", fontsize=8.5, color=_QUIET)
    return figure


def _escape_formulas(text: str) -> str:
    """Return text in which matplotlib finds no formula."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)
