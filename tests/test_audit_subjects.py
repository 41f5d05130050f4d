from pathlib import Path

import numpy as np

from mriscope.audit.subjects import recover_subjects
from mriscope.data.readers import read


def test_random_images_have_no_clear_gap():
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32), np.uint8)
    found = recover_subjects(images)
    assert not found.clear
    assert found.subjects.tolist() == list(range(200))


def test_the_real_slices_are_200_subjects_of_32(real_slices_folder: Path):
    found = recover_subjects(read(real_slices_folder).images)
    assert found.clear
    assert np.bincount(found.subjects).tolist() == [32] * 200
