"""Everything that needs a GPU, in one call: rows of the study, BaselineCNN's epoch, explanations, audit, tests.

    python3 benchmarks/gpu.py --prepare                 here: fill .gpu_data/, which travels
    python3 benchmarks/gpu.py --out FOLDER --budget-s 530    there
    python3 benchmarks/gpu.py --out FOLDER --quick      on a CPU: one epoch each, small sets

It needs python3 with torch, torchvision, timm, pyarrow, scikit-learn, pillow, matplotlib and pydantic, and src/ of this
checkout on PYTHONPATH; nothing is installed. Parts run in the order of PARTS, or those that --parts names; one that
fails prints its traceback and stops no other. After each part FOLDER holds gpu.json, gpu.md and runs.zip, the run
directories without weights: unpack them to a folder and give it to `python3 run.py results`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from on_gpu.accuracy import measure_accuracy
from on_gpu.auditing import BASE, measure_audit
from on_gpu.baseline import measure_baseline
from on_gpu.explaining import measure_explain
from on_gpu.rows import carried_commit, pack_runs, run_best, run_choice, run_long_row, run_short_rows
from on_gpu.setting import ROOT, Setting
from pyarrow import parquet

from mriscope.environment import describe_environment

CARRIED = ROOT / ".gpu_data"
GPU_TESTS = ("test_gpu.py", "test_evaluation_inference.py")
TESTS_S = 90


class Result(Protocol):
    """What a part gives: a dataclass that can write itself as a table."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def table(self) -> str: ...


@dataclass(frozen=True)
class TestsResult:
    """The tests that need a GPU: pytest's exit code and the end of its output."""

    exit_code: int
    output: str

    def table(self) -> str:
        return f"pytest ended with {self.exit_code}:\n\n```\n{self.output}\n```"


def run_tests(setting: Setting) -> TestsResult:
    """Run the tests marked gpu, in a process of their own; elsewhere they are skipped."""
    files = [str(ROOT / "tests" / name) for name in GPU_TESTS]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-n", "0", "-o", "filterwarnings=default", *files]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TESTS_S,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "MRISCOPE_CACHE": str(setting.work / "cache")},
    )
    return TestsResult(done.returncode, (done.stdout + done.stderr)[-3000:])


PARTS: dict[str, tuple[Callable[[Setting], Result], float]] = {
    "baseline": (measure_baseline, 100),
    "choice": (run_choice, 200),
    "best": (run_best, 100),
    "accuracy": (measure_accuracy, 120),
    "rows": (run_short_rows, 150),
    "explain": (measure_explain, 90),
    "tests": (run_tests, TESTS_S),
    "audit": (measure_audit, 150),
    "efficientnet": (run_long_row, 600),
}
"""Each part, from the one whose figures are wanted most, and the seconds after which it begins nothing new."""


def main() -> int:
    words = read_arguments()
    if words.prepare:
        prepare(words.data)
        return 0
    started = time.monotonic()
    out = Path(words.out).resolve()
    work = Path(words.work).resolve() if words.work else out / "work"
    device = torch.device("cuda" if torch.cuda.is_available() and not words.quick else "cpu")
    if device.type == "cpu" and not words.quick:
        print("gpu: nothing is measured, as torch finds no GPU here; give --quick for a try on the CPU")
        return 0
    if not (CARRIED / "slices").is_dir():
        raise SystemExit(f"{CARRIED} is not there; fill it with --prepare --data FOLDER")
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["MRISCOPE_CACHE"] = str(work / "cache")
    data = few_slices(CARRIED / "slices", work / "few") if words.quick else CARRIED / "slices"
    setting = Setting(device, data, CARRIED, work, words.quick, started + words.budget_s)
    record: dict[str, Any] = {"environment": environment(device, setting), "quick": words.quick, "parts": {}}
    tables: list[str] = []
    for name in words.parts:
        record["parts"][name], table = run_part(name, setting, time.monotonic())
        tables.append(table)
        write_outcome(out, record, tables, work)
    print("\n\n" + "\n".join(tables))
    print(f"all parts: {time.monotonic() - started:.0f} s of {words.budget_s} s")
    return 0 if all("error" not in part for part in record["parts"].values()) else 1


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="fill .gpu_data/ with slices, phantom base and commit")
    parser.add_argument("--data", type=Path, help="with --prepare: the folder of the study's two parquet files")
    parser.add_argument("--out", default="runs/gpu", help="folder for gpu.json, gpu.md and runs.zip")
    parser.add_argument("--work", help="folder for run directories and the cache; default OUT/work")
    parser.add_argument("--budget-s", type=float, default=530, help="seconds after which nothing new begins")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="one epoch each and small sets, on the CPU")
    return parser.parse_args()


def prepare(data: Path | None) -> None:
    """Fill the folder that travels to the device machine, which has neither the slices nor nilearn nor git history."""
    from subjects import BASE as SUBJECTS  # of benchmarks/subjects.py
    from subjects import SIZE, SLICES

    from mriscope.data.phantom import make_phantom

    if data is None or not data.is_dir():
        raise SystemExit(f"--data is {data}; name the folder of the study's two parquet files")
    (CARRIED / "slices").mkdir(parents=True, exist_ok=True)
    for file in sorted(data.glob("*.parquet")):
        shutil.copyfile(file, CARRIED / "slices" / file.name)
    base = make_phantom(SUBJECTS, SLICES, size=SIZE).slices.images
    np.save(CARRIED / BASE, np.asarray(base).reshape(SUBJECTS, SLICES, SIZE, SIZE))
    (CARRIED / "commit").write_text(f"{describe_environment('').commit}\n", encoding="utf-8")
    print(f"{CARRIED}: {sum(one.stat().st_size for one in CARRIED.rglob('*') if one.is_file()) / 2**20:.1f} MiB")


def few_slices(source: Path, folder: Path) -> Path:
    """Write a few rows of each parquet file to another folder, for a quick try, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.parquet"):
        rows = parquet.read_table(file)
        kept = np.linspace(0, len(rows) - 1, 96 if "train" in file.name else 32, dtype=int)
        parquet.write_table(rows.take(kept), folder / file.name)
    return folder


def environment(device: torch.device, setting: Setting) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    found = describe_environment(name)
    commit = carried_commit(setting.carried) or found.commit  # git there may know another state
    return found.model_copy(update={"commit": commit}).model_dump(mode="json")


def run_part(name: str, setting: Setting, started: float) -> tuple[dict[str, Any], str]:
    """Run one part; an error becomes its record, so that the others go on."""
    if setting.left() <= 0:
        return {"error": "no time was left"}, f"## {name}\n\nNot run: no time was left.\n"
    print(f"## {name}", flush=True)
    try:
        measure, seconds = PARTS[name]
        result = measure(replace(setting, deadline=min(setting.deadline, started + seconds)))
    except Exception as error:
        traceback.print_exc()
        return {"error": repr(error)}, f"## {name}\n\nFailed: {error!r}\n"
    finally:
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    seconds = time.monotonic() - started
    return {"seconds": seconds, **asdict(result)}, f"## {name} ({seconds:.0f} s)\n\n{result.table()}\n"


def write_outcome(out: Path, record: dict[str, Any], tables: list[str], work: Path) -> None:
    """Write what there is so far: nothing that was measured is lost to what comes after."""
    facts = record["environment"]
    head = f"{facts['device']}, torch {facts['packages']['torch']}, commit {facts['commit']}, {facts['started']}\n"
    (out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text("\n".join([head, *tables]), encoding="utf-8")
    pack_runs(work, out / "runs.zip")


if __name__ == "__main__":
    sys.exit(main())
