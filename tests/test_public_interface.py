"""What a researcher imports from mriscope: each name has an example that runs, and says what does not fit."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mriscope
from mriscope.lazy import PUBLIC

ROOT = Path(__file__).resolve().parents[1]
PAGE = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL))


def test_every_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = PAGE.replace("\n\n", "\n")
    example = doctest.DocTestParser().get_doctest(blocks, {}, "docs/api.md", "docs/api.md", 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    outcome = runner.run(example, out=told.append)
    assert outcome.attempted > 40
    assert not outcome.failed, "".join(told)


@pytest.mark.parametrize("name", [*mriscope.__all__])
def test_every_public_name_has_an_example(name):
    lines = [line for line in PAGE.splitlines() if line.startswith((">>>", "..."))]
    used = any(re.search(rf"\b{name}\b", line) for line in lines)
    told = re.search(rf"^{name} \| ", PAGE, re.MULTILINE)
    assert used or told


def functions_of_own_module() -> list[str]:
    """The public functions and classes, whose modules' docstring examples run too."""
    return sorted({module for module, _ in PUBLIC.values()})


@pytest.mark.parametrize("module", functions_of_own_module())
def test_docstring_examples_of_public_modules_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(module))
    assert not outcome.failed


def test_audit_and_explain_are_packages_that_are_called_whatever_was_imported_first():
    program = (
        "import sys, mriscope\n"
        "{first}\n"
        "assert callable(mriscope.explain) and callable(mriscope.audit)\n"
        "from mriscope.explain import explain\n"
        "from mriscope.audit import recover_subjects\n"
        "import mriscope.audit.leakage, mriscope.explain.cam\n"
        "assert mriscope.audit.leakage.audit_slices and mriscope.explain.cam.GradCAM is mriscope.GradCAM\n"
        "assert mriscope.explain.explain is explain and callable(mriscope.audit)\n"
    )
    for first in ("", "import mriscope.audit.leakage, mriscope.explain.cam"):
        subprocess.run([sys.executable, "-c", program.format(first=first)], check=True)


def test_a_call_of_the_packages_is_a_call_of_their_functions():
    model, images = mriscope.create_model("compact_cnn", seed=0), torch.rand(1, 1, 64, 64)
    called = mriscope.explain(model, images, ["hirescam"])["hirescam"]
    direct = importlib.import_module("mriscope.explain.maps").explain(model, images, ["hirescam"])
    assert torch.equal(called.maps, direct["hirescam"].maps)
    assert "exponents" in inspect.signature(mriscope.explain).parameters
    assert "repair" in inspect.signature(mriscope.audit).parameters
    assert inspect.ismodule(mriscope.audit)


def test_slices_are_audited_as_their_source_is(tmp_path):
    source = "phantom:subjects=12,slices=4"
    of_slices = mriscope.audit(mriscope.read(source))
    of_source = mriscope.audit(source, tmp_path / "audit")
    apart = {"source", "shortcuts"}  # slices have no files to look at
    assert of_slices.model_dump(exclude=apart) == of_source.model_dump(exclude=apart)
    assert (tmp_path / "audit" / "audit.json").is_file()


def test_slices_of_unknown_subjects_are_audited_with_what_pixels_tell(phantom_brains):
    unknown = mriscope.SliceSet.of(phantom_brains.images, phantom_brains.labels)
    found = mriscope.audit(unknown).subjects
    assert found.known_from in ("pixels", "pixels, partly")


def test_a_manifest_does_not_go_with_slices(phantom_brains):
    with pytest.raises(mriscope.ArgumentError, match="slices have none; name the source instead"):
        mriscope.audit(phantom_brains, manifest="slices.csv")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", (3,)),
        ("audit", (3,)),
        ("recover_subjects", ("x",)),
        ("run", ({}, "run")),
        ("train", ("recipe.yaml", "run")),
        ("crossvalidate", ("recipe.yaml", "run")),
        ("evaluate", (3,)),
        ("predict", ("run", "slice.png")),
        ("explain_run", (3, "out")),
        ("explain", ("model", torch.zeros(1, 1, 8, 8))),
        ("explain", (torch.nn.Flatten(), np.zeros((1, 1, 8, 8), np.float32))),
        ("GradCAM", ("model",)),
        ("overlay", ("x", "y")),
        ("grid", (3, 3, ["one"])),
        ("create_model", (3,)),
        ("load_model", (3,)),
        ("make_recipe", (3,)),
        ("read_recipe", (3,)),
        ("bootstrap", ([1],)),
        ("sample_slices", (3,)),
        ("scaled", (np.zeros((1, 8, 8), np.uint8), "unit")),
        ("compare_runs", ("run", "out")),
        ("compare_recipes", ("recipe.yaml", "out")),
        ("SliceSet", ([1], [1], [1], [1], [1], [1], [1])),
        ("Predictions", ([1], [1], [1], [1], [1])),
    ],
)
def test_a_foreign_object_is_a_type_error_in_one_sentence(name, arguments):
    with pytest.raises(TypeError) as raised:
        getattr(mriscope, name)(*arguments)
    assert isinstance(raised.value, mriscope.ArgumentTypeError)
    assert re.fullmatch(r"[^\n]+; (give|an explanation needs) [^\n]+", str(raised.value))


@pytest.mark.parametrize(
    ("error", "known"),
    [
        ("ArgumentError", ValueError),
        ("ArgumentTypeError", TypeError),
        ("DataError", ValueError),
        ("BadRowsError", ValueError),
        ("RecipeError", ValueError),
        ("UnknownNameError", ValueError),
        ("UnknownNameError", LookupError),
        ("MissingExtraError", ImportError),
    ],
)
def test_errors_are_of_the_kinds_that_python_knows(error, known):
    assert issubclass(getattr(mriscope, error), known)
    assert issubclass(getattr(mriscope, error), mriscope.MriscopeError)


def test_every_error_class_ends_in_error_and_is_public():
    errors = importlib.import_module("mriscope.errors")
    found = {name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, BaseException)}
    assert all(name.endswith("Error") for name in found)
    assert found <= set(mriscope.__all__)


def test_the_version_is_the_one_of_the_installed_package_or_says_that_there_is_none(tmp_path):
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert mriscope.__version__ == declared[1]
    (tmp_path / "mriscope").symlink_to(ROOT / "src" / "mriscope")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mriscope; print(mriscope.__version__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "unknown (not installed)\n"
