"""The environment of a run: versions, machine and commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from mriscope.results import Environment, ImportedWeights
from mriscope.version import __version__

PACKAGES = ("torch", "numpy", "pillow", "scikit-learn", "scipy")


def describe_environment(
    device: str,
    *,
    source: str | None = None,
    data: str | None = None,
    subjects_from: str | None = None,
    skip_bad: bool = False,
    imported: ImportedWeights | None = None,
    covariates: tuple[str, ...] = (),
) -> Environment:
    """Describe versions, machine and commit, beside what the caller knows of the data.

    Args:
        device: what computes, in words.
        source: the data, as mriscope.read takes it.
        data: fingerprint of the slices.
        subjects_from: how their subjects are known: manifest, source, pixels or unknown.
        skip_bad: whether unusable rows were left out.
        imported: where the weights came from, if another program trained them.
        covariates: that the source brings, such as age.
    """
    return Environment(
        mriscope=__version__,
        commit=_find_commit(),
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_find_processor(),
        cores=os.cpu_count(),
        device=device,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        source=None if source is None else source.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        data=data,
        subjects_from=subjects_from,
        skip_bad=skip_bad,
        imported=imported,
        covariates=covariates,
    )


def _find_commit() -> str | None:
    """Return the commit of mriscope's own checkout, with a "+" where files differ; None where it came as a package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _run_git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _run_git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _run_git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()


def _find_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
