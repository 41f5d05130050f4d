"""Prepared slices as parquet files that `mriscope.read` and the Hugging Face library datasets take."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mriscope.data.rows import as_covariates
from mriscope.files import replacing
from mriscope.results import Preparation, PreparedVolume

_GROUP = 128  # rows that are written together; a reader unpacks as many at most
_COLUMNS = ("image", "label", "subject", "session", "position", "part")


@dataclass(frozen=True, eq=False)
class PreparedSlices:
    """The slices of a volume with what is known of it.

    Args:
        volume: what became of it.
        label: index into the classes.
        covariates: further columns as texts, "" where unknown.
        images: uint8 (N, H, W).
        positions: float64 (N,), mm.
    """

    volume: PreparedVolume
    label: int | None
    covariates: Mapping[str, str]
    images: np.ndarray
    positions: np.ndarray


def write_slices(
    path: Path, preparation: Preparation, covariates: Sequence[Mapping[str, str]], rows: Iterable[PreparedSlices]
) -> None:
    """Write slices as one parquet file, whole or not at all.

    Its columns are image (bytes of a PNG file, and a name such as VOLUME#-12.0mm), label, subject, session, position,
    part, and the covariates. Its metadata hold the features of datasets, and under "mriscope" the steps and versions.

    Args:
        path: the file.
        preparation: of which the file tells classes, steps and versions.
        covariates: of each volume that is written, which tell the types of their columns.
        rows: the slices, volume by volume.

    Raises:
        WriteError: the system refuses to write there.
    """
    numbers = {name: column.dtype.kind == "f" for name, column in as_covariates(covariates).items()}
    schema = _schema(preparation, numbers)
    with replacing(path) as draft, pq.ParquetWriter(draft, schema) as writer:
        for group in _groups(row for one in rows for row in _rows(one, numbers)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _schema(preparation: Preparation, numbers: Mapping[str, bool]) -> Any:
    names = {_column(name): "float64" if number else "string" for name, number in numbers.items()}
    kinds = {"subject": "string", "session": "string", "position": "float64", "part": "string", **names}
    features = {
        "image": {"_type": "Image"},
        "label": {"names": preparation.class_names, "_type": "ClassLabel"},
        **{name: {"dtype": kind, "_type": "Value"} for name, kind in kinds.items()},
    }
    types = {"float64": pa.float64(), "string": pa.string()}
    fields = [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        *((name, types[kind]) for name, kind in kinds.items()),
    ]
    told = json.loads(preparation.to_json())
    provenance = {key: told[key] for key in ("mriscope", "packages", "settings", "source")}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}), "mriscope": json.dumps(provenance)}
    return pa.schema(fields, metadata=metadata)


def _column(name: str) -> str:
    """Return the name of a covariate's column, which is none of those that every file has."""
    return f"source_{name}" if name in _COLUMNS else name


def _rows(one: PreparedSlices, numbers: Mapping[str, bool]) -> Iterator[dict[str, Any]]:
    about: dict[str, Any] = {name: getattr(one.volume, name) or None for name in ("subject", "session", "part")}
    for name, number in numbers.items():
        text = one.covariates.get(name, "")
        about[_column(name)] = None if not text else float(text) if number else text
    for image, position in zip(one.images, one.positions.tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        path = f"{one.volume.path}#{position:+.1f}mm"
        yield {"image": {"bytes": file.getvalue(), "path": path}, "label": one.label, "position": position, **about}


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
