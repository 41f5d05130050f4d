"""What each column of a table of predictions is, told by its name."""

import re
from collections.abc import Mapping

from mriscope.data.naming import as_word, part_of_folder
from mriscope.data.tables import ROLES, Table, find_column, known
from mriscope.errors import ArgumentError, DataError

NAMES = {
    "path": ROLES["path"],
    "label": (*ROLES["label"], "true", "truelabel", "trueclass", "ytrue", "target", "groundtruth", "actual", "gt"),
    "predicted": (
        *("predicted", "prediction", "pred", "predictedlabel", "predictedclass", "predlabel", "predclass"),
        *("ypred", "yhat", "output"),
    ),
    "subject": ROLES["subject"],
    "part": ROLES["part"],
    "score": ("probability", "prob", "proba", "score", "yscore", "yprob", "yproba"),
}
"""What columns are called that mean the same, as `as_word` reduces them."""
OF_IMAGES = ("image", "img", "imageid", "imagename", "id")
"""What the column of paths is called where none has a usual name."""
_TRAINED = re.compile(r"(is|in|was)?(train|training|trained|test|testing)(ing|set)?")


def find_roles(table: Table, given: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the column of path, label, predicted, subject, part and score; None where there is none.

    Args:
        table: the table.
        given: the column of a role that the user names, which has no other role then.

    Raises:
        ArgumentError: one column is named for two roles.
        DataError: a column is not there, or several may be of one role.
    """
    where, named = table.path, [column for column in given.values() if column is not None]
    if twice := [column for column in named if named.count(column) > 1]:
        raise ArgumentError(f"the column {twice[0]} of {where} is named for two things; name another for one of them")
    free = [column for column in table.columns if column not in named]
    roles = {
        role: find_column(role, table.columns if given.get(role) else free, given.get(role), where, usual)
        for role, usual in NAMES.items()
    }
    free = [column for column in free if column not in roles.values()]
    return {**roles, "path": roles["path"] or find_column("path", free, None, where, OF_IMAGES)}


def find_part(table: Table, roles: Mapping[str, str | None]) -> str | None:
    """Return the column without another role whose cells all name parts, whatever it is called; None without one.

    Raises:
        DataError: there are several, or a column such as is_train tells parts by yes and no.
    """
    cells = {name: {known(row[name]) for row in table.rows} for name in table.columns if name not in roles.values()}
    parts = [name for name, found in cells.items() if all(map(part_of_folder, found))]
    if len(parts) > 1:
        raise DataError(f"{table.path} has the columns {' and '.join(parts)}, and each may be the part; call one part")
    flags = [name for name, found in cells.items() if _TRAINED.fullmatch(as_word(name)) and len(found) <= 2]
    if flags and not parts:
        raise DataError(
            f"{table.path} has a column {flags[0]}, as if some rows were trained on, and none called part; give it a "
            "column part of train, validation and test, as training rows are not evaluated"
        )
    return parts[0] if parts else None
