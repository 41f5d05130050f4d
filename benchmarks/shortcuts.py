"""How many planted shortcuts are found, and how many sets without one are flagged.

    MRISCOPE_DATA=folder python3 run.py bench shortcuts

Twenty sets of each kind, of the phantom (60 subjects of 6 slices) and of the real slices (60 subjects drawn at random,
4 slices each), written as parquet and read again. Clean: all files alike; or every subject with a size, quality,
software, background and noise of its own, drawn at random. Planted: the slices of one class differ in one respect, in
sets of the latter sort (grey levels: of the former); or those of 70 % of its subjects and of 10 % of the others. Named
means that the planted fact is among those flagged, for the right class. Each set is also judged as if its subjects
were unknown. Each set is kept in runs/bench/ as soon as it is judged, so that the command goes on where it was cut off.
A number after the name is the first seed (0): `.venv/bin/python benchmarks/shortcuts.py 100` draws twenty others.
"""

import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from keeping import Kept
from PIL import Image

from mriscope.audit.shortcuts import FEWEST, Shortcuts, fact_text, find_shortcuts, pixel_facts
from mriscope.data.file_facts import read_file_facts
from mriscope.data.phantom import make_phantom
from mriscope.data.readers import open_source, read
from mriscope.data.rows import gather
from mriscope.data.slices import CLASS_NAMES, SIZE, SliceSet
from mriscope.workflows._subjects import with_known_subjects

SETS, SUBJECTS = 20, 60


@dataclass(frozen=True)
class Traits:
    """How the slices of a subject are written."""

    size: int = 128
    quality: int = 0  # 0 is PNG
    software: str = ""
    border: int = 0
    background: int = 0
    noise: float = 0
    levels: int = 256
    mode: str = "L"


PLANTS: dict[str, tuple[dict, set[str]]] = {
    "size": ({"size": 150}, {"size", "height", "width"}),
    "format": ({"quality": 90}, {"format", "encoding"}),
    "JPEG quality": ({"quality": 60}, {"encoding"}),
    "EXIF": ({"software": "scanner 7"}, {"metadata"}),
    "colour mode": ({"mode": "RGB"}, {"colour mode"}),
    "border": ({"border": 10}, {"border above and below", "border left and right"}),
    "background level": ({"background": 9}, {"background level"}),
    "background noise": ({"noise": 4.0}, {"background noise"}),
    "grey levels": ({"levels": 64}, {"grey levels"}),
}


def encode(pixels: np.ndarray, traits: Traits, rng: np.random.Generator) -> bytes:
    values = np.pad(pixels, traits.border).astype(float)
    values = np.maximum(values, traits.background + np.abs(rng.normal(0, traits.noise or 1e-9, values.shape)))
    values = (values * traits.levels // 256) * 256 // traits.levels
    image = (
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).resize((traits.size, traits.size)).convert(traits.mode)
    )
    exif, file = Image.Exif(), io.BytesIO()
    if traits.software:
        exif[305] = traits.software
    options = {"exif": exif} if traits.software else {}
    image.save(file, "JPEG", quality=traits.quality, **options) if traits.quality else image.save(
        file, "PNG", **options
    )
    return file.getvalue()


def shortcuts(slices: SliceSet, traits: list[Traits], rng: np.random.Generator) -> list[Shortcuts | None]:
    """What is found with the subjects, and without them."""
    contents = [encode(image, one, rng) for image, one in zip(slices.images, traits, strict=True)]
    rows = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(contents)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "set.parquet"
        pq.write_table(pa.table({"image": pa.array(rows, kind), "label": pa.array(slices.labels)}), file)
        source = open_source(file)
        found = gather(source.rows(), source.class_names, SIZE).slices
        facts = (*read_file_facts(file, found.paths.tolist()), *pixel_facts(found.images))
    unknown = np.full(len(found), -1)
    return [find_shortcuts(facts, slices.labels, groups, CLASS_NAMES) for groups in (slices.subjects, unknown)]


def own(rng: np.random.Generator) -> Traits:
    """The traits of a subject, drawn without regard to its class."""
    return Traits(
        size=int(rng.choice([120, 128, 136])),
        quality=int(rng.choice([75, 85, 95])),
        software=str(rng.choice(["", "one", "two"])),
        background=int(rng.integers(0, 4)),
        noise=float(rng.uniform(0.5, 2)),
    )


