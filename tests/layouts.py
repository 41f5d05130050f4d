"""Synthetic trees of the layouts in docs/data.md, with what was planted in each."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from data_files import png, write_files


@dataclass(frozen=True)
class Slice:
    """What is planted of one slice; None where it is not checked."""

    label: str
    subject: str = ""
    session: str = ""
    position: float | None = None
    part: str = ""


Planted = dict[str, Slice]
"""What is planted, by the path of the slice."""
FOUR = ("NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented")


def small(seed: int) -> bytes:
    return png(seed, 16, 16)


def plant(root: Path, slices: Planted) -> Planted:
    write_files(root, {path: small(seed) for seed, path in enumerate(slices)})
    return slices


def class_folders(root: Path) -> Planted:
    return plant(root, {f"{name}/{row}.png": Slice(name) for name in ("AD", "CN", "MCI") for row in range(3)})


def parts(root: Path) -> Planted:
    named = {"train": "train", "val": "validation", "test": "test"}
    paths = [
        (f"{word}/{name}/{row}.png", name, part) for word, part in named.items() for name in FOUR for row in (0, 1)
    ]
    canonical = {"NonDemented": "Non_Demented", "VeryMildDemented": "Very_Mild_Demented"}
    canonical |= {"MildDemented": "Mild_Demented", "ModerateDemented": "Moderate_Demented"}
    return plant(root, {path: Slice(canonical[name], part=part) for path, name, part in paths})


def wrapped(root: Path) -> Planted:
    sets = ("OriginalDataset", "AugmentedAlzheimerDataset")
    return plant(
        root, {f"{above}/{name}/{row}.jpg": Slice(name) for above in sets for name in ("AD", "CN") for row in (1, 2)}
    )


def oasis(root: Path) -> Planted:
    slices = {}
    for subject in (3, 28, 111):
        folder = "Mild Dementia" if subject == 28 else "Non Demented"
        for session in (1, 2) if subject == 28 else (1,):
            for acquisition in (1, 2):
                for at in (100, 101, 160):
                    name = f"OAS1_{subject:04d}_MR{session}_mpr-{acquisition}_{at}.jpg"
                    label = folder.replace("Dementia", "Demented").replace(" ", "_")
                    slices[f"Data/{folder}/{name}"] = Slice(label, f"OAS1_{subject:04d}", f"MR{session}", at)
    return plant(root, slices)


def adni(root: Path) -> Planted:
    slices = {}
    for part, subject, label, series in (
        ("train", "141_S_0696", "AD", "S19884"),
        ("train", "002_S_0295", "NC", "S13407"),
        ("validation", "133_S_0912", "NC", "S20001"),
        ("validation", "133_S_0913", "AD", "S20002"),
    ):
        for at in (70, 74, 121):
            path = f"{part}/{label}/ADNI_{subject}_MR_MPR__GradWarp_Br_20070219173556321_{series}_I4096_{at}.png"
            slices[path] = Slice(label, subject, series, at, part)
    return plant(root, slices)


def ixi(root: Path) -> Planted:
    rows = [(f"IXI{n:03d}", site, at) for n, site in ((2, "Guys"), (12, "HH"), (600, "IOP")) for at in (10, 100)]
    return plant(
        root,
        {
            f"{'old' if who == 'IXI012' else 'young'}/{who}-{site}-0828-T1_{at}.png": Slice(
                "old" if who == "IXI012" else "young", who, "", at
            )
            for who, site, at in rows
        },
    )


def bids_names(root: Path) -> Planted:
    slices = {}
    for subject, label in (("sub-001", "AD"), ("sub-002", "CN"), ("sub-010", "CN")):
        for session in ("ses-M00", "ses-M12"):
            for at in (40, 41):
                path = f"{label}/{subject}/{session}/anat/{subject}_{session}_T1w_slice-{at:03d}.png"
                slices[path] = Slice(label, subject, session, at)
    return plant(root, slices)


def own_pattern(root: Path) -> Planted:
    rows = [(slice_, who) for who in (19, 20, 7, 8) for slice_ in (26, 27, 28)]
    return plant(
        root,
        {
            f"{'AD' if who < 15 else 'CN'}/{at} ({who}).jpg": Slice("AD" if who < 15 else "CN", f"{who}", "", at)
            for at, who in rows
        },
    )


def table(root: Path) -> Planted:
    slices, lines = {}, ["\ufefffile_name;class;patient_id;session;position;split;age;sex"]
    for row, subject in enumerate(("12.0", "007", "sub-3", "007")):
        for at in (-30.5, 2):
            path = f"images/{row}_{at}.png"
            label, part = ("AD", "CN")[row % 2], ("train", "val", "test", "train")[row]
            slices[path] = Slice(label, subject, f"v{row}", at, {"val": "validation"}.get(part, part))
            lines.append(f"{path};{label};{subject};v{row};{str(at).replace('.', ',')};{part};{70 + row};F")
    write_files(root, {"labels.csv": ("\r\n".join([*lines, ";;;;;;;", ""])).encode("utf-16")})
    return plant(root, slices)


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shards(root: Path) -> Planted:
    """Shards in folders of splits, images as plain bytes, labels and subjects as texts."""
    slices: Planted = {}
    seed = 0
    for part, file in (
        ("train", "train/0000"),
        ("train", "train/0001"),
        ("validation", "validation/0000"),
        ("test", "test/0000"),
    ):
        rows = []
        for label in ("AD", "CN"):
            rows.append((small(seed), label, f"{seed % 3:03d}"))
            slices[f"default/{file}.parquet {seed}"] = Slice(label, f"{seed % 3:03d}", part=part)
            seed += 1
        columns = dict(zip(("image", "label", "PatientID"), map(list, zip(*rows, strict=True)), strict=True))
        (root / f"default/{file}.parquet").parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), root / f"default/{file}.parquet")
    return slices


def own_columns(root: Path) -> Planted:
    """Columns of other names, labels as floats of pandas with a feature of names, subjects as numbers."""
    rows = [(small(seed), f"{seed}.png", float(seed % 2), 10 + seed // 2) for seed in range(6)]
    for file, chosen in (
        ("train-00000-of-00002", rows[:2]),
        ("train-00001-of-00002", rows[2:4]),
        ("test-00000-of-00001", rows[4:]),
    ):
        columns = {
            "scan": pa.array([{"bytes": content, "path": path} for content, path, _, _ in chosen], IMAGE),
            "other": pa.array([b""] * len(chosen)),
            "dx_code": pa.array([label for *_, label, _ in chosen]),
            "who": pa.array([who for *_, who in chosen]),
        }
        features = {"dx_code": {"_type": "ClassLabel", "names": ["CN", "AD"]}}
        made = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        root.mkdir(parents=True, exist_ok=True)
        pq.write_table(made, root / f"{file}.parquet")
    return {
        path: Slice(("CN", "AD")[int(label)], f"{who}", part="train" if seed < 4 else "test")
        for seed, (_, path, label, who) in enumerate(rows)
    }


def sizes(root: Path) -> Planted:
    shapes = [(24, 48), (48, 24), (16, 16), (30, 20)]
    files = {f"{('AD', 'CN')[row % 2]}/{row}.png": png(row, *shape) for row, shape in enumerate(shapes)}
    write_files(root, files)
    return {path: Slice(path[:2]) for path in files}


def manifest(root: Path) -> Planted:
    slices = plant(
        root,
        {
            f"{('AD', 'CN')[row % 2]}/{row}.png": Slice(("AD", "CN")[row % 2], "" if row > 5 else f"P{row // 2}")
            for row in range(8)
        },
    )
    text = "path\tsubject\tage\n" + "".join(
        f"{path}\t{one.subject or 'n/a'}\t7{row}\n" for row, (path, one) in enumerate(slices.items())
    )
    write_files(root.with_name("more"), {"subjects.tsv": text.encode()})
    return slices


LAYOUTS: tuple[Callable[[Path], Planted], ...] = (
    class_folders,
    parts,
    wrapped,
    oasis,
    adni,
    ixi,
    bids_names,
    own_pattern,
    sizes,
    table,
    shards,
    own_columns,
    manifest,
)
"""In the order of the rows of docs/data.md."""
