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
    "explain",
    "explain-compare",
    "compare",
    "crossval",
    "split",
    "import-weights",
    "ui",
    "models",
)
PAGE = Path(__file__).with_name("cli.md")


def main() -> None:
    sections = [f"## mriscope {command}".rstrip() + f"\n\n```\n{help_of(command)}\n```\n" for command in COMMANDS]
    head = "# The command line\n\nMade from the program's own help by `python3 run.py docs`.\n"
    PAGE.write_text("\n".join([head, *sections]), encoding="utf-8")
    print(f"written: {PAGE.name}")


def help_of(command: str) -> str:
    program = "from mriscope.cli import main; main()"
    words = [sys.executable, "-c", program, *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb"}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.strip()


if __name__ == "__main__":
    main()
