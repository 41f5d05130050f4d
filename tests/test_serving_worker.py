"""The worker: requests that wait together are computed together, in order, and no more than may wait."""

import threading

import numpy as np
import pytest

from mriscope.serving.worker import AT_ONCE, BusyError, Worker


class Recorder:
    """A model whose answers tell each slice apart, and which waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(images))
        self.entered.set()
        assert self.go_on.wait(30)
        return images[:, 0, 0], images[:, 0, 0] + 100.0


def slices(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)


def test_slices_that_wait_are_computed_together_and_come_back_to_whom_they_belong():
    model = Recorder()
    with Worker(model) as worker:
        first = worker.predict(slices(1))
        assert model.entered.wait(30)
        others = [worker.predict(slices(value, value + 1)) for value in range(10, 30, 2)]
        model.go_on.set()
        assert [first.result(30)[0].tolist(), *(one.result(30)[0].tolist() for one in others)] == [
            *([1], *([value, value + 1] for value in range(10, 30, 2))),
        ]
        assert others[0].result()[1].tolist() == [110.0, 111.0]
    assert model.batches == [1, AT_ONCE, 4]  # ten pairs behind the first slice: eight, then two


def test_a_full_queue_refuses_and_the_rest_is_answered():
    model = Recorder()
    with Worker(model, waiting=2) as worker:
        first = worker.predict(slices(1))
        assert model.entered.wait(30)
        waiting = [worker.predict(slices(2)), worker.call(lambda: "called")]
        assert not worker.ready
        with pytest.raises(BusyError):
            worker.predict(slices(3))
        model.go_on.set()
        assert first.result(30)[0].tolist() == [1]
        assert [waiting[0].result(30)[0].tolist(), waiting[1].result(30)] == [[2], "called"]
        assert worker.ready
    assert not worker.ready


def test_a_failure_reaches_those_it_concerns_and_the_thread_goes_on():
    def fail(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if images.max() > 5:
            raise ValueError("too bright")
        return images[:, 0, 0], images[:, 0, 0]

    with Worker(fail) as worker:
        with pytest.raises(ValueError, match="too bright"):
            worker.predict(slices(9)).result(30)
        assert worker.predict(slices(3)).result(30)[0].tolist() == [3]
