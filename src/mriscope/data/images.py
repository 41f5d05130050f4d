"""Images without labels, as a user names them to ask a model."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.data.decoding import SUFFIXES, bits_of, decode_deep, fit, to_8_bits
from mriscope.data.folders import MAX_BYTES
from mriscope.data.listing import problem_of
from mriscope.errors import BadRow, BadRowsError, DataError

LOG = logging.getLogger("mriscope")


@dataclass(frozen=True)
class SliceOrigin:
    """Whose slice an image is, and where it lies.

    Args:
        subject: what its source calls the subject, or "".
        session: what its source calls the session, or "".
        position: place along the scan: of volumes mm along the normal of the plane; nan where unknown.
        volume: the name of the volume that it was cut from, or "".
    """

    subject: str = ""
    session: str = ""
    position: float = math.nan
    volume: str = ""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size and where they came from.

    Args:
        images: uint8 (N, H, W).
        paths: str (N,), as their user named them.
        origins: of each; () where nothing is known of any.
    """

    images: np.ndarray
    paths: tuple[str, ...]
    origins: tuple[SliceOrigin, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def read_images(named: Sequence[str | Path], size: int, *, stretch: bool = False) -> Images:
    """Read image files, each brought to one size as `read` does.

    Args:
        named: files, or folders whose image files are meant, those of folders within them too.
        size: height and width to reach, in pixels.
        stretch: resize height and width each by itself; else the aspect is kept, on a black square.

    Raises:
        DataError: a name leads nowhere, or a folder holds no image.
        BadRowsError: files that hold no image; every one is listed.
    """
    files = [file for name in named for file in _files(Path(name))]
    bad: list[BadRow] = []
    deep = np.zeros(len(files), bool)
    resized, bits = 0, 8
    images = np.zeros((len(files), size, size), np.uint16)
    for row, file in enumerate(files):
        try:
            if problem := problem_of(file, MAX_BYTES):
                raise DataError(problem)
            pixels = decode_deep(file.read_bytes())
            deep[row] = pixels.dtype != np.uint8
            bits = max(bits, bits_of(int(pixels.max(initial=0))))
            resized += pixels.shape != (size, size)
            images[row] = fit(pixels, size, stretch=stretch)
        except OSError as error:
            bad.append(BadRow(row, str(file), f"cannot be read ({error.strerror})"))
        except DataError as error:
            bad.append(BadRow(row, str(file), str(error)))
    if bad:
        raise BadRowsError("the images", bad, len(files), f"name image files ({', '.join(SUFFIXES)})")
    if resized:
        LOG.warning("%d of %d images were resized to %d×%d", resized, len(files), size, size)
    images[deep] = to_8_bits(images[deep], bits)
    return Images(images.astype(np.uint8), tuple(map(str, files)))


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise DataError(f"there is no file {path}; name image files, or folders of them")
    if not path.is_dir():
        yield path
        return
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if not found:
        raise DataError(f"the folder {path} holds no image file; name one that does")
    yield from found
