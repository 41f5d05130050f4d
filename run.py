#!/usr/bin/env python3
"""Every task of this project, on a machine that has only git and python3 >= 3.11.

    python3 run.py demo      what the package is for, on synthetic brains, in about a minute after the set-up
    python3 run.py test      all checks and tests (words after it go to pytest)

    python3 run.py soak      the tests of reliability at full length, about an hour (words after it go to pytest)
    python3 run.py setup     only make .venv ready; with --torch-index URL take torch of the locked version from that
                             index, such as PyTorch's own of builds for the CPU, and no CUDA libraries
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
CHOSEN_INDEX = VENV / "mriscope-torch-index.txt"
FROM_INDEX = ("torch", "torchvision")
"""Packages of which an index of PyTorch has builds without CUDA."""
REAL_SLICES = ROOT.parent / "shared" / "data" / "alzheimer_mri"
YOUNGEST_PACKAGE = "7 days"  # a poisoned release is usually found out within days


class SetupError(Exception):
    """What stops a task; its text is the whole message."""


def main(words: list[str]) -> int:
    tasks = {
        "demo": demo,
        "test": test,
        "soak": soak,
        "setup": lambda _: 0,  # done below, as before every task
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
        setup(torch_index(words))
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
    """Run the long versions of the tests that damage files and kill processes; docs/reliability.md has the figures.

    Further words go to pytest: `-n 0` for one process at a time, `-k killed` for a part.
    """
    os.chdir(ROOT)
    long = {"MRISCOPE_MUTATIONS": "10000", "MRISCOPE_SAVE_KILLS": "200", "MRISCOPE_KILLS": "20"}
    os.environ.update({name: value for name, value in long.items() if name not in os.environ})
    files = ("reliability", "kills", "training_loop", "sweep", "data_decoding", "training_options", "traversal")
    chosen = "damaged or killed or at_once or many_pixels or every_value or touches_nothing"
    shown = ("-rsP", "--durations=0", "--durations-min=1")  # what tests print are the figures
    return call(PYTHON, "-m", "pytest", *(f"tests/test_{name}.py" for name in files), "-k", chosen, *shown, *words)


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


def torch_index(words: list[str]) -> str | None:
    """Return the index of torch that `setup --torch-index URL` or MRISCOPE_TORCH_INDEX names; None: as locked."""
    if words[0] != "setup":
        return os.environ.get("MRISCOPE_TORCH_INDEX") or (CHOSEN_INDEX.read_text() if CHOSEN_INDEX.is_file() else None)
    match words[1:]:
        case []:
            return os.environ.get("MRISCOPE_TORCH_INDEX") or None
        case ["--torch-index", url] if re.match("https?://[^/]", url):
            return url
    raise SetupError(f"setup takes --torch-index URL, an address that begins with https://, and got {words[1:]}")


def setup(index: str | None) -> None:
    wanted = fingerprint(index)
    if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    if index is None:
        size = "7 GB, most of it PyTorch with CUDA, all locked by hash"
        if not has_gpu():
            size += "; no GPU is seen, and docs/howto/install.md says how to set up without CUDA"
    else:
        size = f"no CUDA: torch {locked_version('torch')} from {index}, the rest locked by hash"
    print(f"Setting up .venv: the first time takes a few minutes and {size} ...", file=sys.stderr)
    make_venv()
    CHOSEN_INDEX.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pinned_uv, lock = Path(folder, "uv.txt"), Path(folder, "requirements.txt")
        pinned_uv.write_text(locked_entry("uv"))
        lock.write_text(LOCK.read_text() if index is None else without_cuda(LOCK.read_text()))
        must(*pip(), "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", pinned_uv)
        for number, command in enumerate(install_commands(lock, index), start=1):
            print(f"step {number}: {' '.join(str(word) for word in command[1:3])}", file=sys.stderr)
            must(*command)  # uv shows what it downloads
    if index is not None:
        CHOSEN_INDEX.write_text(index)
    STAMP.write_text(wanted)


def install_commands(lock: Path, index: str | None) -> list[tuple[object, ...]]:
    """Return the commands that fill .venv: what is locked, torch of an index where one is named, the project itself."""
    into = (*UV_COMMON, "--python", PYTHON)
    alone = ("--no-deps", "--no-build-isolation", "--editable", ROOT)  # its build tools are in the lock too
    commands: list[tuple[object, ...]] = [(UV, "pip", "sync", *into, "--require-hashes", lock)]
    if index is not None:
        names = [f"{name}=={locked_version(name)}" for name in FROM_INDEX]
        commands.append((UV, "pip", "install", *into, "--no-deps", "--default-index", index, *names))
    return [*commands, (UV, "pip", "install", "--quiet", *into, *alone)]


def without_cuda(lock: str) -> str:
    """Return the lock without the packages that come from the index, and without those that only CUDA needs."""
    entries = re.split(r"\n(?=[a-z0-9])", lock)
    left_out = re.compile(rf"(?:{'|'.join(FROM_INDEX)}|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
    return "\n".join(entry for entry in entries if not left_out.match(entry)) + "\n"


def locked_version(name: str) -> str:
    return locked_entry(name).split("==", 1)[1].split()[0]


def has_gpu() -> bool:
    """Whether NVIDIA's driver is here."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def fingerprint(index: str | None) -> str:
    """Changes whenever .venv has to be made anew or brought up to date."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode()]
    parts += [] if index is None else [index.encode()]
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
