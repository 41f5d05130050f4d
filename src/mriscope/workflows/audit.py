"""Audit a source and a split of it, and write what was found."""

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.audit.controls import Neighbours, find_neighbours
from mriscope.audit.copies import undo
from mriscope.audit.leakage import (
    AuditedSplit,
    nearest_by_subject,
    similar_pairs,
    worst_pairs,
)
from mriscope.audit.repair import repair_split, uneven
from mriscope.audit.shortcuts import find_shortcuts, pixel_facts
from mriscope.audit.verdict import CopySearch
from mriscope.data.covariates import with_covariates
from mriscope.data.file_facts import describe_files, file_facts
from mriscope.data.manifest import manifest_csv
from mriscope.data.readers import check_bad_rows_place
from mriscope.data.rows import Reading
from mriscope.data.slices import SliceSet
from mriscope.data.split_files import split_file
from mriscope.data.splits import Split
from mriscope.errors import ArgumentError, check_type
from mriscope.evaluation.confounding import describe_covariates
from mriscope.evaluation.plots import control_scores, png_bytes, similarity_histogram
from mriscope.files import write_text
from mriscope.output_folder import OutputFolder, written_with
from mriscope.reports.audit import CONTROLS, Strip, audit_page, copy_strip, pair_strip, verdict_text
from mriscope.reports.page import Picture
from mriscope.results import Audit, ControlScore, Count, Repair, ResultFile, SplitRecord
from mriscope.run_directory import BAD_ROWS
from mriscope.training.devices import pick_device
from mriscope.version import __version__
from mriscope.workflows._leakage import EXIT_CODES, PUBLISHED, Examined, examine, split_of
from mriscope.workflows._load import Loaded, name_subjects, read_any_size
from mriscope.workflows._subjects import origin_of_subjects

NOTHING_AUDITED = 5
AUDIT, SLICES, REPAIRED = "audit.json", "slices.csv", "repaired.json"
FILES = (SLICES, "audit.html", AUDIT)
PAIRS = 12
RECIPE_OF_STEPS = "tissue_families"
"""What the page's next steps name."""


@dataclass(frozen=True)
class _Options:
    """How the command was given: source, --split, --manifest, --skip-bad and the seed."""

    source: str
    split: str | None
    manifest: str | None
    skip_bad: bool
    seed: int


class _EarlierAudit(ResultFile):
    """What shows that an audit.json is one."""

    mriscope: str
    verdict: str
    n_slices: Count