def traits_of(
    slices: SliceSet, rng: np.random.Generator, mixed: bool, plant: dict, shares: tuple[float, float]
) -> tuple:
    """The traits of every slice, and the class that was planted with others."""
    target = int(rng.choice(np.unique(slices.labels)))
    drawn = {int(one): own(rng) if mixed else Traits() for one in np.unique(slices.subjects)}
    for one in drawn:
        inside = (slices.labels[slices.subjects == one] == target).any()
        if plant and rng.random() < shares[0 if inside else 1]:
            drawn[one] = replace(drawn[one], **plant)
    return [drawn[int(one)] for one in slices.subjects], slices.class_names[target]


def of_phantom(first: int) -> Iterator[SliceSet]:
    for seed in range(first, first + SETS):
        yield make_phantom(SUBJECTS, 6, seed=seed, size=SIZE).slices


def of_real(first: int) -> Iterator[SliceSet]:
    source = os.environ["MRISCOPE_DATA"]
    slices = with_known_subjects(read(source), source)
    for seed in range(first, first + SETS):
        drawn = np.random.default_rng(seed).choice(np.unique(slices.subjects), SUBJECTS, replace=False)
        yield slices[np.isin(slices.subjects, drawn) & (slices.positions % 8 == 4)]


def judge(whole: SliceSet, seed: int, mixed: bool, plant: str, shares: tuple[float, float]) -> list[list]:
    """Say of a set with its subjects and without whether it is flagged, whether rightly, and the surest fact."""
    changed, facts = PLANTS[plant] if plant else ({}, set())
    rng = np.random.default_rng([seed, mixed])
    subjects = [len(np.unique(whole.subjects[whole.labels == label])) for label in range(len(whole.class_names))]
    slices = whole[np.isin(whole.labels, np.flatnonzero(np.array(subjects) >= FEWEST))]
    traits, target = traits_of(slices, rng, mixed, changed, shares)
    rows = []
    for found in shortcuts(slices, traits, rng):
        first = found.facts[0] if found and found.facts else None
        flagged = bool(found and found.flagged)
        named = found and any(one.flagged and one.fact in facts and one.class_name == target for one in found.facts)
        text = f"informedness {first.informedness:.2f}, p {first.p:.3f}, {fact_text(first)}" if first else "no fact"
        rows.append([flagged, bool(named), text])
    return rows


def measure(name: str, first: int, kept: Kept) -> None:
    start, sets = time.perf_counter(), list({"phantom": of_phantom, "real": of_real}[name](first))

    def print_row(title: str, mixed: bool, plant: str = "", shares: tuple[float, float] = (1, 0)) -> None:
        found = []
        for seed, whole in enumerate(sets, first):
            key = f"{name}, {title}, {'mixed' if mixed else 'alike'}, seed {seed}"
            found.append(kept.get(key, partial(judge, whole, seed, mixed, plant, shares)))
        counts = np.array([[way[:2] for way in one] for one in found]).sum(axis=0)
        cells = (f"{flagged} | {named if plant else '–'}" for flagged, named in counts)
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
        for seed, one in enumerate(found, first):
            for way, (flagged, _, text) in zip(("known", "unknown"), one, strict=True):
                if flagged != bool(plant):
                    print(f"    set {seed}, subjects {way}: {text}", flush=True)

    print(
        f"\n{name}, flagged of {SETS}\n\n| set | subjects known | named | unknown | named |\n|--|--|--|--|--|",
        flush=True,
    )
    print_row("clean, files alike", mixed=False)
    print_row("clean, files of many kinds", mixed=True)
    for plant in PLANTS:
        print_row(plant, plant != "grey levels", plant)  # all levels are used again after resizing or JPEG
    for plant in ("size", "EXIF"):
        print_row(f"{plant} in 70 % / 10 %", True, plant, (0.7, 0.1))
    print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    kept = Kept("shortcuts")
    print(f"commit {kept.commit}")
    for name in ("phantom", "real") if "MRISCOPE_DATA" in os.environ else ("phantom",):
        measure(name, int(sys.argv[1]) if len(sys.argv) > 1 else 0, kept)
