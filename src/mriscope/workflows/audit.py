"""Audit a source and a split of it, and write what was found."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mriscope.audit.controls import Neighbours, find_neighbours
from mriscope.audit.copies import undo
from mriscope.audit.leakage import AuditedSplit, audit_slices, nearest_by_subject, search_of, worst_pairs
from mriscope.audit.repair import repair_split, uneven
from mriscope.audit.shortcuts import fact_text, find_shortcuts, find_source_shortcuts, pixel_facts
from mriscope.audit.subjects import RecoveredSubjects
from mriscope.audit.verdict import CopySearch, choose_queries, search_copies, with_copies
from mriscope.data.manifest import names_subjects
from mriscope.data.readers import read_silently
from mriscope.data.rows import Reading
from mriscope.data.slices import SIZE, UNKNOWN, SliceSet
from mriscope.data.split_files import read_split_file, split_file
from mriscope.errors import ArgumentError, DataError, RunError, check_type
from mriscope.evaluation.plots import control_scores, png_bytes, similarity_histogram
from mriscope.files import write_text
from mriscope.progress import saying
from mriscope.recipe import read_recipe
from mriscope.reports.audit import CONTROLS, Strip, audit_page, copy_strip, pair_strip, slices_csv, verdict_text
from mriscope.reports.page import Picture, label_source
from mriscope.run_directory import RECIPE
from mriscope.training.devices import pick_device
from mriscope.version import __version__
from mriscope.workflows._load import Loaded, load
from mriscope.workflows._subjects import PARTLY, origin_of_subjects, recovered

PUBLISHED = "published"
EXIT_CODES = {True: 3, False: 0, None: 4}
"""Of the command, by whether the split is leaky."""
NOTHING_AUDITED = 5
REPAIRED = "repaired.json"
PAIRS = 12


def audit_source(
    source: str | SliceSet,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    manifest: str | None = None,
    repair: str | Path | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Audit a source, or slices, and a split of them; write audit.json, slices.csv and audit.html.

    Args:
        source: as mriscope.read takes it; or slices, whose files are then not looked at.
        out: folder for the three files; None writes none.
        split: published, or a file of `mriscope split` or of a run (split.json); None: published where the source
            publishes one, else the data alone is audited.
        manifest: a CSV file that gives slices their subjects.
        repair: folder for a split that shares no subject, and an audit of it; None writes none.
        skip_bad: leave unusable rows out and list them in bad_rows.csv.
        seed: of the controls and of the repaired split.

    Returns:
        what audit.json holds: the verdict, and the fields of a LeakageReport.

    Raises:
        DataError: the source or manifest cannot be read, or there is no such split, or it was made for other data, or
            too few subjects are sure for a repaired one.
        WriteError: a file cannot be written.
        ArgumentTypeError: source is neither a text nor slices.

    Example:
        >>> import mriscope
        >>> slices = mriscope.read("phantom:subjects=8,slices=4")
        >>> found = mriscope.audit(slices)
        >>> found["split"] is None, found["subjects"]["known_from"]
        (True, 'source')
    """
    check_type("source", source, (str, SliceSet), "a source such as phantom, or slices that mriscope.read gave")
    given, source = (source, "slices") if isinstance(source, SliceSet) else (None, source)
    if given is not None and (manifest or repair):
        raise ArgumentError("manifest and repair read a source again, and slices have none; name the source instead")
    if given is None:
        loaded = _load(source, skip_bad, manifest)
        loaded.report_bad_rows()
    else:
        loaded = Loaded(source, given, Reading(given), origin_of_subjects(given, given, None))
    reading, slices, known_from = loaded.reading, loaded.slices, loaded.subjects_from
    parts = _split_of(slices, source, split)
    device = str(pick_device("auto"))
    found = recovered(reading.slices)
    named = manifest if manifest is not None and names_subjects(manifest) else None
    if known_from in (None, PARTLY) and named is None:
        found = _with_own_copies(slices, found, device)
        slices = slices.with_subjects(found.subjects, found.positions) if found.known.any() else slices
        known_from = origin_of_subjects(reading.slices, slices, named)
    neighbours = find_neighbours(slices.images, device=device)
    search = None
    if parts is not None:
        with saying("looking for altered copies of test slices") as progress:
            search = search_of(slices, found, parts, device=device, progress=progress)
    report = audit_slices(slices, neighbours, found, known_from=known_from, split=parts, search=search, seed=seed)
    groups = np.where(slices.subjects == UNKNOWN, -1, slices.subjects)
    if given is None:
        shortcuts = find_source_shortcuts(source, slices, groups, seed=seed)
    else:
        facts_of_pixels = pixel_facts(slices.images)
        shortcuts = find_shortcuts(facts_of_pixels, slices.labels, groups, slices.class_names, seed=seed)
    facts = {"source": source, "mriscope": __version__, "seed": seed, **_plain(asdict(report))}
    if shortcuts is not None:
        told = [fact_text(one) for one in shortcuts.facts if one.flagged]
        facts["shortcuts"] = {**_plain(asdict(shortcuts)), "told": told}
    facts = {"verdict": verdict_text(facts), **facts}
    if out is not None:
        _write(Path(out), facts, slices, neighbours, parts, search)
    if repair is not None:
        facts["repaired"] = _repair(source, Path(repair), slices, parts, manifest, skip_bad, seed)
    return facts


