"""What predict prints."""

import math
from collections.abc import Iterator

from mriscope.reports.text import format_value, join_estimate, metric_title, table
from mriscope.results import Answer, PartsPredicted

NO_DIAGNOSIS = "A research tool, not a medical device: nothing here is a diagnosis."


def answer_text(answer: Answer) -> str:
    """Format a line for each slice, and under them what the model is and what its answers rest on."""
    names = list(answer.slices[0].probabilities)
    told = answer.subjects and any(not math.isnan(one.position) for one in answer.slices)
    rows = [
        [
            one.path,
            *([("" if math.isnan(one.position) else f"{one.position:g}")] if told else []),
            one.class_name,
            *(f"{one.probabilities[name]:.3f}" for name in names),
            "none" if one.prediction_set is None else ", ".join(one.prediction_set),
            {True: "yes", False: "no", None: "not known"}[one.out_of_distribution],
        ]
        for one in answer.slices
    ]
    columns = ["image", *(["position"] if told else []), "class", *names, "prediction set", "out of distribution"]
    return "\n".join([table(columns, rows), "", *_tell_subjects(answer), *_describe(answer)])


def _tell_subjects(answer: Answer) -> Iterator[str]:
    if not answer.subjects:
        return
    names = list(answer.slices[0].probabilities)
    rows = []
    for one in answer.subjects:
        share = one.share_out_of_distribution
        rows.append(
            [
                f"{one.unit} {one.name}",
                f"{one.n_slices:,}",
                one.class_name,
                *(f"{one.probabilities[name]:.3f}" for name in names),
                "none" if one.prediction_set is None else ", ".join(one.prediction_set),
                "not known" if math.isnan(share) else f"{100 * share:.0f} % of slices",
            ]
        )
    yield table(["together", "slices", "class", *names, "prediction set", "out of distribution"], rows)
    pooled, of_subjects = answer.inference.pooling.replace("_", " "), answer.inference.conformal_subjects
    promise = "there are no prediction sets of subjects, as the run has no validation subjects"
    if of_subjects is not None:
        promise = (
            f"their prediction sets should hold the true class of {100 * of_subjects.coverage:.0f} % of subjects "
            f"(calibrated on {of_subjects.n_units:,} validation subjects)"
        )
    yield f"Slices are pooled by the {pooled}; {promise}."
    for one in answer.subjects:
        if one.out_of_distribution:
            yield (
                f"warning: {one.unit} {one.name} is unlike the training data "
                f"({100 * one.share_out_of_distribution:.0f} % of its slices), so its answer means nothing; was it "
                "prepared as they were (skull, plane, spacing, choice of slices)?"
            )
    yield ""


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
        by_chance = (origin.by_chance or {}).get(name)
        told = "" if by_chance is None else f", by chance {format_value(name, by_chance)}"
        yield f"  {metric_title(name)}: {join_estimate(name, estimate)}{told}"
    if inference.conformal is not None:
        yield (
            f"Probabilities are calibrated (temperature {inference.temperature:.2f}); prediction sets should hold the "
            f"true class of {100 * inference.conformal.coverage:.0f} % of slices "
            f"(calibrated on {inference.conformal.n_units:,} validation {inference.conformal.unit}s)."
        )
    yield from (f"note: {note}" for note in inference.notes)
    yield NO_DIAGNOSIS
