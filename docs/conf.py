"""How Sphinx makes the site of docs/: `python3 run.py docs` writes it to docs/_build."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

project = "mriscope"
author = "The mriscope authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "mriscope"
html_show_copyright = False
myst_heading_anchors = 3  # links to headings are checked as links to pages are
autodoc_typehints = "none"  # signatures hold them already
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
suppress_warnings = ["myst.strikethrough"]


def setup(app: Any) -> None:
    """Let docstrings, which are plain text, pass as reStructuredText."""
    app.connect("autodoc-process-docstring", _escape)


def _escape(_app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Make `code` literal, and * and | and a trailing _ plain characters, outside examples."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            literal = re.sub(r"`([^`]+)`", r"``\1``", line)
            lines[place] = re.sub(r"(?<![`*\\])(\*|_\b|\|)(?!\*)", r"\\\1", literal)
