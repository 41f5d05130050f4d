"""Imports that last, in a process of their own, since they change its garbage collector."""

import gc
import importlib
import subprocess
import sys

import pytest

from mriscope.imports import lasting_imports


def run(text: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)


def test_what_was_imported_is_not_looked_at_again_and_the_collector_goes_on() -> None:
    done = run(
        "import gc\nfrom mriscope.imports import lasting_imports\n"
        "with lasting_imports():\n    import decimal\n    assert not gc.isenabled()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    )
    assert done.stdout.split() == ["True", "True"]


def test_a_program_that_rests_its_collector_keeps_it_so() -> None:
    done = run(
        "import gc\nfrom mriscope.imports import lasting_imports\ngc.disable()\nwith lasting_imports():\n    pass\n"
        "print(gc.isenabled())"
    )
    assert done.stdout.split() == ["False"]


def test_a_process_that_loaded_triton_ends_without_a_word() -> None:
    pytest.importorskip("triton")
    done = run("from mriscope.imports import lasting_imports\nwith lasting_imports():\n    import torch, triton")
    assert (done.stdout, done.stderr) == ("", "")


def test_the_collector_goes_on_where_an_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError), lasting_imports():
        importlib.import_module("no_such_package")
    assert gc.isenabled()
    gc.unfreeze()
