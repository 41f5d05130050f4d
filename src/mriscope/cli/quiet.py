"""The option --quiet, which every command has."""

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, suppress
from functools import wraps
from typing import Annotated, Any

import typer

Quiet = Annotated[bool, typer.Option("--quiet", help="Show results and errors alone: no notes, no progress.")]


def add_quiet(app: typer.Typer) -> None:
    """Give each command of an app the option --quiet, which none of them has to know of."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_quiet(command.callback)


def _with_quiet(command: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(command)
    def run(*args: Any, quiet: bool = False, **options: Any) -> Any:
        with _without_notes() if quiet else nullcontext():  # ends before an error's sentence is printed
            return command(*args, **options)

    told = inspect.signature(command)
    option = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
    run.__dict__["__signature__"] = told.replace(parameters=[*told.parameters.values(), option])
    run.__annotations__ = {**command.__annotations__, "quiet": Quiet}
    return run


@contextmanager
def _without_notes() -> Iterator[None]:
    """Silence standard error, of this process and of those that it starts, and the notes of the logger."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, ExitStack() as stack:  # noqa: PTH123 - no path
        with suppress(OSError):  # there may be no standard error
            own = os.dup(2)
            stack.callback(os.close, own)
            stack.callback(os.dup2, own, 2)
            os.dup2(nowhere.fileno(), 2)
        stack.enter_context(redirect_stderr(nowhere))
        logging.disable(logging.WARNING)
        stack.callback(logging.disable, logging.NOTSET)
        yield
