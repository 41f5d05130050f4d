"""Evaluate predictions that another program wrote to a CSV file: slices beside subjects, baselines, leakage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mriscope.data.folds import fold_numbers
from mriscope.data.identifiers import identify
from mriscope.data.manifest import match_paths, plain_path, subjects_of
from mriscope.data.naming import part_of_folder
from mriscope.data.slices import UNKNOWN, SliceSet, number_subjects
from mriscope.data.subject_ids import alike_ids
from mriscope.errors import ArgumentError, DataError
from mriscope.evaluation.baselines import predict_baselines
from mriscope.evaluation.prediction_table import ColumnChoice, PredictionTable, PublishedPredictions
from mriscope.evaluation.predictions import Predictions, join, write_predictions
from mriscope.evaluation.scoring import EvaluationConfig, aggregate, evaluate
from mriscope.output_folder import OutputFolder
from mriscope.reports.figures import draw_evaluation
from mriscope.results import Estimate, Metrics, PublishedEvaluation, Scores
from mriscope.run_directory import FIGURES, PREDICTIONS
from mriscope.version import __version__
from mriscope.workflows._baselines import score_beside
from mriscope.workflows._leakage import EXIT_CODES
from mriscope.workflows._load import Loaded, check_bad_rows_place, load
from mriscope.workflows._published import Leakage, Published, find_leakage, name_conflict

EVALUATION = "evaluation.json"
FILES = (PREDICTIONS, f"{FIGURES}/confusion.png", EVALUATION)
CURVES = (f"{FIGURES}/roc.png", f"{FIGURES}/reliability.png")
FOLDS, LEAST_SUBJECTS = 5, 20
"""Of baselines that are fitted to rows that are evaluated; folds of fewer subjects differ too much in their classes."""
_NO_CURVES = "AUROC and calibration need probabilities, and the table holds predicted classes alone"


def evaluate_table(
    file: str | Path,
    *,
    columns: ColumnChoice | None = None,
    source: str | None = None,
    manifest: str | None = None,
    split: str | None = None,
    subject_pattern: str | None = None,
    part: str | None = None,
    level: str | None = None,
    task: str | None = None,
    pooling: str | None = None,
    out: str | Path | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> PublishedEvaluation:
    """Evaluate predictions of a CSV file, by slice and by subject, and say whether they are of unseen subjects.

    Args:
        file: a row for each slice: its true class, its predicted class or a probability for each class, and, where
            known, its path, its subject, and its part (train, validation, test).
        columns: what the names of the columns do not tell; None where they tell all.
        source: the slices that were predicted, as mriscope.read takes it; rows are found in it by path.
        manifest: a CSV file that gives slices their subjects, by path.
        split: which slices of the source trained the model: published, rest (all that the table lacks), or a file of
            `mriscope split`; None takes the rows of the table's part train.
        subject_pattern: finds the subject in the paths of the table, where no source is named.
        part: test or validation, where the table tells parts; None is test.
        level: "slice" or "subject" alone; None gives both, where subjects are known.
        task: as evaluate_run takes it.
        pooling: likewise; None is "chosen" where the table has a validation part, else "mean_probability", or
            "majority" of predicted classes.
        out: folder that gets evaluation.json, predictions.parquet and figures; None writes nothing.
        skip_bad: leave unusable rows of the source out.
        seed: of resamples and folds.

    Raises:
        DataError: a file cannot be read or does not fit, or subjects are unknown and asked for.
        ArgumentError: options that do not go together.
        WriteError: a file cannot be written, or one of its name is there that mriscope did not write.

    Example:
        >>> found = evaluate_table("predictions.csv", source="slices", split="rest")  # doctest: +SKIP
        >>> found.leaky, found.subjects.metrics["accuracy"].value  # doctest: +SKIP
    """
    if split is not None and source is None:
        raise ArgumentError("--split says which slices of a source trained the model; name that with --data")
    folder = None if out is None else OutputFolder(Path(out), "evaluate")
    if folder is not None:
        folder.check((*FILES, *CURVES))
    table = PredictionTable(file, columns or ColumnChoice())
    loaded = None
    if source is not None:
        if skip_bad:
            check_bad_rows_place("bad_rows.csv")
        loaded = load(source, manifest=manifest, skip_bad=skip_bad)
        loaded.report_bad_rows()
    published, read = _find_rows(table, loaded, manifest, subject_pattern)
    chosen = _choose_part(table, published, part)
    evaluated = published.predictions.select(chosen)
    leakage = find_leakage(published, chosen, split, seed)
    validation = published.predictions.select(published.predictions.parts == "validation")
    validation = validation if published.has_parts and part != "validation" else None
    levels = _levels(level, evaluated)
    if pooling is not None and "subject" not in levels:
        why = "--level slice pools none" if level == "slice" else "the subjects of some slices are unknown"
        raise ArgumentError(f"--pooling {pooling} says how a subject's slices are pooled, and {why}; leave it out")
    beside, baselines_from = _baselines(published, chosen, leakage, seed)
    scores: dict[str, Scores] = {}
    pooled_rows: dict[str, Predictions] = {}
    for one in levels:
        config = EvaluationConfig(one, task, _pooling(pooling, read, validation) if one == "subject" else None)
        aggregated = aggregate(config, evaluated, validation)
        found = evaluate(config, aggregated, seed=seed)
        baselines = score_beside(config, aggregated.rows, beside, seed)
        found = found.model_copy(update={"baselines": baselines})
        scores[one] = found if read.has_probabilities else _without_curves(found)
        pooled_rows[one] = aggregated.rows
    result = PublishedEvaluation(
        file=Path(file).name,
        mriscope=__version__,
        verdict=leakage.verdict,
        leaky=leakage.leaky,
        train_known_from=leakage.known_from,
        part=("validation" if part == "validation" else "test") if published.has_parts else "whole",
        subjects_from=published.known_from,
        n_slices=len(evaluated),
        n_unnamed=int((evaluated.subjects == UNKNOWN).sum()),
        slices=scores.get("slice"),
        subjects=scores.get("subject"),
        baselines_from=baselines_from,
        notes=[*read.notes, *published.notes, *leakage.notes],
    )
    if folder is not None:
        shown = list(scores)[-1]
        _write(folder, result, scores[shown], pooled_rows[shown])
    return result


def exit_code(found: PublishedEvaluation) -> int:
    """Return what the command answers a script with: 0 not leaky, 3 leaky, 4 cannot tell."""
    return EXIT_CODES[found.leaky]


def _find_rows(
    table: PredictionTable, loaded: Loaded | None, manifest: str | None, pattern: str | None
) -> tuple[Published, PublishedPredictions]:
    """Read the table, find its rows in the source, and find their subjects: the surest of what is known."""
    file, rows = table.table.path, None
    if (loaded or manifest or pattern) and table.paths is None:
        raise DataError(
            f"{file} has the columns {', '.join(table.table.columns)}, and none names the slice of a row; expected "
            "path, as the slices of a source, a manifest or a pattern are found by it"
        )
    if loaded is not None:
        slices = loaded.slices
        rows = match_paths(table.paths or (), slices.paths.tolist(), file)
        _check_folders(table.paths or (), loaded, rows, file)
        read = table.read([slices.class_names[label] for label in slices.labels[rows]], slices.class_names)
    else:
        read = table.read()
    predictions, known_from = read.predictions, None
    named = table.subjects() is not None and predictions.n_subjects > 0
    notes: tuple[str, ...] = ()
    if loaded is not None and rows is not None:
        predictions = replace(predictions, paths=loaded.slices.paths[rows])
        if manifest is not None or not named:
            predictions = _with_subjects(predictions, loaded.slices.subject_names[rows])
            known_from = loaded.subjects_from if predictions.subjects.max(initial=UNKNOWN) > UNKNOWN else None
        else:
            known_from = "column"
    elif manifest is not None:
        predictions = _with_subjects(predictions, subjects_of(predictions.paths.tolist(), (), manifest))
        known_from = "manifest"
    elif named and pattern is None:
        known_from = "column"
    elif table.paths is not None:
        classes = [predictions.class_names[label] for label in predictions.labels]
        found, notes = identify([plain_path(path) for path in table.paths], pattern, classes)
        if any(one.subject for one in found):
            predictions = _with_subjects(predictions, np.array([one.subject for one in found], str))
            known_from = "paths"
    if not predictions.n_subjects:
        known_from = None
    published = Published(predictions, rows, loaded, known_from, table.roles["part"] is not None, notes)
    if (conflict := name_conflict(published)) and loaded is not None and loaded.subjects_from == "pixels":
        notes = (*notes, f"{conflict}; subjects are counted as pixels tell")
        predictions = _with_subjects(predictions, loaded.slices.subject_names[rows])
        published = replace(published, predictions=predictions, known_from="pixels")
    elif conflict:
        notes = (*notes, f"{conflict}, so intervals over subjects are too narrow")
    if alike := alike_ids(predictions.subject_names.tolist()):
        one, other = alike[0]
        notes = (*notes, f"{one} and {other} are counted as two subjects; if they are one, write them alike")
    return replace(published, notes=notes), read


def _check_folders(paths: Sequence[str], loaded: Loaded, rows: np.ndarray, file: Path) -> None:
    """Refuse slices whose path names another part than they have in the source: files of two parts have one name."""
    own = part_of_folder(Path(loaded.source.partition("?")[0]).name)
    for path, row in zip(paths, rows.tolist(), strict=True):
        folders = plain_path(path).split("/")[:-1]
        named, part = {part_of_folder(folder) for folder in folders} - {""}, str(loaded.slices.parts[row]) or own
        if part and named and part not in named:
            raise DataError(
                f"{file} names {path!r}, of the part {named.pop()}, and the source has this name in its part "
                f"{part}, {str(loaded.slices.paths[row])!r}; name the source that was predicted with --data"
            )


def _with_subjects(predictions: Predictions, names: np.ndarray) -> Predictions:
    numbers, ids = number_subjects(names.tolist())
    return replace(predictions, subjects=numbers, subject_ids=ids)


def _choose_part(table: PredictionTable, published: Published, part: str | None) -> np.ndarray:
    """Return the rows of the table to evaluate, int64: those of a part where it tells parts, else all."""
    parts = published.predictions.parts
    if not published.has_parts:
        if part is not None:
            raise ArgumentError(f"{table.table.path} has no column part, so all of it is evaluated; leave --part out")
        return np.arange(len(parts))
    chosen = np.flatnonzero(parts == (part or "test"))
    if not len(chosen):
        raise DataError(
            f"{table.table.path} has no row of the part {part or 'test'}, only {', '.join(np.unique(parts).tolist())}; "
            "name another with --part"
        )
    return chosen


def _levels(level: str | None, evaluated: Predictions) -> tuple[str, ...]:
    if level is not None:
        return (level,)
    return ("slice", "subject") if evaluated.knows_subjects else ("slice",)


def _pooling(named: str | None, read: PublishedPredictions, validation: Predictions | None) -> str:
    """Return how slices are pooled: votes, where classes are all that is known."""
    if not read.has_probabilities:
        if named not in (None, "majority"):
            raise ArgumentError(f"--pooling {named} needs probabilities, and the table holds predicted classes alone")
        return "majority"
    chooses = validation is not None and len(validation) > 0 and validation.knows_subjects
    return named or ("chosen" if chooses else "mean_probability")


def _without_curves(scores: Scores) -> Scores:
    """Leave out what predicted classes alone do not tell."""
    none = Estimate(np.nan, np.nan, np.nan)
    omitted = "; ".join(filter(None, (scores.omitted, _NO_CURVES)))
    return scores.model_copy(
        update={
            "metrics": {name: one for name, one in scores.metrics.items() if name != "auroc"},
            "classes": {name: one.model_copy(update={"auroc": none}) for name, one in scores.classes.items()},
            "calibration": None,
            "omitted": omitted,
            "baselines": {name: one.model_copy(update={"auroc_over": None}) for name, one in scores.baselines.items()},
        }
    )


def _baselines(
    published: Published, chosen: np.ndarray, leakage: Leakage, seed: int
) -> tuple[Mapping[str, Predictions], str]:
    """Return the predictions of baselines for the rows that are evaluated, and what they were fitted to."""
    evaluated, loaded, rows = published.predictions.select(chosen), published.loaded, published.rows
    if loaded is not None and rows is not None:
        asked = loaded.slices[rows[chosen]].with_subjects(
            evaluated.subject_names, loaded.slices.positions[rows[chosen]]
        )
        if leakage.train is not None:
            return _as_rows(predict_baselines(loaded.slices[leakage.train], asked, "test"), evaluated), "training part"
        if asked.knows_subjects and asked.n_subjects >= LEAST_SUBJECTS:
            fitted = {
                **_as_rows(_over_folds(asked, seed), evaluated),
                "majority_class": _constant(evaluated, evaluated),
            }
            return fitted, f"other subjects that are evaluated, in {FOLDS} folds by subject"
    learned = published.predictions.select(published.predictions.parts == "train")
    if published.has_parts and len(learned):
        return {"majority_class": _constant(learned, evaluated)}, "training rows of the table"
    return {"majority_class": _constant(evaluated, evaluated)}, "rows that are evaluated themselves"


def _constant(known: Predictions, evaluated: Predictions) -> Predictions:
    """Return the shares of the classes of some rows as the probabilities of every row that is evaluated."""
    shares = np.bincount(known.labels, minlength=len(known.class_names)) / len(known)
    return replace(evaluated, probabilities=np.tile(shares.astype(np.float32), (len(evaluated), 1)))


def _over_folds(asked: SliceSet, seed: int) -> dict[str, Predictions]:
    """Predict every slice by baselines that were fitted to other subjects."""
    fold_of = fold_numbers(asked, "by_subject", folds=FOLDS, seed=seed)
    folds = [predict_baselines(asked[fold_of != fold], asked[fold_of == fold], "test") for fold in range(FOLDS)]
    return {name: join([one[name] for one in folds]) for name in folds[0]}


def _as_rows(beside: Mapping[str, Predictions], evaluated: Predictions) -> dict[str, Predictions]:
    """Return the probabilities of baselines in the order, subjects and labels of the rows that are evaluated."""
    found = {}
    for name, one in beside.items():
        place = {path: row for row, path in enumerate(one.paths.tolist())}
        found[name] = one.probabilities[[place[path] for path in evaluated.paths.tolist()]]
    return {name: replace(evaluated, probabilities=one) for name, one in found.items()}


def _write(folder: OutputFolder, result: PublishedEvaluation, scores: Scores, rows: Predictions) -> None:
    """Write the figures of the last level, subjects where they are known."""
    named = Metrics(**dict(scores), protocol="external", part=result.part, leaky=result.leaky, model=result.file)
    curves = CURVES if scores.calibration is not None else CURVES[:1] if "auroc" in scores.metrics else ()
    with folder.writing((*FILES, *curves)) as place:
        write_predictions(rows, place / PREDICTIONS)
        draw_evaluation(place / FIGURES, rows, named)
        result.write(place / EVALUATION)
