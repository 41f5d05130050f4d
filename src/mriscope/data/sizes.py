"""What becomes of slices whose files have another size than is wanted, or several."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mriscope.data.rows import Reading
from mriscope.data.slices import SIZE
from mriscope.errors import BadRow


def settle_sizes(reading: Reading, size: int | None, stretch: bool) -> Reading:
    """Say how slices came to their size; without a size asked for, those of another shape than most are bad rows.

    Args:
        reading: of `gather`.
        size: that the user asked for; None where they did not.
        stretch: as in ReadOptions.
    """
    if reading.sizes is None or reading.rows is None:
        return reading
    target = reading.slices.images.shape[1]
    _, first, counts = np.unique(reading.sizes @ [2**32, 1], return_index=True, return_counts=True)
    seen = sorted(zip(first.tolist(), counts.tolist(), strict=True))
    shapes = Counter({tuple(reading.sizes[at].tolist()): count for at, count in seen})
    if size is None and len(shapes) > 1:
        common = shapes.most_common(1)[0][0]
        fits = (reading.sizes == common).all(axis=1)
        told = f"where most slices are {_text(common)}; bring every slice to one size with --size {SIZE} (size={SIZE})"
        places, numbers = reading.rows.T.tolist()
        left = sorted({*range(len(places) + len(reading.bad))} - {*places})
        bad = dict(zip(left, reading.bad, strict=True))
        for at in np.flatnonzero(~fits).tolist():
            path, shape = str(reading.slices.paths[at]), _text(reading.sizes[at])
            bad[places[at]] = BadRow(numbers[at], path, f"is {shape} {told}")
        kept = {"sizes": reading.sizes[fits], "rows": reading.rows[fits]}
        reading = replace(reading, slices=reading.slices[fits], bad=tuple(bad[at] for at in sorted(bad)), **kept)
        shapes = Counter({common: shapes[common]})
    return replace(reading, notes=(*reading.notes, *_size_notes(shapes, target, stretch)))


def _size_notes(shapes: Mapping[tuple[int, ...], int], target: int, stretch: bool) -> tuple[str, ...]:
    resized = Counter({shape: count for shape, count in shapes.items() if shape != (target, target)})
    if not resized:
        return ()
    lengths = [side for shape in resized for side in (shape if stretch else [max(shape)])]
    ways = [("by area", max(lengths) > target), ("bilinearly", min(lengths) < target)]
    how = " and ".join(way for way, used in ways if used)
    common = _text(resized.most_common(1)[0][0])
    sizes = common if len(resized) == 1 else f"{len(resized)} sizes, most often {common},"
    oblong = sum(count for shape, count in resized.items() if shape[0] != shape[1])
    kept = f"; {oblong:,} that are not square " + (
        "were stretched" if stretch else "were padded to a square with black (--stretch fills it instead)"
    )
    resizing = f" were resized to {_text((target, target))} {how}" if how else f" became {_text((target, target))}"
    return (f"{resized.total():,} slices of {sizes}{resizing}{kept if oblong else ''}",)


def _text(shape: Sequence[int] | np.ndarray) -> str:
    return f"{shape[0]}×{shape[1]}"
