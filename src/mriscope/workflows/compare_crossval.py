"""Compare cross-validations on the same subjects, with paired tests of a declared family."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mriscope.errors import RunError
from mriscope.evaluation.crossval_tests import Declared, compare_folds
from mriscope.evaluation.crossvalidation import Fold
from mriscope.results import CrossvalComparison, CrossValidation
from mriscope.run_directory import RunDirectory
from mriscope.workflows.split import fold_name

LOG = logging.getLogger("mriscope")

COMPARISON, SUMMARY = "comparison.json", "summary.json"


def compare_crossvals(
    folders: Sequence[str | Path],
    tests: Sequence[str],
    *,
    level: str = "subject",
    out: str | Path | None = None,
) -> CrossvalComparison:
    """Compare each cross-validation with the first, in every declared metric, corrected for all that was declared.

    Args:
        folders: of finished cross-validations, two at least.
        tests: the family, each TASK/METRIC, such as non_vs_demented/auroc.
        level: "subject" or "slice".
        out: folder that gets comparison.json; None writes nothing.

    Raises:
        UnknownNameError: there is no such task or metric.
        RunError: a folder holds no finished cross-validation, lacks a task or level, or is named twice.
        DataError: they are not of the same slices, subjects and classes.
    """
    names = [str(folder) for folder in folders]
    if len(names) < 2 or len(set(names)) < len(names):
        raise RunError(f"{', '.join(names) or 'nothing'} is named; name two cross-validations or more, each once")
    declared = list(dict.fromkeys(Declared.parse(text) for text in tests))
    if not declared:
        raise RunError("no test is declared; declare one at least, such as --test non_vs_demented/auroc")
    folds = {name: _read_folds(Path(name), declared, level) for name in names}
    comparison = compare_folds(folds, declared, level)
    if out is not None:
        comparison.write(Path(out) / COMPARISON)
    return comparison


def _read_folds(folder: Path, declared: Sequence[Declared], level: str) -> list[Fold]:
    """Read all folds of a cross-validation, which has to have what is compared."""
    summary = CrossValidation.read(folder / SUMMARY)
    if summary.where is not None:
        LOG.warning(
            "%s was evaluated where %s; the tests are of all its subjects, so their values differ from its summary",
            folder,
            summary.where,
        )
    known = summary.slice if level == "slice" else summary.subject
    if known is None:
        raise RunError(f"{folder} was split by slice, so its subjects are not evaluated; compare with --level slice")
    for one in declared:
        if one.task not in known:
            raise RunError(f"{folder} has the tasks {', '.join(known)}, and not {one.task}; declare one of these")
    runs = [
        (repeat, fold, RunDirectory(folder / fold_name(repeat, fold)))
        for repeat in range(summary.repeats)
        for fold in range(summary.folds)
    ]
    return [Fold(repeat, fold, str(one.path), one.metrics(), one.predictions()) for repeat, fold, one in runs]
