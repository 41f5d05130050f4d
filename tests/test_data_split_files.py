"""A split as a file: the same slices elsewhere are taken, all else is refused with a sentence."""

import json
import logging

import numpy as np
import pytest
from test_data_splits import cohort

from mriscope.data.slices import SliceSet
from mriscope.data.split_files import read_split_file, split_file
from mriscope.data.splits import PARTS, by_subject, split_record
from mriscope.errors import DataError


def noise(size: int = 4, seed: int = 0, labels=None) -> SliceSet:
    """A cohort whose slices differ, with paths in another order than rows."""
    plain = cohort()
    images = np.random.default_rng(seed).integers(0, 256, (len(plain), size, size), np.uint8)
    paths = [f"slice{(3 * row) % len(plain)}.png" for row in range(len(plain))]
    return SliceSet.of(images, plain.labels if labels is None else labels, subjects=plain.subjects, paths=paths)


@pytest.fixture
def written(tmp_path):
    slices = noise()
    split = by_subject(slices, seed=2)
    file = tmp_path / "split.json"
    split_file(slices, split, seed=2).write(file)
    return slices, split, file, json.loads(file.read_text())


def paths_of(slices: SliceSet, split) -> list[list[str]]:
    return [slices.paths[getattr(split, part)].tolist() for part in PARTS]


def test_a_split_is_read_back(written):
    slices, split, file, _ = written
    again = read_split_file(file, slices)
    assert again.protocol == "by_subject"
    assert paths_of(slices, again) == paths_of(slices, split)


def test_it_fits_the_same_slices_in_another_order_without_subjects_or_at_another_size(written, caplog):
    slices, split, file, _ = written
    turned = slices[::-1]
    assert paths_of(turned, read_split_file(file, turned)) == paths_of(slices, split)
    bare = SliceSet.of(slices.images, slices.labels, paths=slices.paths)
    assert paths_of(bare, read_split_file(file, bare)) == paths_of(slices, split)
    larger = noise(size=8)
    assert paths_of(larger, read_split_file(file, larger)) == paths_of(slices, split)
    assert not caplog.records


def test_slices_of_no_part_are_left_out_and_counted(written, caplog):
    slices, split, file, record = written
    for column in ("parts", "classes", "pixels"):
        record[column]["train"] = record[column]["train"][5:]
    file.write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING, "mriscope"):
        assert len(read_split_file(file, slices).train) == len(split.train) - 5
    assert "names 135 of the 140 slices; the others are left out" in caplog.text


def test_a_runs_split_fits_its_own_data_alone(written, tmp_path):
    slices, split, _, _ = written
    file = tmp_path / "run.json"
    split_record(slices, split, seed=2).write(file)
    assert paths_of(slices, read_split_file(file, slices)) == paths_of(slices, split)
    with pytest.raises(DataError, match="as it comes from a run it cannot be checked row by row"):
        read_split_file(file, noise(size=8))


def test_other_data_is_refused_by_its_content(written):
    slices, _, file, _ = written
    changed = np.array(slices.images)
    changed[8] += 1
    labels = np.array(slices.labels)
    labels[3:5] = 1
    for other, message in (
        (noise(seed=1), "140 of its 140 slices have other pixels here"),
        (SliceSet.of(changed, slices.labels, paths=slices.paths), r"1 of its 140 .* other pixels here, 'slice24\.png'"),
        (noise(labels=labels), "2 of its 140 slices have other classes here"),
        (noise(size=8, labels=labels), "2 of its 140 slices have other classes here"),
        (slices[:100], r"names 140 slices, and this source lacks 40 of them, 'slice"),
    ):
        with pytest.raises(DataError, match=message):
            read_split_file(file, other)


def test_a_row_in_two_parts_or_twice_is_named(written):
    slices, _, file, record = written
    name = record["parts"]["test"][0]
    for part, message in (("train", "in its train and its test part"), ("test", "twice in its test part")):
        twice = json.loads(json.dumps(record))
        for column in ("parts", "classes", "pixels"):
            twice[column][part].append(record[column]["test"][0])
        file.write_text(json.dumps(twice))
        with pytest.raises(DataError, match=f"has the slice '{name}' {message}"):
            read_split_file(file, slices)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is no valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "it is no valid JSON"),
        ("[]", "it should be an object; make one with `mriscope split`"),
        ('{"parts": {"train": [], "test": []}}', "data is missing, parts.validation is missing"),
        ('{"parts": {"train": [1], "validation": [], "test": []}, "data": "x"}', "parts.train.0 holds 1 and should be"),
        ('{"parts": {"train": [], "validation": [], "test": []}, "data": "x"}', "protocol is missing"),
        (
            '{"parts": {"train": [], "validation": [], "test": []}, "data": "x", "protocol": "ours"}',
            "protocol holds 'ours' and should be published, by_slice or by_subject",
        ),
        (
            '{"parts": {"train": ["a"], "validation": [], "test": []}, "data": "x", "protocol": "by_slice", '
            '"classes": {"train": [], "validation": [], "test": []}}',
            "classes.train should be as long as parts.train",
        ),
    ],
)
def test_what_is_no_split_is_refused(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_split_file(tmp_path / "x.json", noise())
    with pytest.raises(DataError, match="No such file"):
        read_split_file(tmp_path / "absent.json", noise())
