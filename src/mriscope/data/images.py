"""Images without labels, as a user names them to ask a model."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mriscope.data.decoding import decode, resize
from mriscope.data.folders import SUFFIXES
from mriscope.errors import BadRow, BadRowsError, DataError

LOG = logging.getLogger("mriscope")


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size and where they came from.

    Args:
        images: uint8 (N, H, W).
        paths: str (N,), as their user named them.
    """

    images: np.ndarray
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_images(named: Sequence[str | Path], size: int) -> Images:
    """Read JPEG and PNG files, each brought to one size as `read` does.

    Args:
        named: files, or folders whose JPEG and PNG files are meant, those of folders within them too.
        size: height and width to reach, in pixels.

    Raises:
        DataError: a name leads nowhere, or a folder holds no image.
        BadRowsError: files that hold no image; every one is listed.
    """
    files = [file for name in named for file in _files(Path(name))]
    bad: list[BadRow] = []
    resized = 0
    images = np.zeros((len(files), size, size), np.uint8)
    for row, file in enumerate(files):
        try:
            pixels = decode(file.read_bytes())
            resized += pixels.shape != (size, size)
            images[row] = resize(pixels, size)
        except OSError as error:
            bad.append(BadRow(row, str(file), f"cannot be read ({error.strerror})"))
        except DataError as error:
            bad.append(BadRow(row, str(file), str(error)))
    if bad:
        raise BadRowsError("the images", bad, len(files), "name JPEG or PNG files")
    if resized:
        LOG.warning("%d of %d images were resized to %d×%d", resized, len(files), size, size)
    return Images(images, tuple(map(str, files)))


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise DataError(f"there is no file {path}; name JPEG or PNG files, or folders of them")
    if not path.is_dir():
        yield path
        return
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if not found:
        raise DataError(f"the folder {path} holds no JPEG or PNG file; name one that does")
    yield from found
