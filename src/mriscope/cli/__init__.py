"""The command line: each command reads its arguments, calls one function and prints.

Nothing heavy is imported before a command needs it, so that --help answers at once.
"""

import sys
from typing import Annotated, cast

import typer

from mriscope.cli.beside import app as other_commands
from mriscope.cli.console import ReaderGoneError, set_up_streams, silence
from mriscope.cli.data import app as data_commands
from mriscope.cli.data import data_app
from mriscope.cli.deployment import app as deployment_commands
from mriscope.cli.explanations import app as explanation_commands
from mriscope.cli.preparation import app as preparation_commands
from mriscope.cli.quiet import add_quiet
from mriscope.cli.runs import app as run_commands
from mriscope.cli.studies import app as study_commands
from mriscope.errors import InterruptedTrainingError, MriscopeError
from mriscope.files import visible
from mriscope.progress import show_notes

# The common kind of every mistake on the command line; typer carries it under a private name.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="mriscope",
    help="Train, rank, explain and honestly evaluate dementia classifiers on brain-MRI slices.\n\n"
    "A research tool, not a medical device: nothing it prints is a diagnosis.",
    epilog="Begin with: mriscope demo",
    rich_markup_mode=None,
)
for group in (
    data_commands,
    preparation_commands,
    run_commands,
    deployment_commands,
    explanation_commands,
    study_commands,
    other_commands,
):  # as --help lists them
    add_quiet(group)
    app.add_typer(group)
add_quiet(data_app)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; a user's mistake is a sentence on stderr and exit code 2."""
    set_up_streams()
    show_notes()
    sys.exit(_run_app(sys.argv[1:]))


def _run_app(words: list[str]) -> int:
    if not words or words == ["data"]:
        words = [*words, "--help"]
    try:
        code = app(words, prog_name="mriscope", standalone_mode=False) or 0
        sys.stdout.flush()  # what cannot be written is an error now, not when the program has ended
        return code
    except UsageError as error:
        message = error.format_message().replace("Value error, ", "")  # typer's own prefix for a wrong choice
        command = error.ctx.command_path if error.ctx else "mriscope"
        return _fail(f"{message} ({command} --help shows how)", 2)
    except InterruptedTrainingError as error:
        return _fail(str(error), 128 + error.signal)
    except MriscopeError as error:
        return _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except ReaderGoneError:
        silence(sys.stdout)
        return 141  # as of a program that SIGPIPE ended
    except OSError as error:
        silence(sys.stdout)
        return _fail(f"{error.filename or 'the output, or a file'}: {error.strerror or error}", 2)


def _fail(message: str, code: int) -> int:
    print(f"mriscope: {visible(message)}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from mriscope.version import __version__

        print(__version__)
        raise typer.Exit