def _load(source: str, skip_bad: bool, manifest: str | None) -> Loaded:
    """Load a source at its own size, or where sizes are mixed at the usual one: size may be what tells the classes."""
    try:
        return load(source, manifest=manifest, skip_bad=skip_bad)
    except DataError as error:
        try:
            return load(source, size=SIZE, manifest=manifest, skip_bad=skip_bad)
        except DataError:
            raise error from None


def _with_own_copies(slices: SliceSet, found: RecoveredSubjects, device: str) -> RecoveredSubjects:
    """Put altered copies that link to no slice with the brain of their origin."""
    sizes = np.bincount(found.groups)[found.groups]
    lonely, linked = np.flatnonzero(sizes == 1), np.flatnonzero(sizes > 1)
    queries = choose_queries(found.groups, lonely)
    if not len(queries) or not len(linked):
        return found
    with saying("looking for the brains of altered copies") as progress:
        return with_copies(found, search_copies(slices.images, queries, linked, device=device, progress=progress))


def _repair(
    source: str,
    folder: Path,
    slices: SliceSet,
    parts: AuditedSplit | None,
    manifest: str | None,
    skip_bad: bool,
    seed: int,
) -> dict[str, Any]:
    """Write a split that shares no subject and audit it; what it is and what its audit says."""
    repaired = repair_split(slices, parts, seed=seed)
    file = folder / REPAIRED
    split_file(slices, repaired, seed).write(file)
    again = audit_source(source, folder, split=str(file), manifest=manifest, skip_bad=skip_bad, seed=seed)
    kept = sum(len(rows) for rows in (repaired.train, repaired.validation, repaired.test))
    return {
        "file": str(file),
        "left_out": len(slices) - kept,
        "uneven": uneven(slices, repaired),
        "leaky": again["leaky"],
        "verdict": again["verdict"],
    }


def exit_code(facts: Mapping[str, Any]) -> int:
    """Return what the command answers a script with: 0 not leaky, 3 leaky, 4 cannot tell, 5 no split was audited."""
    return NOTHING_AUDITED if facts["split"] is None else EXIT_CODES[facts["leaky"]]


def _split_of(slices: SliceSet, source: str, split: str | None) -> AuditedSplit | None:
    train, validation, test = (np.flatnonzero(slices.parts == part) for part in ("train", "validation", "test"))
    if not len(test):  # of two parts the second is what a model is judged on, whatever it is called
        validation, test = test, validation
    if split in (None, PUBLISHED):
        if len(train) and len(test):
            return AuditedSplit(PUBLISHED, train, validation, test)
        if split is None:
            return None
        raise DataError(f"{source} publishes no train and test part; name a split file, or leave --split out")
    path = Path(split)
    if not path.is_file():
        raise DataError(f"there is no split {split}; name {PUBLISHED}, or a file of `mriscope split` or of a run")
    found = read_split_file(path, _as_split(slices, source, path))
    return AuditedSplit(found.protocol, found.train, found.validation, found.test)


