"""Classification tasks made of the four classes: some classes are joined, and their probabilities summed."""

from dataclasses import replace

import numpy as np

from mriscope.data.slices import CLASS_NAMES, SEVERITY
from mriscope.errors import DataError, UnknownNameError
from mriscope.evaluation.predictions import Predictions

_NON, _VERY_MILD, _MILD, _MODERATE = SEVERITY
TASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "four_classes": {name: (name,) for name in CLASS_NAMES},
    "three_classes": {
        _NON: (_NON,),
        _VERY_MILD: (_VERY_MILD,),
        "Mild_or_Moderate_Demented": (_MILD, _MODERATE),
    },
    "non_vs_demented": {_NON: (_NON,), "Demented": (_VERY_MILD, _MILD, _MODERATE)},
}
"""The classes of each task, and which of the field's four each is made of; joined classes rise in severity."""


def to_task(predictions: Predictions, task: str) -> Predictions:
    """Return predictions in the classes of a task.

    The probability of a joined class is the sum over what it is made of. The predicted class is the most probable of
    the task's, which need not be the one that holds the most probable of the four.

    Args:
        predictions: in the field's four classes, in any order.
        task: "four_classes", "three_classes" (Mild and Moderate joined) or "non_vs_demented".

    Raises:
        UnknownNameError: there is no such task.
        DataError: the classes are not the field's four.
    """
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    if set(predictions.class_names) != set(CLASS_NAMES):
        raise DataError(
            f"the task {task} is made of the classes {', '.join(CLASS_NAMES)}, and these predictions have "
            f"{', '.join(predictions.class_names)}; evaluate them in their own classes, without a task"
        )
    members = list(TASKS[task].values())
    belongs = np.array([[name in joined for joined in members] for name in predictions.class_names])
    return replace(
        predictions,
        labels=belongs.argmax(axis=1)[predictions.labels].astype(np.int64),
        probabilities=(predictions.probabilities.astype(np.float64) @ belongs).astype(np.float32),
        class_names=tuple(TASKS[task]),
        severity=None,  # the names of every task tell it
    )
