"""The page on which a model is asked: one source, for `mriscope serve` and for exports that need no server.

Its parts in the folder page_files/ go out as they are. `page.js` asks whatever `backend.js` provides: the server
(`backend_server.js`), or a graph in the browser itself (`backend_browser.js`).
"""

import base64
import json
from importlib.resources import files

_SOURCE = files("mriscope.reports") / "page_files"
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
EXAMPLES = ("phantom-1.png", "phantom-2.png", "phantom-volume.nii.gz")
"""Synthetic brains to click."""
BROWSER_PARTS = ("decode.js", "volumes.js", "backend_browser.js")
"""What stands for backend.js in an export, in the order of loading."""
BROWSER_POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'"
)
"""No connection at all; the runtime's glue is a script that the page makes itself (blob:)."""


def page_files() -> dict[str, bytes]:
    """Return the files that every page needs, by name."""
    names = ("index.html", "style.css", "page.js")
    return {**{name: page_part(name) for name in names}, "examples.js": _examples()}


def browser_page(scripts: list[str]) -> dict[str, bytes]:
    """Return the files of a page that asks a graph in the browser.

    Args:
        scripts: names of the files that hold the graph and its runtime, in the order of loading.
    """
    tags = "\n".join(f'<script src="{name}" defer></script>' for name in scripts)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{BROWSER_POLICY}">'
    found = page_files()
    page = found["index.html"].decode().replace("<!-- policy -->", policy).replace("<!-- scripts -->", tags)
    return {**found, "index.html": page.encode(), "backend.js": b"\n".join(map(page_part, BROWSER_PARTS))}


def page_part(name: str) -> bytes:
    """Return one file of the source."""
    return (_SOURCE / name).read_bytes()


def served_page() -> dict[str, tuple[bytes, str]]:
    """Return what the server shows, by path: content and media type."""
    found = page_files()
    found |= {"backend.js": page_part("backend_server.js"), "docs.js": page_part("docs.js")}
    shown = {f"/{name}": (content, _KINDS[name.rpartition(".")[2]]) for name, content in found.items()}
    shown["/"] = shown.pop("/index.html")
    shown["/docs"] = page_part("docs.html"), "text/html"
    return shown


def as_script(variable: str, value: object) -> bytes:
    """Return a script that holds a value, as pages on a disk may load scripts and nothing else.

    Example:
        >>> as_script("SIZE", 3).decode().splitlines()
        ['"use strict";', 'window.SIZE = 3;']
    """
    text = json.dumps(value).replace("<", "\\u003c")
    return f'"use strict";\nwindow.{variable} = {text};\n'.encode()


def _examples() -> bytes:
    contents = {name: (_SOURCE / "examples" / name).read_bytes() for name in EXAMPLES}
    return as_script("EXAMPLES", {name: base64.b64encode(one).decode() for name, one in contents.items()})
