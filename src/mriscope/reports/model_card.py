"""The model card of an export: what a stranger has to know of a model (Mitchell et al., 2019)."""

from collections.abc import Iterator

from mriscope.errors import RunError
from mriscope.reports.answer import NO_DIAGNOSIS
from mriscope.reports.text import join_estimate, metric_title
from mriscope.results import Metrics, ModelDescription

SECTIONS = ("Use", "Data", "Protocol", "Leakage", "Metrics", "Answers", "Limits", "Licence")
"""What every card holds."""


def model_card(description: ModelDescription, metrics: Metrics | None, *, data: str, licence: str) -> str:
    """Write the card of a model from its typed results, as Markdown with a hub's head.

    Args:
        description: of the model.
        metrics: of its run; None where the weights were imported.
        data: what it was trained on, in words, without folders.
        licence: of the weights, an identifier of a hub such as apache-2.0, or other.

    Raises:
        RunError: a section would be empty.
    """
    origin, size = description.origin, description.size
    text = {
        "Use": f"Input: axial brain-MRI slices, uint8 (N, {size}, {size}), 0 is background. Output: calibrated "
        f"probabilities of {', '.join(description.class_names)}. {NO_DIAGNOSIS}",
        "Data": data,
        "Protocol": f"{origin.protocol}; model {origin.model}, trained by mriscope {origin.mriscope}"
        + (f" at commit {origin.commit}." if origin.commit else "."),
        "Leakage": origin.statement,
        "Metrics": "None: the weights were imported and never evaluated." if metrics is None else _table(metrics),
        "Answers": "\n".join(_describe_answers(description)),
        "Limits": "\n".join(f"* {limit}" for limit in _list_limits(description, metrics)),
        "Licence": f"Weights: {licence}. The terms of the training data apply beside it.",
    }
    check_sections(text)
    head = f"---\nlicense: {licence}\nlibrary_name: mriscope\ntags: [brain-mri, dementia, image-classification]\n---\n"
    body = "\n\n".join(f"## {name}\n\n{text[name]}" for name in SECTIONS)
    return f"{head}\n# {origin.run}\n\n{body}\n"


def check_sections(text: dict[str, str]) -> None:
    """Refuse a card that leaves a section out or empty.

    Raises:
        RunError: names the sections.
    """
    missing = [name for name in SECTIONS if not text.get(name, "").strip()]
    if missing:
        raise RunError(f"the model card has nothing to say of {', '.join(missing)}; give a card every section")


def baselines(metrics: Metrics) -> dict[str, float]:
    """Compute what always answering with the most common test class gives: accuracy and balanced accuracy."""
    counts = [one.n_slices for one in metrics.classes.values()]
    return {"accuracy": max(counts) / sum(counts), "balanced_accuracy": 1 / sum(count > 0 for count in counts)}


def _table(metrics: Metrics) -> str:
    always = baselines(metrics)
    rows = [
        f"| {metric_title(name)} | {join_estimate(estimate)} | {f'{always[name]:.3f}' if name in always else ''} |"
        for name, estimate in metrics.metrics.items()
    ]
    subjects = "unknown subjects" if metrics.n_subjects is None else f"{metrics.n_subjects:,} subjects"
    interval = f"{metrics.interval.level:.0%} intervals over {metrics.interval.unit}s"
    under = f"{metrics.n_slices:,} slices of {subjects}, {interval}."
    return "\n".join(["| metric | test part | always the most common class |", "|---|---|---|", *rows, "", under])


def _describe_answers(description: ModelDescription) -> Iterator[str]:
    inference = description.inference
    if inference.conformal is not None:
        yield (
            f"* Temperature {inference.temperature:.3f}, prediction sets at {inference.conformal.coverage:.0%}, from "
            f"{inference.conformal.n_units:,} {inference.conformal.unit}s of the validation part."
        )
    if inference.distance is not None:
        distance = inference.distance
        yield (
            f"* Slices further from training than {distance.value:.3f} in the model's features are called out of "
            f"distribution; {distance.level:.0%} are nearer, by {distance.n_units:,} validation {distance.unit}s."
        )
    yield from (f"* {note}." for note in inference.notes)


def _list_limits(description: ModelDescription, metrics: Metrics | None) -> Iterator[str]:
    yield NO_DIAGNOSIS
    yield "Made for slices like those of its data; other scanners, planes and preparations were not evaluated."
    yield "A flag tells images unlike those of training, not wrong answers; a slice without one may be wrong."
    if description.origin.leaky is not False:
        yield description.origin.statement
    yield from filter(None, (metrics.interval.note, metrics.omitted) if metrics is not None else ())
