"""The part of docs/results.md that stands beside the published split: the same recipes cross-validated by subject."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mriscope.recipe import Recipe, read_recipe
from mriscope.results import CrossValidation
from mriscope.run_directory import RunDirectory
from mriscope.workflows.compare_crossval import compare_crossvals
from mriscope.workflows.crossval import crossvalidate

Record = Mapping[str, Any]

FOLDER = "crossval"
"""Below the run directories: one cross-validation per recipe, under the recipe's name."""
PUBLISHED = "published"
"""Below it too: runs on the published split of recipes that are not the study's."""
COVARIATES, OLD = "MRISCOPE_COVARIATES", "age >= 60"
"""Names a file with a column age, by path or subject, of the reader's own; and whom one more column is of."""
PRETRAINED, RANDOM = "efficientnet_lite0", "efficientnet_lite0_random"
"""Two recipes that differ in the weights from which training begins, and in nothing else."""
ADDED = """## What pretraining adds

`{pretrained}` starts from ImageNet's weights, `{random}` from random ones; all else is equal. On
the published split (LEAKY) the first reaches {published} % of the slices and the second
{published_random} %: after ten epochs from ImageNet it recognises the brains of the test part.
By subject their AUROC, Non vs demented, is {auroc} and {auroc_random},
a paired difference of {added} (DeLong p = {p:.2f}, one test declared): {verdict}

`mriscope compare-crossval runs/crossval/{pretrained} runs/crossval/{random} --test non_vs_demented/auroc`,
of runs by `python benchmarks/pretraining.py`; "How each was run" names the machine. Settings were never tuned, and the
folds are one draw.

"""
COLUMNS = (
    *("recipe", "published split, % of slices", "by subject, % of slices", "drop, points", "% of subjects"),
    *("macro-F1", "macro-F1, three classes", "macro-F1, Non vs demented", "AUROC, Non vs demented"),
    *("over the brain fraction (paired)", "AUROC of 60 and over", "note"),
)
TEXT = """## The same recipes, evaluated by subject

Here no brain is on both sides: each of {folds} folds holds out whole subjects, as recovered from the pixels
([how](subjects.md)), and the folds together evaluate all {slices:,} slices of {subjects} subjects. The drop is what the
published split owed to brains that the model had seen. From the fifth column on, a subject's slices are pooled into
one prediction, in the way that suits each fold's validation part best. Intervals are 95 % intervals over subjects,
widened to cover the expected performance ([how](method.md)) but where the note says otherwise. "Over the brain
fraction" is the AUROC less that of this one number, on the same subjects. "AUROC of 60 and over" is of the same models,
trained on subjects of every age, and evaluates those of 60 and over alone.
Cells are empty where a row was not run since these columns were added.
Half of the subjects are Non demented, so always saying so is right for 50 % of them.
Read `tissue_histograms` with its hindsight: it was chosen after some 350 variants had been looked at on these subjects.
`tissue_families` chooses within each training part. Over twenty fresh draws of the folds its AUROC, Non vs demented, is
0.818 (0.790 to 0.830 from draw to draw), where the brain fraction alone has 0.792; of the subjects of 60 and over it is
0.759 against 0.719 ([honest.md](honest.md)).

"""


def recipe_files(root: Path) -> dict[str, Path]:
    """Every recipe that the table may have, by name."""
    return {
        file.stem: file
        for kind in ("study", "honest")
        for file in sorted((root / "src/mriscope/recipes" / kind).glob("*.yaml"))
    }


def crossval_records(root: Path, folder: Path, before: Mapping[str, Record]) -> dict[str, dict[str, Any]]:
    """What is kept of each cross-validation: from its folder, or as it was kept before."""
    found = {name: place for name in recipe_files(root) if (place := folder / FOLDER / name / "summary.json").is_file()}
    records = {**before, **{name: _record(place, folder, before.get(name, {})) for name, place in found.items()}}
    if found.keys() >= {PRETRAINED, RANDOM}:
        pair = [found[name].parent for name in (PRETRAINED, RANDOM)]
        test = compare_crossvals(pair, ["non_vs_demented/auroc"]).tests[0]
        records[PRETRAINED]["over_random"] = {"difference": test.difference.to_json(), "p": test.p_delong}
    return records