def audit_source(
    source: str | SliceSet,
    out: str | Path | None = None,
    *,
    split: str | None = None,
    manifest: str | None = None,
    covariates: str | None = None,
    repair: str | Path | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> Audit:
    """Audit a source, or slices, and a split of them; write audit.json, slices.csv and audit.html.

    Files in `out` that mriscope did not write are never replaced, see mriscope.output_folder.

    Args:
        source: as mriscope.read takes it; or slices, whose files are then not looked at.
        out: folder for the three files; None writes none.
        split: published, or a file of `mriscope split` or of a run (split.json); None: published where the source
            publishes one, else the data alone is audited.
        manifest: a CSV file that gives slices their subjects.
        covariates: a CSV file of what is known of slices or subjects, such as age, beside what the source brings.
        repair: folder for a split that shares no subject, and an audit of it; None writes none.
        skip_bad: leave unusable rows out and list them in bad_rows.csv.
        seed: of the controls and of the repaired split.

    Returns:
        what audit.json holds.

    Raises:
        DataError: the source or manifest cannot be read, or there is no such split, or it was made for other data, or
            too few subjects are sure for a repaired one; then the audit is written, and nothing to `repair`.
        WriteError: a file cannot be written, or one of its name is there that mriscope did not write.
        ArgumentTypeError: source is neither a text nor slices.

    Example:
        >>> import mriscope
        >>> slices = mriscope.read("phantom:subjects=8,slices=4")
        >>> found = mriscope.audit(slices)
        >>> found.split is None, found.subjects.known_from
        (True, 'source')
    """
    check_type("source", source, (str, SliceSet), "a source such as phantom, or slices that mriscope.read gave")
    given, source = (source, "slices") if isinstance(source, SliceSet) else (None, source)
    if given is not None and (manifest or repair):
        raise ArgumentError("manifest and repair read a source again, and slices have none; name the source instead")
    for place in (out, repair):
        if place is not None:
            _output(place).check(FILES)
    if repair is not None:
        OutputFolder(Path(repair), "audit --repair", _repaired_earlier).check([REPAIRED])
    if given is None and skip_bad:
        check_bad_rows_place(BAD_ROWS)
    # Sizes may be what tells the classes, so that slices of any size are audited.
    reading = Reading(given) if given is not None else read_any_size(source, manifest=manifest, skip_bad=skip_bad)
    with ThreadPoolExecutor(1) as beside:  # what needs no subjects and little of Python, while they are recovered
        neighbours = beside.submit(find_neighbours, reading.slices.images, device=str(pick_device("auto")))
        around = beside.submit(pixel_facts, reading.slices.images)
        if given is None:
            loaded = name_subjects(source, reading, manifest)
            loaded.report_bad_rows()
        else:
            loaded = Loaded(source, given, reading, origin_of_subjects(given, given, None))
        parts = split_of(loaded.slices, source, split)
        files = () if given is not None else file_facts(describe_files(source), loaded.slices.paths.tolist())
        examined = examine(loaded, neighbours.result(), manifest, parts, seed=seed)
        facts = (*files, *around.result())
    slices, search, report = examined.slices, examined.search, examined.report
    shortcuts = find_shortcuts(facts, slices.labels, slices.subjects, slices.class_names, seed=seed)
    known = slices if covariates is None else with_covariates(slices, covariates, [row.path for row in reading.bad])
    audit = Audit(
        **dict(report),
        verdict="",
        source=source,
        mriscope=__version__,
        seed=seed,
        shortcuts=shortcuts,
        covariate_table=describe_covariates(known),
    )
    audit = audit.model_copy(update={"verdict": verdict_text(audit)})
    options = _Options(source, split, manifest, skip_bad, seed)
    if out is not None:
        _write(_output(out), audit, slices, examined.neighbours, parts, search, _next_steps(audit, options, Path(out)))
    if repair is not None:
        pairs = _pairs_of_one_brain(examined)
        repaired = _repair(options, Path(repair), slices, repair_split(slices, parts, same_brain=pairs, seed=seed))
        audit = audit.model_copy(update={"repaired": repaired})
        if out is not None:
            with _output(out).writing(FILES) as folder:
                audit.write(folder / AUDIT)
    return audit


def _output(out: str | Path) -> OutputFolder:
    """Return the folder of an audit; audit.json shows which files there an older version wrote."""
    return OutputFolder(Path(out), "audit", written_with("audit.json", _EarlierAudit.read, FILES))


_repaired_earlier = written_with(REPAIRED, SplitRecord.read, [REPAIRED])


def _pairs_of_one_brain(examined: Examined) -> np.ndarray:
    """Return pairs that are proven to be of one brain, or copies, whatever subject each was given; int64 (P, 2)."""
    proven, search, report = examined.found.proven, examined.search, examined.report
    order = np.argsort(proven, kind="stable")
    pairs = np.stack([order[:-1], order[1:]], axis=1)
    linked = pairs[proven[pairs[:, 0]] == proven[pairs[:, 1]]]
    altered = search.pairs if search is not None and search.proven else linked[:0]
    return np.concatenate([linked, altered, similar_pairs(examined.neighbours, report.subjects.threshold)[0]])


def _repair(options: _Options, folder: Path, slices: SliceSet, split: Split) -> Repair:
    """Write a split that shares no subject, and audit it."""
    file = folder / REPAIRED
    with OutputFolder(folder, "audit --repair", _repaired_earlier).writing([REPAIRED]):
        split_file(slices, split, options.seed).write(file)
    again = audit_source(
        options.source,
        folder,
        split=str(file),
        manifest=options.manifest,
        skip_bad=options.skip_bad,
        seed=options.seed,
    )
    kept = sum(len(rows) for rows in (split.train, split.validation, split.test))
    return Repair(
        file=str(file),
        left_out=len(slices) - kept,
        uneven=uneven(slices, split),
        leaky=again.leaky,
        verdict=again.verdict,
    )


def _next_steps(audit: Audit, options: _Options, out: Path) -> list[tuple[str, str]]:
    """Say what to do next: why, and the command."""
    source, known = shlex.quote(options.source), audit.subjects
    reading = f" --manifest {shlex.quote(options.manifest)}" if options.manifest else ""
    reading += " --skip-bad" if options.skip_bad else ""
    split = f" --split {shlex.quote(options.split)}" if options.split else ""
    steps = []
    if audit.leaky is False:
        chosen = "split.protocol=published" if options.split in (None, PUBLISHED) else f"split.file={options.split}"
        command = f"mriscope train {RECIPE_OF_STEPS} --data {source} --set {shlex.quote(chosen)}{reading}"
        steps.append(("Train and evaluate on this split", command))
    elif known.n and (audit.split is not None or known.known_slices < audit.n_slices):
        command = f"mriscope audit {source}{split}{reading} --repair repaired"
        steps.append(("Write a split by subject of the slices whose subjects are sure, and audit it", command))
    elif known.n:
        command = f"mriscope split {source} --protocol by_subject{reading} --out splits"
        steps.append(("Make a split by subject", command))
    if known.known_slices == audit.n_slices:
        command = f"mriscope crossval {RECIPE_OF_STEPS} --data {source}{reading}"
        steps.append(("Cross-validate by subject", command))
    else:
        table = shlex.quote(str(out / SLICES))
        why = f"Write the subjects that you know into the column subject of {out / SLICES}, and audit again"
        again = (
            f"mriscope audit {source}{split} --manifest {table}{' --skip-bad' if options.skip_bad else ''} --out again"
        )
        steps.append((why, again))
    return steps


def exit_code(audit: Audit) -> int:
    """Return what the command answers a script with: 0 not leaky, 3 leaky, 4 cannot tell, 5 no split was audited."""
    return NOTHING_AUDITED if audit.split is None else EXIT_CODES[audit.leaky]


def _write(
    out: OutputFolder,
    audit: Audit,
    slices: SliceSet,
    neighbours: Neighbours,
    split: AuditedSplit | None,
    search: CopySearch | None,
    next_steps: list[tuple[str, str]],
) -> None:
    parts = {} if split is None else {"train": split.train, "validation": split.validation, "test": split.test}
    sides = ("one", "the other") if split is None else ("test", "training")
    pairs = worst_pairs(slices, neighbours, split, PAIRS)
    strips = [pair_strip(slices, pair.row, pair.other, pair.similarity, sides) for pair in pairs]
    if search is not None and search.proven:
        strips = [*_copy_strips(slices, search), *strips][: 2 * PAIRS]
    page = audit_page(
        audit,
        next_steps=next_steps,
        pictures=_pictures(audit, slices, neighbours),
        strips=strips,
        strips_caption=_caption(split),
    )
    with out.writing(FILES) as folder:
        write_text(folder / SLICES, manifest_csv(slices, parts))
        write_text(folder / "audit.html", page)
        audit.write(folder / AUDIT)


def _copy_strips(slices: SliceSet, search: CopySearch) -> list[Strip]:
    """Return the altered test slices, with the change taken back, beside their origins; the most alike first."""
    places = np.flatnonzero(search.copies.certain)
    strips = []
    for place in places[np.argsort(-search.copies.correlation[places], kind="stable")][:PAIRS]:
        row, origin = int(search.queries[place]), int(search.references[search.copies.origin[place]])
        pose = search.copies.poses[place]
        turn = round(pose.angle)
        changes = ["mirrored"] if pose.mirrored else []
        changes += [f"turned {abs(turn)}° {'right' if turn < 0 else 'left'}"] if turn else []
        changes += [f"zoom {pose.zoom:.2f}"] if f"{pose.zoom:.2f}" != "1.00" else []
        change = ", ".join(changes) or "in the same pose"
        undone = undo(slices.images[row], pose)
        strips.append(copy_strip(slices, row, origin, undone, change, float(search.copies.correlation[place])))
    return strips


def _caption(split: AuditedSplit | None) -> str:
    if split is None:
        return "The most similar slices of the source, one pair for each subject, with their pixel correlation."
    return (
        "Test slices on the left, each beside the most similar slice of the training or validation part, with their "
        "pixel correlation; the most similar pairs, one for each test subject. Three pictures show an altered copy: "
        "the test slice as it is, then with its change taken back, then the slice that it was made from, or another of "
        "its brain."
    )


def _pictures(audit: Audit, slices: SliceSet, neighbours: Neighbours) -> dict[str, Picture]:
    pictures = {}
    named: dict[str, ControlScore | None] = {title: getattr(audit.controls, name) for name, title in CONTROLS.items()}
    scores = {title: one for title, one in named.items() if one is not None}
    if scores:
        rows = []
        for title, one in scores.items():
            shown = one.accuracy.reliable is not False  # what the table does not show is not drawn either
            bounds = (one.accuracy.low, one.accuracy.high) if shown else (np.nan, np.nan)
            rows.append((title, one.accuracy.value, *bounds))
        figure = control_scores(
            rows,
            max(one.majority for one in scores.values()),
            title="1-nearest-neighbour on pixels, by how train and test are divided",
            note="Bars are 95 % bootstrap intervals over "
            + " and ".join(sorted({f"{one.unit}s" for one in scores.values()}))
            + ", where those are reliable",
        )
        values = "; ".join(f"{title} {100 * one.accuracy.value:.1f} %" for title, one in scores.items())
        alt = f"Points with intervals: accuracy of the nearest neighbour without training. {values}."
        pictures["controls"] = Picture("Accuracy without training", "", png_bytes(figure), alt)
    if slices.knows_subjects and slices.n_subjects > 1:
        same, other = nearest_by_subject(slices, neighbours)
        figure = similarity_histogram(same, other, audit.subjects.threshold if audit.subjects.clear else None)
        caption = "Each slice twice: its nearest slice of the same subject, and its nearest of another."
        middle = [f"{np.nanmedian(one):.3f}" if np.isfinite(one).any() else "none" for one in (same, other)]
        alt = (
            f"Histogram of the correlation of each slice with its nearest: median {middle[0]} for the same subject, "
            f"{middle[1]} for another."
        )
        pictures["similarity"] = Picture("How alike slices are", caption, png_bytes(figure), alt)
    return pictures
