import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mriscope.data.slices import SliceSet
from mriscope.models import nearest_neighbour
from mriscope.models.nearest_neighbour import NearestNeighbour

RNG = np.random.default_rng(0)


def slices(count, size=16):
    return SliceSet.of(RNG.integers(0, 256, (count, size, size), np.uint8), RNG.integers(0, 4, count))


def fitted(known):
    model = NearestNeighbour(classes=4, size=16)
    model.fit(known, seed=0)
    return model


def test_it_is_scikit_learns_nearest_neighbour():
    known, asked = slices(60), slices(700)
    flat = [one.images.reshape(len(one), -1).astype(float) for one in (known, asked)]
    theirs = KNeighborsClassifier(1).fit(flat[0], known.labels).predict(flat[1])
    ours = fitted(known).predict_probabilities(asked)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, np.eye(4)[theirs])


def test_it_knows_its_own_slices_by_heart():
    known = slices(30)
    np.testing.assert_array_equal(fitted(known).predict_probabilities(known).argmax(axis=1), known.labels)


def test_an_empty_model_is_filled_from_another_ones_state():
    known, asked = slices(30), slices(9)
    model = fitted(known)
    other = NearestNeighbour(classes=4, size=16)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.predict_probabilities(asked), model.predict_probabilities(asked))
    assert torch.equal(other.images, torch.from_numpy(known.images.copy()))


@pytest.mark.parametrize("by_bytes", [True, False])
def test_products_of_bytes_and_of_floats_find_the_same(by_bytes: bool, monkeypatch: pytest.MonkeyPatch):
    known, asked = slices(60).images.copy(), slices(40).images.copy()
    known[:, :4], known[0, 5:], asked[1, 5:] = 0, 255, 255  # black everywhere, and white
    known[7] = asked[0] = known[3]
    monkeypatch.setattr(nearest_neighbour, "_multiplies_bytes", lambda _: by_bytes)
    found = fitted(SliceSet.of(known, np.zeros(60, np.int64))).find_nearest(asked).numpy()
    squares = ((asked[:, None].astype(int) - known) ** 2).sum(axis=(2, 3))
    np.testing.assert_array_equal(found, squares.argmin(axis=1))
    assert found[0] == 3  # the first of two that are equal


def test_distances_of_bytes_do_not_overflow():
    known = SliceSet.of(np.stack([np.full((360, 360), level, np.uint8) for level in (0, 255, 127)]), [0, 1, 2])
    rank = nearest_neighbour._rank_by_bytes(torch.from_numpy(known.images.copy()).flatten(1))
    size = 360**2
    asked = torch.zeros(1, size, dtype=torch.uint8)
    assert (rank(asked) + 128**2 * size).tolist() == [[0, 255**2 * size, 127**2 * size]]
