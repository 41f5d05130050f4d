"""What predict prints."""

from collections.abc import Iterator

from mriscope.reports.text import join_estimate, metric_title, table
from mriscope.results import Answer, PartsPredicted

NO_DIAGNOSIS = "A research tool, not a medical device: nothing here is a diagnosis."


def answer_text(answer: Answer) -> str:
    """Format a line for each slice, and under them what the model is and what its answers rest on."""
    names = list(answer.slices[0].probabilities)
    rows = [
        [
            one.path,
            one.class_name,
            *(f"{one.probabilities[name]:.3f}" for name in names),
            "none" if one.prediction_set is None else ", ".join(one.prediction_set),
            {True: "yes", False: "no", None: "not known"}[one.out_of_distribution],
        ]
        for one in answer.slices
    ]
    columns = ["image", "class", *names, "prediction set", "out of distribution"]
    return "\n".join([table(columns, rows), "", *_describe(answer)])


def parts_text(done: PartsPredicted) -> str:
    """Format what came of a prediction in parts."""
    kept = f", {done.kept:,} of which were finished before" if done.kept else ""
    lines = [f"{done.slices:,} slices in {done.parts - len(done.failures):,} parts{kept}"]
    if done.unusable:
        lines.append(f"{done.unusable:,} hold no slice; the column problem says why")
    lines += [f"{name} failed: {problem}" for name, problem in done.failures.items()]
    return "\n".join([*lines, NO_DIAGNOSIS])


def _describe(answer: Answer) -> Iterator[str]:
    origin, inference = answer.origin, answer.inference
    yield f"run {origin.run}, model {origin.model}, {origin.protocol} split, mriscope {origin.mriscope}"
    yield origin.statement
    for name, estimate in (origin.unseen_subjects or {}).items():
        yield f"  {metric_title(name)}: {join_estimate(estimate)}"
    if inference.conformal is not None:
        yield (
            f"Probabilities are calibrated (temperature {inference.temperature:.2f}); prediction sets should hold the "
            f"true class of {inference.conformal.coverage:.0%} of slices "
            f"(calibrated on {inference.conformal.n_units:,} validation {inference.conformal.unit}s)."
        )
    yield from (f"note: {note}" for note in inference.notes)
    yield NO_DIAGNOSIS
