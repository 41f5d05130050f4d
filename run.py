#!/usr/bin/env python3
"""Every task of this project, on a machine that has only git and python3 >= 3.11.

    python3 run.py demo      what the package is for, on synthetic brains, in about a minute after the set-up
    python3 run.py test      all checks and tests (words after it go to pytest)

    python3 run.py soak      the tests of reliability at full length, about an hour (words after it go to pytest)
    python3 run.py setup     only make .venv ready
    python3 run.py check     ruff, the type checker, the import contracts
    python3 run.py lock      resolve requirements.lock anew
    python3 run.py docs      write docs/cli.md from the program's own help, and the site to docs/_build/html
    python3 run.py serve     show the folder runs/ (or the one named) in a browser, on this machine only
    python3 run.py bench     run the measurements in benchmarks/ (or the one named)
    python3 run.py results   write docs/results.md from the run directories under runs/ (or those in the folder named)
    python3 run.py notebooks run the notebooks (or the one named) from top to bottom, and keep their outputs

Each task first makes the virtual environment .venv ready: a pinned uv, then every
package of requirements.lock, each checked against its hash, then the project itself.
A stamp in .venv makes the next call start at once. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "mriscope-setup.stamp"
REAL_SLICES = ROOT.parent / "shared" / "data" / "alzheimer_mri"
YOUNGEST_PACKAGE = "7 days"  # a poisoned release is usually found out within days


class SetupError(Exception):
    """What stops a task; its text is the whole message."""


def main(words: list[str]) -> int:
    tasks = {
        "demo": demo,
        "test": test,
        "soak": soak,
        "setup": lambda _: 0,
        "check": check,
        "lock": lock,
        "docs": docs,
        "serve": serve,
        "bench": bench,
        "results": results,
        "notebooks": notebooks,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    task = tasks.get(words[0])
    if task is None:
        print(f"run.py: no task is called {words[0]!r}; choose one of {', '.join(tasks)}", file=sys.stderr)
        return 2
    try:
        setup()
        return task(words[1:])
    except SetupError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demo(words: list[str]) -> int:
    return call(BIN / "mriscope", "demo", *words)


def test(words: list[str]) -> int:
    os.chdir(ROOT)
    return check([]) or call(PYTHON, "-m", "pytest", *words)


def soak(words: list[str]) -> int:
    """Run the long versions of the tests that damage files and kill processes; docs/reliability.md has the figures."""
    os.chdir(ROOT)
    long = {"MRISCOPE_MUTATIONS": "10000", "MRISCOPE_SAVE_KILLS": "200", "MRISCOPE_KILLS": "20"}
    os.environ.update({name: value for name, value in long.items() if name not in os.environ})
    files = ("reliability", "kills", "training_loop", "sweep")
    chosen = ("-k", "damaged or killed or at_once", "--durations=0", "--durations-min=1")
    return call(PYTHON, "-m", "pytest", *(f"tests/test_{name}.py" for name in files), *(words or chosen))


def check(_: list[str]) -> int:
    os.chdir(ROOT)
    return (
        call(BIN / "ruff", "check", ".")
        or call(BIN / "ruff", "format", "--check", ".")
        or call(BIN / "basedpyright", "--level", "warning")
        or call(BIN / "lint-imports")
    )


def lock(_: list[str]) -> int:
    os.chdir(ROOT)
    return call(*UV_COMPILE, "--output-file", LOCK.name, "--upgrade")


def docs(_: list[str]) -> int:
    source, site = ROOT / "docs", ROOT / "docs" / "_build" / "html"
    sphinx = (
        PYTHON,
        "-m",
        "sphinx",
        "--builder",
        "html",
        "--fail-on-warning",
        "--keep-going",
        "--fresh-env",
        "--quiet",
    )
    code = call(PYTHON, source / "make_cli_page.py") or call(*sphinx, source, site)
    if code == 0:
        print(f"begin with {site / 'index.html'}")
    return code


def serve(words: list[str]) -> int:
    folder = Path(words[0] if words else "runs")
    if not folder.is_dir():
        raise SetupError(f"there is no folder {folder} to show; name one that holds runs or reports")
    return call(PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "8000")


def bench(words: list[str]) -> int:
    folder = ROOT / "benchmarks"
    scripts = [folder / f"{name}.py" for name in words] or sorted(folder.glob("*.py"))
    return max((call(PYTHON, script) for script in scripts), default=0)


def results(words: list[str]) -> int:
    return call(PYTHON, ROOT / "docs" / "make_results_page.py", *words)


def notebooks(words: list[str]) -> int:
    folder = ROOT / "notebooks"
    files = [folder / f"{name}.ipynb" for name in words] or sorted(folder.glob("*.ipynb"))
    return call(BIN / "jupyter-execute", "--inplace", "--NotebookClient.record_timing=False", *files)


def call(*command: object) -> int:
    """Run one program in the caller's folder, with the real slices named when they are there."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    if REAL_SLICES.is_dir():
        environment.setdefault("MRISCOPE_DATA", str(REAL_SLICES))
    return subprocess.run([str(word) for word in command], env=environment).returncode


