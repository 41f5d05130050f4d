"""What the commands print."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mriscope.data.slices import SliceSet

Facts = Mapping[str, Any]

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "auroc": "AUROC, one class against the rest",
    "quadratic_kappa": "quadratic-weighted kappa",
}

ORIGINS = {
    "pixels": " recovered from pixels",
    "pixels, partly": " recovered from pixels, other slices in doubt",
    "manifest": " named by the manifest",
    "source": " named by the source",
}
"""How subjects came to be known."""
CALIBRATION_TITLES = {
    "calibration_error": "expected calibration error",
    "calibration_error_by_mass": "the same, bins of equal mass",
    "brier_score": "Brier score",
    "log_loss": "log loss",
}


def describe_slices(slices: SliceSet) -> dict[str, Any]:
    """What a set holds, as plain values for JSON."""
    parts = [name for name in np.unique(slices.parts).tolist() if name]
    return {
        "n_slices": len(slices),
        "n_subjects": slices.n_subjects if slices.knows_subjects else None,
        "size": list(slices.images.shape[1:]),
        "parts": {part: int((slices.parts == part).sum()) for part in parts},
        "classes": {name: _class_facts(slices, row, parts) for row, name in enumerate(slices.class_names)},
        "fingerprint": slices.fingerprint,
    }


def slices_text(source: str, facts: Facts) -> str:
    """A table of the classes under a line of totals."""
    subjects = "subjects unknown" if facts["n_subjects"] is None else f"{facts['n_subjects']:,} subjects"
    subjects += ORIGINS.get(facts.get("subjects_from") or "", "")
    height, width = facts["size"]
    parts = list(facts["parts"])
    columns = ["class", "slices", *parts, *(["subjects"] if facts["n_subjects"] is not None else [])]
    rows = [[name, *(f"{one[column]:,}" for column in columns[1:])] for name, one in facts["classes"].items()]
    head = f"{source}: {facts['n_slices']:,} slices of {height}×{width}, {subjects}"
    return "\n".join([head, "", table(columns, rows), "", f"fingerprint {facts['fingerprint'][:16]}"])


def metrics_text(metrics: Facts) -> str:
    """Every headline figure with its interval, under the protocol it was measured by."""
    interval = metrics["interval"]
    rows = [[TITLES[name], *figures(one)] for name, one in metrics["metrics"].items()]
    for name, one in metrics["classes"].items():
        if one["n_slices"]:
            count = one["n_subjects"] if metrics.get("level") == "subject" else one["n_slices"]
            rows.append([f"recall {name}", *figures(one["recall"]), f"of {count:,}"])
    rows += [*_severity_rows(metrics), *_delong_rows(metrics), *_calibration_rows(metrics)]
    level = f"{100 * interval['level']:.0f} % interval"
    lines = [protocol_text(metrics), *_asked(metrics), "", table(["metric", "value", level, ""], rows)]
    return "\n".join([*lines, *(["", f"note: {interval['note']}"] if interval["note"] else [])])


def _asked(metrics: Facts) -> Iterator[str]:
    """What was judged, where it was not each slice in the run's own classes."""
    if metrics.get("task"):
        yield f"task {metrics['task']}: {', '.join(metrics['classes'])}"
    pooling = metrics.get("pooling")
    if pooling:
        chosen = "chosen on the validation part" if pooling["chosen"] else "as named"
        yield f"each subject is judged once, by the {pooling['how'].replace('_', ' ')} of its slices ({chosen})"
        if pooling["divided_subjects"]:
            yield f"{pooling['divided_subjects']:,} subjects have slices of several classes; that of most counts"


def _severity_rows(metrics: Facts) -> list[list[str]]:
    severity = metrics.get("severity")
    return [["mean error in steps of severity", *figures(severity["severity_error"])]] if severity else []


def _delong_rows(metrics: Facts) -> list[list[str]]:
    """DeLong's interval; of two classes either has the same."""
    found = [(name, one["auroc_delong"]) for name, one in metrics["classes"].items() if "auroc_delong" in one]
    if len(found) == 2:
        return [["AUROC", *figures(found[0][1]), "DeLong's interval"]]
    return [[f"AUROC {name}", *figures(one), "DeLong's interval"] for name, one in found]


def _calibration_rows(metrics: Facts) -> list[list[str]]:
    calibration = metrics.get("calibration")
    if not calibration:
        return []
    after = f"at temperature {calibration['temperature'] or 1:.2f}, fitted on validation"
    told = (
        {"before": "", "after": after} if calibration["after"] else {"before": "no validation part for a temperature"}
    )
    return [
        [title, *figures(calibration[when][name]), words]
        for when, words in told.items()
        for name, title in CALIBRATION_TITLES.items()
    ]


def protocol_text(metrics: Facts) -> str:
    """How the figures were come by, in one line."""
    subjects = "subjects unknown" if metrics["n_subjects"] is None else f"{metrics['n_subjects']:,} subjects"
    shared = metrics.get("shared_subjects")
    told = "test subjects" if shared is None else f"{shared:,} of {metrics['n_subjects']:,} test subjects"
    leaky = f", LEAKY: {told} also have slices in the training part" if metrics.get("leaky") else ""
    protocol = metrics["protocol"].replace("_", " ")
    return f"{protocol} split, {metrics['part']} part: {metrics['n_slices']:,} slices, {subjects}{leaky}"


def answers_text(answers: Sequence[Facts]) -> str:
    """A line for each image: its class and the probabilities."""
    names = list(answers[0]["probabilities"])
    rows = [[one["path"], one["class"], *(f"{one['probabilities'][name]:.3f}" for name in names)] for one in answers]
    return table(["image", "class", *names], rows)


def models_text(cards: Sequence[Facts]) -> str:
    """A line for each model."""
    rows = [[one["name"], f"{one['parameters']:,}", f"{one['macs'] / 1e6:,.1f} M", one["about"]] for one in cards]
    return table(["name", "parameters", "MACs", "about"], rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Texts in aligned columns; those of digits stand right."""
    filled = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *filled, strict=True)]
    right = [
        all(row[place][:1].isdigit() for row in filled if row[place]) and bool(filled) for place in range(len(columns))
    ]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in [list(columns), *filled]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _class_facts(slices: SliceSet, label: int, parts: Sequence[str]) -> dict[str, int]:
    mine = slices.labels == label
    by_part = {part: int((mine & (slices.parts == part)).sum()) for part in parts}
    subjects = slices.subjects[mine]
    return {"slices": int(mine.sum()), **by_part, "subjects": len(np.unique(subjects[subjects >= 0]))}


def figures(estimate: Facts) -> list[str]:
    """A value and its interval as two texts; either may not exist."""
    if estimate["value"] is None:
        return ["undefined", ""]
    bounded = estimate["low"] is not None
    return [f"{estimate['value']:.3f}", f"{estimate['low']:.3f} – {estimate['high']:.3f}" if bounded else "no interval"]
