import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from mriscope.data.slices import SliceSet
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
