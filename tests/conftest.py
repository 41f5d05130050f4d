"""What every test may use."""

import os

# One thread for each of the processes that share the tests; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from mriscope.data.phantom import make_phantom
from mriscope.data.readers import read
from mriscope.data.slices import SliceSet
from mriscope.workflows._subjects import with_known_subjects

hypothesis.settings.register_profile("suite", deadline=None)  # how long an example takes depends on the machine
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded slices are kept in a folder of the tests, of all their processes, never in the user's own cache."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRISCOPE_CACHE", str(shared / "cache"))
        patch.setenv("MRISCOPE_TRACK", "none")
        yield


@pytest.fixture(scope="session")
def real_slices_folder() -> Path:
    """The folder of the study's two parquet files."""
    folder = os.environ.get("MRISCOPE_DATA")
    if not folder:
        pytest.skip("the real slices are not here: set MRISCOPE_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def phantom_brains() -> SliceSet:
    """24 subjects of 32 slices, as many as it takes to tell their brains apart."""
    return make_phantom(24, 32, size=64).slices


@pytest.fixture(scope="session")
def real_slices(real_slices_folder: Path) -> SliceSet:
    """The study's slices with the subjects that the whole set gives."""
    return with_known_subjects(read(real_slices_folder), real_slices_folder)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of the compact network on a few synthetic brains of 32×32, to be served and exported."""
    from served import train_tiny

    return train_tiny(tmp_path_factory.mktemp("runs") / "tiny")
