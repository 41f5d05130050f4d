"""Where runs are tracked: a server, or a database that is made where there is none."""

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mriscope.errors import MriscopeError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL = "sqlite:///mlruns/mlflow.db"
NONE = "none"
EXPERIMENT = "mriscope"

# What MLflow reads from the environment; set before it is imported.
ALWAYS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # it would copy the project of whoever trains into the model
}
# A server that hangs costs a run two waits of 10 s, once; a Retry-After header may not ask for more.
_UNLESS_SET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
_CHATTY = ("mlflow", "alembic", "sqlalchemy", "urllib3")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SECONDS_TO_MAKE_A_DATABASE = 120

# Warning filters, logging levels and the model that MLflow is handed belong to the process, not to a thread.
_one_thread = threading.RLock()


def store_of(uri: str) -> str:
    """The URI that MLflow gets: the path of a SQLite file is made absolute, as MLflow keeps open stores by their URI.

    Args:
        uri: of a server, such as http://localhost:5000, or of a database, such as sqlite:///mlruns/mlflow.db.

    Raises:
        MriscopeError: it is neither.
    """
    scheme, there, place = uri.partition("://")
    if not there or not place.strip("/") or scheme == "file" or place == "/:memory:":
        raise MriscopeError(
            f"{uri!r} is no place to track runs in; write a server as http://localhost:5000, a database as {LOCAL}, "
            f"or {NONE}"
        )
    return f"sqlite:///{sqlite_file(uri)}" if scheme == "sqlite" else uri


def sqlite_file(uri: str) -> Path:
    """The file of a SQLite URI, as an absolute path."""
    return Path(uri.removeprefix("sqlite:///")).expanduser().resolve()


def artifacts_of(store: str) -> str:
    """Where the files of runs in a SQLite store lie: a folder beside it, as a URI."""
    return (sqlite_file(store).parent / "artifacts").as_uri()


def is_sqlite(store: str) -> bool:
    return store.startswith("sqlite:")


def connect(store: str, experiment: str) -> tuple["MlflowClient", str]:
    """A client of a store, and the id of an experiment, which is made where there is none.

    Any number of processes may come at once, also where the database is not there yet.

    Raises:
        MriscopeError: nothing answers there, or something that is not MLflow.
    """
    os.environ.update(ALWAYS | {name: value for name, value in _UNLESS_SET.items() if name not in os.environ})
    with answering(store), _alone(store):  # of several processes that fill a new database at once, one would live
        from mlflow import MlflowClient

        _check_database(store)
        client = MlflowClient(tracking_uri=store)
        return client, _experiment(client, store, experiment)


@contextmanager
def answering(store: str) -> Iterator[None]:
    """Makes one sentence of whatever MLflow raises within the block, and keeps it quiet.

    Raises:
        MriscopeError: for an exception of any kind, as MLflow passes on what its parts raise.
    """
    try:
        with quietly():
            yield
    except MriscopeError:
        raise
    except Exception as error:
        raise MriscopeError(
            f"nothing can be tracked in {shown(store)} ({reason(error)}); "
            "name a server or database that answers with --track URI, or train with --track none"
        ) from error


def _alone(store: str) -> AbstractContextManager[Any]:
    """Holds a SQLite store against our other processes; the folder it lies in is made."""
    if not is_sqlite(store):
        return nullcontext()
    file = sqlite_file(store)
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_name(f".{file.name}.lock"), timeout=_SECONDS_TO_MAKE_A_DATABASE)


def _check_database(store: str) -> None:
    """Raise for a database that does not answer, at once; MLflow would ask ten times within a minute and a half."""
    if store.split(":")[0].split("+")[0] not in _DATABASES:
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(store)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _experiment(client: "MlflowClient", store: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    beside = artifacts_of(store) if is_sqlite(store) else None
    try:
        return client.create_experiment(name, beside)
    except MlflowException:  # another process may have been first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def shown(text: str) -> str:
    """A URI, or a text that quotes one, without user names and passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def reason(error: BaseException) -> str:
    """What was at the bottom of an error, on one line."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    while inner := [one for one in error.args if isinstance(one, BaseException)]:  # as urllib3 wraps what was reset
        error = inner[0]
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return shown(" ".join(text.split()))[:200]


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps what MLflow and its parts have to say off the screen, within a block that one thread enters at a time."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    with _one_thread, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [one.level for one in loggers]
        try:
            for one in loggers:
                one.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
