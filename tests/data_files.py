"""Files made by hand for the tests of mriscope.data."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mriscope.data.naming import CLASS_NAMES

Rows = Sequence[tuple[bytes | None, str | None, int | None]]


def pixels(seed: int, height: int = 128, width: int = 128) -> np.ndarray:
    """A grey image of noise, unlike that of any other seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def encoded(image: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def png(seed: int, height: int = 128, width: int = 128) -> bytes:
    return encoded(pixels(seed, height, width))


def write_parquet(path: Path, rows: Rows, names: Sequence[str] | None = CLASS_NAMES) -> Path:
    """A parquet file in the schema of the Hugging Face hub, from (bytes, path, label)."""
    image = pa.array(
        [None if content is None and name is None else {"bytes": content, "path": name} for content, name, _ in rows],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "label": pa.array([label for _, _, label in rows], pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_files(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files, by their relative paths."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root
