"""Whether published predictions are of subjects that trained the model: by the table's names, and by pixels."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mriscope.audit.controls import find_neighbours
from mriscope.audit.leakage import AuditedSplit
from mriscope.data.slices import UNKNOWN
from mriscope.data.subject_ids import loose_id
from mriscope.errors import DataError
from mriscope.evaluation.predictions import Predictions
from mriscope.reports.audit import verdict_text
from mriscope.reports.text import ORIGINS
from mriscope.results.published import SubjectsKnownFrom, TrainKnownFrom
from mriscope.training.devices import pick_device
from mriscope.workflows._leakage import examine, split_of
from mriscope.workflows._load import Loaded

REST = "rest"


@dataclass(frozen=True, eq=False)
class Published:
    """A table of predictions with what its source tells of it.

    Attributes:
        predictions: of every row, with its subject.
        rows: int64 (N,), the source's row of each; None without a source.
        loaded: the source.
        known_from: how subjects are known.
        has_parts: whether the table tells which part each row is of.
        notes: what a reader should know of the subjects.
    """

    predictions: Predictions
    rows: np.ndarray | None
    loaded: Loaded | None
    known_from: SubjectsKnownFrom | None
    has_parts: bool
    notes: tuple[str, ...] = ()

    def trained(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of the table's train and validation part that are not evaluated, int64 each."""
        parts = self.predictions.parts if self.has_parts else np.full(len(self.predictions), "")
        return {part: np.setdiff1d(np.flatnonzero(parts == part), chosen) for part in ("train", "validation")}


@dataclass(frozen=True, eq=False)
class Leakage:
    """Whether what is evaluated was trained on, and the source's rows that were; None where nothing tells."""

    verdict: str
    leaky: bool | None
    known_from: TrainKnownFrom | None = None
    train: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def find_leakage(published: Published, chosen: np.ndarray, split: str | None, seed: int) -> Leakage:
    """Tell whether what is evaluated was trained on: by the table's names of subjects, by pixels, or not at all.

    One proof of a leak counts, whichever way finds it. That there is none the pixels have to tell where they are at
    hand, as what a table calls its subjects is nobody's but its author's word.

    Args:
        published: the table.
        chosen: int64, the rows that are evaluated.
        split: published, rest, a file of `mriscope split`, or None for the table's own parts. What the table calls
            train or validation trained the model in any case.
        seed: of the controls of an audit.

    Raises:
        DataError: there is no such split, or `rest` leaves no slice.
    """
    by_names, by_pixels = _by_names(published, chosen), _by_pixels(published, chosen, split, seed)
    found = [one for one in (by_pixels, by_names) if one is not None]
    if not found:
        way = "its training rows too, in a column part, or name the slices with --data and --split"
        if published.loaded is not None:
            way = "its training rows too, in a column part, or say by --split which slices of the source trained it"
        return Leakage(
            "CANNOT TELL whether the model was trained on the subjects that are evaluated: nothing says which slices "
            f"trained it. Give the table {way} (published, rest, or a file of `mriscope split`).",
            None,
        )
    best = next((one for one in found if one.leaky), found[0])
    if best is by_pixels and best.leaky is None and by_names is not None and by_names.leaky is False:
        best = replace(best, verdict=f"{best.verdict} By the subjects that the table names, none is shared.")
    return replace(best, train=found[0].train, notes=found[0].notes)


def name_conflict(published: Published) -> str:
    """Say where slices of one subject of the source have several subjects in the table; "" where there is none."""
    loaded, rows, named = published.loaded, published.rows, published.predictions
    if loaded is None or rows is None or published.known_from != "column":
        return ""
    theirs = loaded.slices.subjects[rows]
    both = np.flatnonzero((theirs != UNKNOWN) & (named.subjects != UNKNOWN))
    pairs, first = np.unique(np.stack([theirs[both], named.subjects[both]]), axis=1, return_index=True)
    again = np.flatnonzero(pairs[0, 1:] == pairs[0, :-1])
    if not len(again):
        return ""
    origin = ORIGINS.get(loaded.subjects_from or "", "").partition(",")[0]
    one, other = (
        f"{named.subject_names[row]} for {named.paths[row]}" for row in both[first[[again[0], again[0] + 1]]].tolist()
    )
    return (
        f"the table gives {len(np.unique(pairs[0, again])):,} of the {len(np.unique(pairs[0])):,} subjects{origin} "
        f"several names, such as {one} and {other}"
    )


