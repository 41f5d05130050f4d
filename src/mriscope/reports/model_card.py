"""The model card of an export: what a stranger has to know of a model (Mitchell et al., 2019)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mriscope.errors import RunError
from mriscope.reports.answer import NO_DIAGNOSIS
from mriscope.reports.confounds import BASELINE_TITLES, confounding_rows, format_baseline
from mriscope.reports.text import join_estimate, metric_title
from mriscope.results import Metrics, ModelDescription

SECTIONS = ("Use", "Data", "Protocol", "Leakage", "Metrics", "Baselines", "Confounds", "Answers", "Limits", "Licence")
"""What every card holds."""
_NO_CONFOUNDS = (
    "Not measured: age, sex, scanner and the like may tell the classes, and a model may learn them in place of the "
    "disease. `mriscope evaluate RUN --covariates FILE --out DIR` measures it, and `mriscope export --evaluation DIR` "
    "puts it here."
)


@dataclass(frozen=True)
class CardFacts:
    """What a card holds beside the description and the metrics of a run.

    Attributes:
        data: what the model was trained on, in words, without folders.
        licence: of the weights, an identifier of a hub such as apache-2.0, or other.
        confounds: an evaluation of the run beside covariates; None where there is none.
        checked: how the export was compared with the run, in a sentence; None where nothing was computed anew.
    """

    data: str
    licence: str
    confounds: Metrics | None = None
    checked: str | None = None


def model_card(description: ModelDescription, metrics: Metrics | None, facts: CardFacts) -> str:
    """Write the card of a model from its typed results, as Markdown with a hub's head.

    Args:
        description: of the model.
        metrics: of its run; None where the weights were imported.
        facts: what else the card holds.

    Raises:
        RunError: a section would be empty.
    """
    origin, size, licence = description.origin, description.size, facts.licence
    text = {
        "Use": f"Input: axial brain-MRI slices, uint8 (N, {size}, {size}), 0 is background. Output: calibrated "
        f"probabilities of {', '.join(description.class_names)}. {NO_DIAGNOSIS}",
        "Data": facts.data,
        "Protocol": f"{origin.protocol}; model {origin.model}, trained by mriscope {origin.mriscope}"
        + (f" at commit {origin.commit}." if origin.commit else "."),
        "Leakage": origin.statement,
        "Metrics": "None: the weights were imported and never evaluated." if metrics is None else _tell(metrics),
        "Baselines": "None: the weights were imported." if metrics is None else _tell_baselines(metrics),
        "Confounds": _NO_CONFOUNDS if facts.confounds is None else _tell_confounds(facts.confounds),
        "Answers": "\n".join(_describe_answers(description, facts.checked)),
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


def _tell(metrics: Metrics) -> str:
    rows = [[metric_title(name), join_estimate(name, estimate)] for name, estimate in metrics.metrics.items()]
    return f"{_table(['metric', 'test part'], rows)}\n\n{_count(metrics)}"


def _tell_baselines(metrics: Metrics) -> str:
    if not metrics.baselines:
        return "Not kept: an earlier version made the run. Training it again with --fresh adds them."
    heads = ["baseline", "accuracy", "macro-F1", "AUROC", "the model's AUROC above it"]
    rows = [[BASELINE_TITLES.get(name, name), *format_baseline(one)] for name, one in metrics.baselines.items()]
    return f"On the slices of the metrics above.\n\n{_table(heads, rows)}"


def _tell_confounds(evaluated: Metrics) -> str:
    tables = [
        f"{one.contrast}, {one.n_positive:,} and {one.n_negative:,} {one.unit}s, {one.n_unknown:,} left out with a "
        f"covariate unknown:\n\n{_table(['beside covariates', 'AUROC', 'interval', ''], confounding_rows(one))}"
        for one in evaluated.confounding
    ]
    return "\n\n".join(
        [f"An evaluation of the {evaluated.part} part ({evaluated.protocol}). {_count(evaluated)}", *tables]
    )


def _count(metrics: Metrics) -> str:
    subjects = "unknown subjects" if metrics.n_subjects is None else f"{metrics.n_subjects:,} subjects"
    interval = f"{100 * metrics.interval.level:.0f} % intervals over {metrics.interval.unit}s"
    return f"{metrics.n_slices:,} slices of {subjects}, {interval}."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def _describe_answers(description: ModelDescription, checked: str | None) -> Iterator[str]:
    inference = description.inference
    if inference.conformal is not None:
        yield (
            f"* Temperature {inference.temperature:.3f}, prediction sets at {100 * inference.conformal.coverage:.0f} %,"
            f" from {inference.conformal.n_units:,} {inference.conformal.unit}s of the validation part."
        )
    if inference.distance is not None:
        distance = inference.distance
        yield (
            f"* Slices further from training than {distance.value:.3f} in the model's features are called out of "
            f"distribution; {100 * distance.level:.0f} % are nearer, by {distance.n_units:,} validation "
            f"{distance.unit}s."
        )
    if checked is not None:
        yield f"* {checked}"
    yield from (f"* {note}." for note in inference.notes)


def _list_limits(description: ModelDescription, metrics: Metrics | None) -> Iterator[str]:
    yield NO_DIAGNOSIS
    yield "Made for slices like those of its data; other scanners, planes and preparations were not evaluated."
    yield "A flag tells images unlike those of training, not wrong answers; a slice without one may be wrong."
    if description.origin.leaky is not False:
        yield description.origin.statement
    yield from filter(None, (metrics.interval.note, metrics.omitted) if metrics is not None else ())