def _as_split(slices: SliceSet, source: str, path: Path) -> SliceSet:
    """The slices at the size that the run beside a split was fed, as its fingerprint is of those."""
    recipe = path.with_name(RECIPE)
    if not recipe.is_file():
        return slices
    size = read_recipe(recipe).input.size
    if slices.images.shape[1:] == (size, size):
        return slices
    fed = read_silently(source, size).slices
    if not np.array_equal(fed.paths, slices.paths):
        raise RunError(f"{path} is of slices of mixed sizes, which an audit reads otherwise; bring them to one size")
    return fed


def _write(
    out: Path,
    facts: dict[str, Any],
    slices: SliceSet,
    neighbours: Neighbours,
    split: AuditedSplit | None,
    search: CopySearch | None,
) -> None:
    parts = {} if split is None else {"train": split.train, "validation": split.validation, "test": split.test}
    sides = ("one", "the other") if split is None else ("test", "training")
    pairs = worst_pairs(slices, neighbours, split, PAIRS)
    strips = [pair_strip(slices, pair.row, pair.other, pair.similarity, sides) for pair in pairs]
    if search is not None and search.proven:
        strips = [*_copy_strips(slices, search), *strips][: 2 * PAIRS]
    title = f"Audit of {label_source(facts['source'])}"
    page = audit_page(title, facts, _pictures(facts, slices, neighbours), strips, _caption(facts))
    write_text(out / "slices.csv", slices_csv(slices, parts))
    write_text(out / "audit.html", page)
    write_text(out / "audit.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")


def _copy_strips(slices: SliceSet, search: CopySearch) -> list[Strip]:
    """Altered test slices, with the change taken back, beside their origins; the most alike first."""
    places = np.flatnonzero(search.copies.certain)
    strips = []
    for place in places[np.argsort(-search.copies.correlation[places], kind="stable")][:PAIRS]:
        row, origin = int(search.queries[place]), int(search.references[search.copies.origin[place]])
        pose = search.copies.poses[place]
        turn = round(pose.angle)
        change = f"{'mirrored, ' if pose.mirrored else ''}turned {abs(turn)}° {'right' if turn < 0 else 'left'}"
        change += f", zoom {pose.zoom:.2f}"
        undone = undo(slices.images[row], pose)
        strips.append(copy_strip(slices, row, origin, undone, change, float(search.copies.correlation[place])))
    return strips


def _caption(facts: Mapping[str, Any]) -> str:
    if facts["split"] is None:
        return "The most similar slices of the source, one pair for each subject, with their pixel correlation."
    return (
        "Test slices on the left, each beside the most similar slice of the training or validation part, with their "
        "pixel correlation; the most similar pairs, one for each test subject. Three pictures show an altered copy: "
        "the test slice as it is, then with its change taken back, then the slice that it was made from, or another of "
        "its brain."
    )


def _pictures(facts: Mapping[str, Any], slices: SliceSet, neighbours: Neighbours) -> dict[str, Picture]:
    pictures = {}
    scores = {CONTROLS[name]: one for name, one in facts["controls"].items() if one and name in CONTROLS}
    if scores:
        rows = [(name, *_bounds(one["accuracy"])) for name, one in scores.items()]
        figure = control_scores(
            rows,
            max(one["majority"] for one in scores.values()),
            title="1-nearest-neighbour on pixels, by how train and test are divided",
            note="Bars are 95 % bootstrap intervals over "
            + " and ".join(sorted({f"{one['unit']}s" for one in scores.values()})),
        )
        pictures["controls"] = Picture("Accuracy without training", "", png_bytes(figure))
    if slices.knows_subjects and slices.n_subjects > 1:
        known = facts["subjects"]
        figure = similarity_histogram(
            *nearest_by_subject(slices, neighbours), known["threshold"] if known["clear"] else None
        )
        caption = "Each slice twice: its nearest slice of the same subject, and its nearest of another."
        pictures["similarity"] = Picture("How alike slices are", caption, png_bytes(figure))
    return pictures


def _bounds(estimate: Mapping[str, Any]) -> tuple[float, float, float]:
    value, low, high = (math.nan if estimate[key] is None else estimate[key] for key in ("value", "low", "high"))
    return value, low, high


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: what does not exist is None."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