def _by_names(published: Published, chosen: np.ndarray) -> Leakage | None:
    """Compare the subjects of the table's training rows with those of the rows that are evaluated."""
    predictions, trained = published.predictions, published.trained(chosen)
    if not len(trained["train"]):
        return None
    learned = np.concatenate([*trained.values()])
    seen, tested = predictions.subjects[learned], predictions.subjects[chosen]
    known = np.unique(tested[tested != UNKNOWN])
    shared = np.intersect1d(known, seen)
    if len(shared):
        return Leakage(
            f"LEAKY: {len(shared):,} of the {len(known):,} subjects evaluated, with "
            f"{int(np.isin(tested, shared).sum()):,} of the {len(tested):,} slices, also have slices in the training "
            "or validation part, so the figures say little about new subjects.",
            True,
            "column",
        )
    doubt = (
        _unknown_text(tested, seen)
        or _numbering_text(published)
        or _alike_text(published, chosen, learned)
        or _lacking_text(predictions.labels[trained["train"]], predictions.labels[chosen], predictions.class_names)
    )
    if doubt:
        return Leakage(f"CANNOT TELL whether subjects were trained on: {doubt}", None, "column")
    return Leakage(
        f"No leak found: none of the {len(known):,} subjects evaluated has a slice in the training or validation part, "
        "by the subjects that are named. That two names are of two brains, only pixels tell: --data.",
        False,
        "column",
    )


def _unknown_text(tested: np.ndarray, seen: np.ndarray) -> str:
    unknown = int((tested == UNKNOWN).sum()) + int((seen == UNKNOWN).sum())
    return (
        f"those of {unknown:,} rows are unknown. Name them in a column subject or with --manifest, or name the slices "
        "with --data."
        if unknown
        else ""
    )


def _numbering_text(published: Published) -> str:
    """Say that names which number the rows tell no subjects; "" where they do not."""
    predictions = published.predictions
    if published.known_from not in ("column", "manifest", "paths") or predictions.n_subjects < len(predictions):
        return ""
    return (
        f"each of the {len(predictions):,} rows has a subject of its own, as where slices were numbered. Name whose "
        "slice each is, or name the slices with --data and --split, so that pixels tell."
    )


def _alike_text(published: Published, chosen: np.ndarray, learned: np.ndarray) -> str:
    """Say that subjects on both sides may be one under two spellings; "" where none may."""
    names = published.predictions.subject_names
    of_class = published.known_from == "paths"  # numbers that paths are taken to count anew in each class

    def loose(name: str) -> str:
        return loose_id(name.rpartition("/")[2] if of_class else name)

    there = {loose(name): name for name in dict.fromkeys(names[learned].tolist())}
    here = dict.fromkeys(names[chosen].tolist())
    both = [(name, there[loose(name)]) for name in here if loose(name) in there]
    if not both:
        return ""
    return (
        f"{len(both):,} of the {len(here):,} evaluated may be spelled otherwise in the training part, such as "
        f"{both[0][0]} and {both[0][1]}. Write each subject in one way."
    )


def _lacking_text(trained: np.ndarray, tested: np.ndarray, class_names: tuple[str, ...]) -> str:
    """Say that what is taken for the training part cannot be all of it; "" where it may be."""
    lacking = np.setdiff1d(tested, trained)
    if not len(lacking):
        return ""
    return (
        f"the {len(trained):,} slices taken for the training part hold none of the class {class_names[lacking[0]]}, "
        "which is evaluated, so they are hardly all that trained the model. Name all of them."
    )


