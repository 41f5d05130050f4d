"""Write docs/cli.md: the help of every command, as the program itself prints it."""

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "",
    "demo",
    "data info",
    "data fetch",
    "prepare",
    "audit",
    "train",
    "evaluate",
    "predict",
    "export",
    "serve",
    "explain",
    "explain-compare",
    "compare",
    "crossval",
    "compare-crossval",
    "split",
    "import-weights",
    "ui",
    "models",
    "recipes",
)
HEAD = """# The command line

Made from the program's own help by `python3 run.py docs`.

Every command takes `--quiet`: results on standard output and errors stay, notes and progress go. Each that prints a
table takes `--json`. Colours go where `NO_COLOR` is set or the output is no terminal. `mriscope --install-completion`
installs completion for the shell that runs: commands, options, and the values of options that take one of a few.

| exit code | meaning |
|---:|---|
| 0 | done; of `audit` and `evaluate CSV`: each test slice is proven to be of another subject than those of training |
| 1 | of `compare`: the ranking is written, but a recipe failed, which it names |
| 2 | a mistake in what was given; one sentence on standard error says what and how to mend it |
| 3 | of these: the split is leaky, a test slice is proven to be of a subject of training, or a copy |
| 4 | of these: for some test slice that cannot be told, or nothing says what trained the model |
| 5 | of `audit`: no split was audited |
| 130 | interrupted by Ctrl-C (143 by SIGTERM); a training run goes on with the same command |
| 141 | who read the output closed it, as `head` does |

`python3 run.py TASK` answers a mistake with 2, a failed set-up with 1, and else with the code of the task.
"""
PAGE = Path(__file__).with_name("cli.md")


def main() -> None:
    sections = [f"## mriscope {command}".rstrip() + f"\n\n```\n{help_of(command)}\n```\n" for command in COMMANDS]
    PAGE.write_text("\n".join([HEAD, *sections]), encoding="utf-8")
    print(f"written: {PAGE.name}")


def help_of(command: str) -> str:
    program = "from mriscope.cli import main; main()"
    words = [sys.executable, "-c", program, *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb"}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.strip()


if __name__ == "__main__":
    main()
