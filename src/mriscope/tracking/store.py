"""The store of tracked runs: a server, or a database that is created where there is none."""

import errno
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mriscope.errors import MriscopeError
from mriscope.files import expand_home

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
# A server that hangs costs a run two waits of 10 s, once; a Retry-After header may not demand more.
_UNLESS_SET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SECONDS_TO_MAKE_A_DATABASE = 120
_SECONDS_TO_ANSWER = 5

# Warning filters, logging levels and the model that MLflow is handed belong to the process, not to a thread.
_mlflow_lock = threading.RLock()


def store_of(uri: str) -> str:
    """Return the URI that MLflow gets: the path of a SQLite file is absolute, as MLflow keeps open stores by their URI.

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
    return _sqlite_store(uri) if scheme == "sqlite" else uri


def _sqlite_store(uri: str) -> str:
    """Return the URI that SQLAlchemy takes for a file, whatever characters are in its path."""
    try:
        file = str(expand_home(uri.removeprefix("sqlite:///")).resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise MriscopeError(f"{uri!r} names no file ({error}); write a database as {LOCAL}") from error
    if not set("%?") & set(file):
        return f"sqlite:///{file}"
    import sqlalchemy

    for escaped in (file.replace("%", "%25").replace("?", "%3F"), file):  # SQLAlchemy 2.0 takes no escapes yet
        if sqlalchemy.make_url(f"sqlite:///{escaped}").database == file:
            return f"sqlite:///{escaped}"
    raise MriscopeError(f"SQLAlchemy opens no database in {file}, for its % or ?; name another with --track URI")


def sqlite_file(store: str) -> Path:
    """Return the file of a SQLite store, which `store_of` returned."""
    if "%" not in store:
        return Path(store.removeprefix("sqlite:///"))
    import sqlalchemy

    return Path(sqlalchemy.make_url(store).database or "")


def artifacts_uri(store: str) -> str:
    """Return the URI of the folder beside a SQLite store that holds the files of its runs."""
    return (sqlite_file(store).parent / "artifacts").as_uri()


def is_sqlite(store: str) -> bool:
    """Return whether a store is a SQLite file."""
    return store.startswith("sqlite:")


def connect(store: str, experiment: str) -> tuple["MlflowClient", str]:
    """Connect to a store; return a client and the id of an experiment, which is made where there is none.

    Any number of processes may come at once, also where the database is not there yet.

    Raises:
        MriscopeError: nothing answers there, or something that is not MLflow.
    """
    os.environ.update(ALWAYS | {name: value for name, value in _UNLESS_SET.items() if name not in os.environ})
    with translated_errors(store), _lock_store(store):  # several processes that fill a new database would break it
        _check_server(store, experiment)
        from mlflow import MlflowClient

        _check_database(store)
        client = MlflowClient(tracking_uri=store)
        return client, _experiment_id(client, store, experiment)


@contextmanager
def translated_errors(store: str) -> Iterator[None]:
    """Turn whatever MLflow raises within the block into one sentence, and silence its logs.

    Raises:
        MriscopeError: for an exception of any kind, as MLflow passes on what its parts raise.
    """
    try:
        with silenced_mlflow():
            yield
    except MriscopeError:
        raise
    except Exception as error:
        raise MriscopeError(
            f"nothing can be tracked in {redact(store)} ({root_cause(error)}); "
            "name a server or database that answers with --track URI, or train with --track none"
        ) from error


def _lock_store(store: str) -> AbstractContextManager[Any]:
    """Lock a SQLite store against our other processes; its folder is made."""
    if not is_sqlite(store):
        return nullcontext()
    file = sqlite_file(store)
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_name(f".{file.name}.lock"), timeout=_SECONDS_TO_MAKE_A_DATABASE)


def _check_server(store: str, experiment: str) -> None:
    """Raise soon for a server that takes MLflow's first question and never answers; MLflow would wait for 10 s, twice.

    Any answer will do: MLflow reads it better when it asks the same again.
    """
    if not store.startswith(("http://", "https://")):
        return
    import requests

    question = f"{store.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name"
    asked = {"experiment_name": experiment}
    with suppress(requests.RequestException):
        try:
            requests.get(question, asked, timeout=_SECONDS_TO_ANSWER, stream=True).close()
        except requests.Timeout as error:
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {_SECONDS_TO_ANSWER} s") from error


def _check_database(store: str) -> None:
    """Raise at once for a database that does not answer or is not MLflow's; MLflow would try for 90 seconds."""
    if store.split(":")[0].split("+")[0] not in _DATABASES:
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(store)
    try:
        tables = sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables and "alembic_version" not in tables:  # MLflow would put its own tables beside them
        raise MriscopeError(
            f"{redact(store)} is a database of something else (it has the table {tables[0]}); name another with "
            "--track URI"
        )


def _experiment_id(client: "MlflowClient", store: str, name: str) -> str:
    """Return the id of an experiment, which is made where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise MriscopeError(
            f"the experiment {name} in {redact(store)} was deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}` (MLFLOW_TRACKING_URI={redact(store)}), or name another database "
            "with --track URI"
        )
    if found is not None:
        return found.experiment_id
    beside = artifacts_uri(store) if is_sqlite(store) else None
    try:
        return client.create_experiment(name, beside)
    except MlflowException:  # another process may have been first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def redact(text: str) -> str:
    """Remove user names and passwords from a URI, or from a text that quotes one."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def root_cause(error: BaseException) -> str:
    """Return the text of the error that caused this one in the first place, on one line."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    while inner := [one for one in error.args if isinstance(one, BaseException)]:  # as urllib3 wraps what was reset
        error = inner[0]
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return redact(" ".join(text.partition(" Response body:")[0].split()))[:200]


@contextmanager
def silenced_mlflow() -> Iterator[None]:
    """Silence the logs and warnings of MLflow and its parts, within a block that one thread enters at a time."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    with _mlflow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [one.level for one in loggers]
        try:
            for one in loggers:
                one.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