def _unlisted_text(published: Published, chosen: np.ndarray, split: str | None) -> str:
    """Say that the table leaves out slices of the subjects that are evaluated; "" where a split says what trained."""
    loaded, rows = published.loaded, published.rows
    if loaded is None or rows is None or split is not None:
        return ""
    subjects = loaded.slices.subjects
    rest, tested = np.delete(subjects, rows), subjects[rows[chosen]]
    count = int(np.isin(rest, tested[tested != UNKNOWN]).sum())
    if not count:
        return ""
    return (
        f"{count:,} slices of the subjects evaluated are in no row of the table, and nothing says whether they trained "
        "the model. Where they did, add --split rest; where not, name a source without them."
    )


def _by_pixels(published: Published, chosen: np.ndarray, split: str | None, seed: int) -> Leakage | None:
    """Examine the slices of the source for brains on both sides."""
    loaded, rows = published.loaded, published.rows
    if loaded is None or rows is None:
        return None
    found = _parts_of(published, loaded, rows, chosen, split)
    if found is None:
        return None
    parts, known_from, notes = found
    if own := int(np.isin(parts.test, parts.learned).sum()):
        return Leakage(
            f"LEAKY: {own:,} of the {len(parts.test):,} slices evaluated are themselves in the training or validation "
            "part.",
            True,
            known_from,
            parts.train,
            notes,
        )
    neighbours = find_neighbours(loaded.slices.images, device=str(pick_device("auto")))
    examined = examine(loaded, neighbours, None, parts, seed=seed)
    verdict, leaky = verdict_text(examined.report, repairs=False), examined.report.leaky
    if not name_conflict(published):
        notes = (*notes, *_note_names(published.predictions.subjects[chosen], examined.found.proven[parts.test]))
    labels = loaded.slices.labels
    doubt = _unlisted_text(published, chosen, split) or _lacking_text(
        labels[parts.train], labels[parts.test], loaded.slices.class_names
    )
    if leaky is False and doubt:
        verdict, leaky = f"CANNOT TELL whether subjects were trained on: {doubt}", None
    return Leakage(verdict, leaky, known_from, parts.train, notes)


def _note_names(subjects: np.ndarray, brains: np.ndarray) -> tuple[str, ...]:
    """Say how many brains, as pixels prove them, go by several subjects; nothing where none does."""
    known = subjects != UNKNOWN
    pairs = np.unique(np.stack([brains[known], subjects[known]]), axis=1)
    several = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    if not several:
        return ()
    return (f"pixels prove that {several:,} brains go by several subjects, so intervals over subjects are too narrow",)


def _parts_of(
    published: Published, loaded: Loaded, rows: np.ndarray, chosen: np.ndarray, split: str | None
) -> tuple[AuditedSplit, TrainKnownFrom, tuple[str, ...]] | None:
    """Return the source's rows that trained the model and that are evaluated, and what says so; None if nothing does.

    What the table calls train or validation is added to what `split` names.
    """
    train, validation = (rows[one] for one in published.trained(chosen).values())
    known_from: TrainKnownFrom = "column"
    notes: tuple[str, ...] = ()
    if split == REST:
        rest, known_from = np.setdiff1d(np.arange(len(loaded.slices)), rows), "rest"
        if not len(rest):
            raise DataError(
                f"{loaded.source} holds no slice that the table lacks, so --split rest leaves none to train"
            )
        train = np.union1d(train, rest)
        notes = (f"the {len(rest):,} slices of the source that the table lacks are taken to have trained the model",)
    elif split is not None:
        named = split_of(loaded.slices, loaded.source, split)
        if named is None:
            return None
        train, validation = np.union1d(train, named.train), np.union1d(validation, named.validation)
        known_from = "published" if named.protocol == "published" and not Path(split).is_file() else "split file"
    if not len(train):
        return None
    test = rows[chosen]
    if published.has_parts and (published.predictions.parts[chosen] == "validation").all():
        validation = np.setdiff1d(validation, test)
    validation = np.setdiff1d(validation, train)
    return AuditedSplit("evaluated", train, validation, test), known_from, notes
