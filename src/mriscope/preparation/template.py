"""The MNI152 template at 2 mm, which volumes are registered to.

The MNI ICBM152 2009a nonlinear symmetric average (Fonov et al., NeuroImage 54, 2011), skull-stripped.
`mni152_2mm.LICENSE.txt` beside the array holds its notice and says what was changed.
"""

import zlib
from functools import lru_cache
from importlib.resources import files
from zipfile import BadZipFile

import numpy as np

from mriscope.errors import DataError
from mriscope.preparation.grids import Grid

TEMPLATE = "mni152_2mm.npz"
AFFINE = np.array([[2.0, 0, 0, -96], [0, 2, 0, -132], [0, 0, 2, -70], [0, 0, 0, 1]])  # from voxels to mm (RAS+)


@lru_cache(maxsize=1)
def load_template() -> Grid:
    """Return the template, 97 × 115 × 93 values in [0, 1]; 0 outside the brain.

    Raises:
        DataError: the package's template is missing or damaged.
    """
    path = files("mriscope.preparation") / TEMPLATE
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            left = np.cumsum(arrays["steps"], axis=1, dtype=np.uint8)  # it is stored as differences modulo 256
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is missing or damaged; install mriscope afresh") from error
    whole = np.concatenate([left, left[-2::-1]])  # the template is symmetric about x = 0
    return Grid(whole.astype(np.float32) / 255, AFFINE)
