"""Files are read by another process, and what fails there is left to the next reading."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_files import encoded, pixels, write_files

from mriscope.data import readers
from mriscope.data.reading_ahead import reading_ahead
from mriscope.errors import DataError


@pytest.fixture(autouse=True)
def _before_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("MRISCOPE_CACHE", str(tmp_path / "cache"))


def test_slices_are_in_the_cache_at_the_end_of_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {f"{name}/1.png": encoded(pixels(seed), "PNG") for seed, name in enumerate(("AD", "CN"))}
    source = write_files(tmp_path / "set", files)
    with reading_ahead(str(source)):
        pass
    monkeypatch.setattr(readers, "gather", None)  # whoever decodes fails
    assert np.array_equal(readers.read(source).labels, [0, 1])


def test_what_cannot_be_read_is_told_by_the_next_reading(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    source = write_files(tmp_path / "set", {"AD/1.png": b"x", "CN/1.png": b"x"})
    with reading_ahead(str(source)):
        pass
    assert capfd.readouterr() == ("", "")
    with pytest.raises(DataError, match=r"1\.png"):
        readers.read(source)


def test_an_error_in_the_block_ends_the_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_files(tmp_path / "set", {"AD/1.png": b"x"})
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **options: started.append(start(*words, **options)) or started[0]
    )
    with pytest.raises(KeyError), reading_ahead(str(source)):
        raise KeyError
    assert started[0].returncode == -signal.SIGKILL


def test_no_process_is_started_for_the_phantom(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with reading_ahead("phantom"):
        pass
    with pytest.raises(TypeError), reading_ahead("a folder"):
        pass


def test_no_module_of_the_folder_one_is_in_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_files(
        tmp_path / "set", {"AD/1.png": encoded(pixels(0), "PNG"), "CN/1.png": encoded(pixels(1), "PNG")}
    )
    here = tmp_path / "here"
    here.mkdir()
    (here / "logging.py").write_text("open('run', 'w')")
    monkeypatch.chdir(here)
    with reading_ahead(str(source)):
        pass
    assert not (here / "run").exists()
    monkeypatch.setattr(readers, "gather", None)
    assert len(readers.read(source)) == 2


def test_a_program_without_a_guard_is_not_run_again(tmp_path: Path):
    source = write_files(
        tmp_path / "set", {"AD/1.png": encoded(pixels(0), "PNG"), "CN/1.png": encoded(pixels(1), "PNG")}
    )
    script = tmp_path / "script.py"
    lines = [
        "from mriscope.data.reading_ahead import reading_ahead",
        "print('once')",
        f"with reading_ahead({str(source)!r}):",
        "    pass",
    ]
    script.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("once\n", "")


def runs(process: str) -> bool:
    """Tell whether a process is there and not merely waiting to be reaped."""
    try:
        return Path("/proc", process, "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_does_not_outlive_who_waits_for_it(tmp_path: Path, number: signal.Signals):
    told = tmp_path / "told"
    slow = f"open({str(told)!r}, 'w').write(str(os.getpid())); import time; time.sleep(60)"
    lines = [
        "import time",
        "from mriscope.data import reading_ahead as module",
        f"module._READ = module._READ.replace('read_silently(sys.argv[1], None)', {slow!r})",
        "with module.reading_ahead('a folder'):",
        "    time.sleep(60)",
    ]
    with subprocess.Popen([sys.executable, "-c", "\n".join(lines)]) as waiting:
        while not (told.exists() and told.read_text()):
            assert waiting.poll() is None
            time.sleep(0.02)
        waiting.send_signal(number)
    deadline = time.monotonic() + 20
    while runs(told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
