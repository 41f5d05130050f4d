"""How many planted shortcuts are found, and how many sets without one are flagged.

    MRISCOPE_DATA=folder python3 run.py bench shortcuts

Twenty sets of each kind, of the phantom (60 subjects of 6 slices) and of the real slices (60 subjects drawn at random,
4 slices each), written as parquet and read again. Clean: all files alike; or every subject with a size, quality,
software, background and noise of its own, drawn at random. Planted: the slices of one class differ in one respect, in
sets of the latter sort (grey levels: of the former); or those of 70 % of its subjects and of 10 % of the others. Named
means that the surest fact is the planted one and its class the right one. Each set is also judged as if its subjects
were unknown.
"""

import io
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
    return [find_shortcuts(facts, found.labels, groups, CLASS_NAMES) for groups in (slices.subjects, unknown)]


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


def of_phantom() -> Iterator[SliceSet]:
    for seed in range(SETS):
        yield make_phantom(SUBJECTS, 6, seed=seed, size=SIZE).slices


def of_real() -> Iterator[SliceSet]:
    source = os.environ["MRISCOPE_DATA"]
    slices = with_known_subjects(read(source), source)
    for seed in range(SETS):
        drawn = np.random.default_rng(seed).choice(np.unique(slices.subjects), SUBJECTS, replace=False)
        yield slices[np.isin(slices.subjects, drawn) & (slices.positions % 8 == 4)]


def count(sets: list[SliceSet], mixed: bool, plant: str = "", shares: tuple[float, float] = (1, 0)) -> str:
    changed, facts = PLANTS[plant] if plant else ({}, set())
    flagged, named, wrong = np.zeros(2, int), np.zeros(2, int), []
    for seed, whole in enumerate(sets):
        rng = np.random.default_rng([seed, mixed])
        subjects = [len(np.unique(whole.subjects[whole.labels == label])) for label in range(len(whole.class_names))]
        slices = whole[np.isin(whole.labels, np.flatnonzero(np.array(subjects) >= FEWEST))]
        traits, target = traits_of(slices, rng, mixed, changed, shares)
        for way, found in enumerate(shortcuts(slices, traits, rng)):
            first = found.facts[0] if found and found.facts else None
            if not found or not first:
                continue
            flagged[way] += found.flagged
            named[way] += found.flagged and first.fact in facts and first.class_name == target
            if found.flagged != bool(plant):
                where = f"set {seed}, subjects {('known', 'unknown')[way]}"
                wrong.append(f"{where}: informedness {first.informedness:.2f}, p {first.p:.3f}, {fact_text(first)}")
    cells = [f"{flagged[way]} | {named[way] if plant else '–'}" for way in (0, 1)]
    return f"{' | '.join(cells)} |" + "".join(f"\n    {one}" for one in wrong)


def measure(name: str) -> None:
    start, sets = time.perf_counter(), list({"phantom": of_phantom, "real": of_real}[name]())
    print(
        f"\n{name}, flagged of {SETS}\n| set | subjects known | named | unknown | named |\n|--|--|--|--|--|", flush=True
    )
    for mixed, sort in ((False, "files alike"), (True, "files of many kinds")):
        print(f"| clean, {sort} | {count(sets, mixed)}", flush=True)
    for plant in PLANTS:
        mixed = plant != "grey levels"  # which are all used again once a slice is resized or saved as JPEG
        print(f"| {plant} | {count(sets, mixed, plant)}", flush=True)
    for plant in ("size", "EXIF"):
        print(f"| {plant} in 70 % / 10 % | {count(sets, True, plant, (0.7, 0.1))}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    for name in ("phantom", "real") if "MRISCOPE_DATA" in os.environ else ("phantom",):
        measure(name)
