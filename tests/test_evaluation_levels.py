import json
from typing import Any

import numpy as np
import pytest

from mriscope.errors import DataError, MriscopeError
from mriscope.evaluation.calibration import fit_temperature
from mriscope.evaluation.delong import delong_interval
from mriscope.evaluation.intervals import summary
from mriscope.evaluation.levels import Question, answer, judgement
from mriscope.evaluation.metrics import severity_error
from mriscope.evaluation.pooling import choose_pooling, pool_by_subject
from mriscope.evaluation.predictions import Predictions
from mriscope.evaluation.tasks import to_task


def slices(seed: int, subjects: int = 20, known: bool = True) -> Predictions:
    """Five slices of each subject, of all four classes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(random.permutation(np.arange(subjects) % 4), 5)
    scores = np.exp(random.normal(size=(5 * subjects, 4)) + 1.5 * np.eye(4)[labels])
    numbers = np.repeat(np.arange(subjects), 5) if known else None
    return Predictions.of(labels, scores / scores.sum(axis=1, keepdims=True), subjects=numbers)


def test_slices_in_their_own_classes_are_judged_as_they_are() -> None:
    p = slices(0, known=False)
    given = answer(Question(), p, slices(1, known=False))
    assert given.judged is p
    assert given.pooling is None
    found = judgement(Question(), given, resamples=20)
    own = summary(p, resamples=20)
    assert {name: found[name] for name in own} == own
    assert (found["level"], found["task"], found["pooling"]) == ("slice", None, None)
    assert found["severity"]["severity_error"]["value"] == severity_error(p)
    assert found["calibration"]["temperature"] == fit_temperature(slices(1))


@pytest.mark.parametrize("task", [None, "three_classes", "non_vs_demented"])
def test_subjects_are_pooled_in_the_classes_of_the_task_as_validation_says(task: str | None) -> None:
    p, validation = slices(0), slices(1)
    question = Question("subject", task)
    given = answer(question, p, validation)
    tested, held = (to_task(one, task) if task else one for one in (p, validation))
    how = choose_pooling(held)
    assert given.pooling == how
    expected = pool_by_subject(tested, how)
    np.testing.assert_array_equal(given.judged.probabilities, expected.probabilities)
    found = judgement(question, given, resamples=20)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["n_slices"], found["n_subjects"], found["interval"]["unit"]) == (100, 20, "subject")
    assert sum(one["n_slices"] for one in found["classes"].values()) == 100
    assert sum(one["n_subjects"] for one in found["classes"].values()) == 20
    assert (
        found["classes"]["Non_Demented"]["auroc_delong"]["low"]
        == delong_interval(expected, expected.class_names.index("Non_Demented")).low
    )
    assert found["calibration"]["temperature"] == fit_temperature(pool_by_subject(held, how))
    assert (found["severity"] is None) == (task == "non_vs_demented")


def test_a_way_that_is_named_needs_no_validation() -> None:
    question = Question("subject", pooling="majority")
    for validation in (None, slices(1).of_part("validation"), slices(1, known=False)):
        given = answer(question, slices(0), validation)
        assert given.pooling == "majority"
        assert given.validation is None
        found = judgement(question, given, resamples=5)
        assert found["pooling"] == {"how": "majority", "chosen": False, "divided_subjects": 0}
        assert found["calibration"]["after"] is None
        for asked in (Question("subject"), Question("subject", pooling="chosen")):
            with pytest.raises(
                DataError, match=r"no validation part with known subjects.* name it with --pooling: mean"
            ):
                answer(asked, slices(0), validation)


def test_subjects_must_be_known() -> None:
    with pytest.raises(DataError, match="the subject of 100 of 100 slices is unknown"):
        answer(Question("subject"), slices(0, known=False), slices(1, known=False))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"level": "brain"}, "there is no level 'brain'"),
        ({"task": "two"}, "there is no task 'two'"),
        ({"level": "subject", "pooling": "median"}, "there is no way of pooling 'median'"),
        ({"pooling": "majority"}, "--pooling majority goes with --level subject"),
    ],
)
def test_an_unfit_question_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        Question(**words)