# Making .venv ready


UV = BIN / ("uv.exe" if os.name == "nt" else "uv")
# The system's certificates, as pip and git use them: behind a company's proxy, those of uv itself do not fit.
UV_COMMON = ("--system-certs",)
UV_COMPILE = (
    *(
        UV,
        "pip",
        "compile",
        "--quiet",
        *UV_COMMON,
        "pyproject.toml",
        "--group",
        "dev",
        "--all-extras",
        "--python-version",
        "3.11",
    ),
    *("--universal", "--generate-hashes", "--no-header", "--exclude-newer", YOUNGEST_PACKAGE),
)


def setup() -> None:
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    print(
        "Setting up .venv: the first time takes a few minutes and 7 GB, most of it PyTorch with CUDA, locked by hash "
        "(docs/howto/install.md has a way without) ...",
        file=sys.stderr,
    )
    make_venv()
    with tempfile.TemporaryDirectory() as folder:
        pinned_uv = Path(folder, "uv.txt")
        pinned_uv.write_text(locked_entry("uv"))
        must(*pip(), "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", pinned_uv)
    must(UV, "pip", "sync", *UV_COMMON, "--python", PYTHON, "--require-hashes", LOCK)  # shows what it downloads
    # The build tools are in the lock too, so nothing unpinned is fetched to install the project.
    must(
        UV,
        "pip",
        "install",
        "--quiet",
        *UV_COMMON,
        "--python",
        PYTHON,
        "--no-deps",
        "--no-build-isolation",
        "--editable",
        ROOT,
    )
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """Changes whenever .venv has to be made anew or brought up to date."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def make_venv() -> None:
    if sys.version_info < (3, 11):
        raise SetupError(f"this is Python {sys.version.split()[0]}; Python 3.11 or newer is needed")
    STAMP.unlink(missing_ok=True)
    if VENV.is_dir() and not usable():
        shutil.rmtree(VENV)
    if not VENV.is_dir():
        has_pip = subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode == 0
        must(sys.executable, "-m", "venv", *(() if has_pip else ("--without-pip",)), VENV)


def usable() -> bool:
    """Whether .venv holds a Python of this very version that starts."""
    try:
        probe = [str(PYTHON), "-c", "import sys; print(sys.version)"]
        return subprocess.run(probe, capture_output=True, text=True).stdout.strip() == sys.version.strip()
    except OSError:
        return False


def pip() -> tuple[object, ...]:
    """The pip of .venv, or where the system ships none with venv, the system's own pip aimed at .venv."""
    for command in ((PYTHON, "-m", "pip"), (sys.executable, "-m", "pip", "--python", PYTHON)):
        if subprocess.run([*map(str, command), "--version"], capture_output=True).returncode == 0:
            return command
    if subprocess.run([str(PYTHON), "-m", "ensurepip"], capture_output=True).returncode == 0:
        return (PYTHON, "-m", "pip")
    raise SetupError("this Python comes without pip; install your system's python3-venv or python3-pip package")


def locked_entry(name: str) -> str:
    """The lines of requirements.lock that pin one package, with its hashes."""
    entry = re.search(rf"^{name}==.*(?:\n    --hash=.*)+", LOCK.read_text(), re.MULTILINE)
    if entry is None:
        raise SetupError(f"requirements.lock pins no {name}; it is damaged: take it from git again")
    return entry.group()


def must(*command: object) -> None:
    words = [str(word) for word in command]
    if subprocess.run(words, cwd=ROOT).returncode != 0:
        raise SetupError(f"this step of the set-up failed, what stands above says why: {' '.join(words)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