def _record(summary: Path, folder: Path, before: Record) -> dict[str, Any]:
    found = CrossValidation.read(summary)
    assert found.subject is not None, f"{summary} is of no folds by subject"
    first = RunDirectory(next(iter(sorted(summary.parent.glob("repeat*-fold*")))))
    fraction = None if found.baselines is None else (found.baselines.subject or {})["non_vs_demented"]["brain_fraction"]
    run, published = first.environment, RunDirectory(folder / PUBLISHED / summary.parent.name)
    split = {"protocol", "folds", "fold", "repeat"}
    return {
        "recipe": first.recipe.model_dump(exclude={"data": True, "study": True, "split": split}, exclude_defaults=True),
        **{name: getattr(found, name) for name in ("folds", "repeats", "n_slices", "n_subjects", "training_seconds")},
        "slice": found.slice["four_classes"]["accuracy"].to_json(),
        "subject": {
            "accuracy": found.subject["four_classes"]["accuracy"].to_json(),
            **{task: one["macro_f1"].to_json() for task, one in found.subject.items()},
            "auroc": found.subject["non_vs_demented"]["auroc"].to_json(),
            "over_fraction": fraction and fraction.auroc_over and fraction.auroc_over.to_json(),
            "auroc_of_old": _auroc_of_old(summary.parent, first.recipe, found),
        },
        "published": published.metrics().metrics["accuracy"].to_json()
        if published.finished
        else before.get("published"),
        "run": run.model_dump(mode="json", include={"commit", "cores", "processor", "device", "started"}),
    }


def _auroc_of_old(place: Path, recipe: Recipe, found: CrossValidation) -> Record | None:
    """Summarize the folds of the old alone, then those of all again, as the folder was; None without covariates."""
    if (file := os.environ.get(COVARIATES)) is None:
        return None
    same = {"folds": found.folds, "repeats": found.repeats, "protocol": found.protocol}
    old = crossvalidate(recipe, place, covariates=file, where=OLD, **same)
    crossvalidate(recipe, place, **same)
    assert old.subject is not None
    return old.subject["non_vs_demented"]["auroc"].to_json()


def _narrow(subject: Record) -> list[str]:
    """Say where a row is of a version whose intervals were not widened; it had no method in them."""
    return [] if subject["auroc"].get("method") else ["intervals not widened"]


def honest_section(
    root: Path,
    records: Mapping[str, Record],
    published: Mapping[str, Record],
    *,
    changes: Callable[[Recipe, Record], Sequence[str]],
    share: Callable[[Record], str],
    figure: Callable[[Record], str],
) -> str:
    """The table and how each row was run; nothing where no recipe was cross-validated."""
    if not records:
        return ""
    files, first = recipe_files(root), next(iter(records.values()))
    names = sorted(records, key=lambda name: -records[name]["subject"]["auroc"]["value"])
    head = TEXT.format(folds=first["folds"], slices=first["n_slices"], subjects=first["n_subjects"])
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    origins = []
    for name in names:
        one, recipe = records[name], read_recipe(files[name])
        before = published[name]["metrics"]["accuracy"] if name in published else one["published"]
        changed = [change for change in changes(recipe, one) if not change.startswith("split.")]
        subject = one["subject"]
        tasks = ("four_classes", "three_classes", "non_vs_demented")
        drop = "" if before is None else f"{100 * (before['value'] - one['slice']['value']):.1f}"
        rows.append(
            [
                *(f"`{name}`", "" if before is None else share(before), share(one["slice"]), drop),
                *(share(subject["accuracy"]), *(figure(subject[task]) for task in tasks), figure(subject["auroc"])),
                *(
                    figure(subject[column]) if subject.get(column) else ""
                    for column in ("over_fraction", "auroc_of_old")
                ),
                "; ".join([*(change.removeprefix("training.precision=") for change in changed), *_narrow(subject)]),
            ]
        )
        origins.append(_origin(name, files[name].parent.name, one, changed))
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    added = _added(records, share=share, figure=figure)
    return f"{head}{table}\n### How each was run\n\n{''.join(origins)}{added}"


def _added(records: Mapping[str, Record], *, share: Callable[[Record], str], figure: Callable[[Record], str]) -> str:
    """Say what ImageNet's weights add; nothing where the two recipes were not run together."""
    one, other = records.get(PRETRAINED, {}), records.get(RANDOM, {})
    if not (one.get("over_random") and one.get("published") and other.get("published")):
        return ""
    difference = one["over_random"]["difference"]
    shown = difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)
    text = ADDED.format(
        pretrained=PRETRAINED,
        random=RANDOM,
        published=share(one["published"]),
        published_random=share(other["published"]),
        auroc=figure(one["subject"]["auroc"]),
        auroc_random=figure(other["subject"]["auroc"]),
        added=figure(difference),
        p=one["over_random"]["p"],
        verdict="more than chance explains." if shown else "these subjects do not show that it adds anything.",
    )
    return f"\n{text}".rstrip("\n") + "\n"


def _origin(name: str, kind: str, record: Record, changed: Sequence[str]) -> str:
    facts, sets = record["run"], "".join(f" --set {change}" for change in changed)
    folds = f"--folds {record['folds']} --repeats {record['repeats']}"
    return (
        f"* `mriscope crossval recipes/{kind}/{name}.yaml{sets} {folds} --data ../shared/data/alzheimer_mri`: "
        f"{record['training_seconds']:,.0f} s of training on "
        f"{facts['cores']} cores of {facts['processor']} ({facts['device']}), commit {facts['commit']}, "
        f"{facts['started'][:10]}.\n"
    )
