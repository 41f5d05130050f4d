"""Names from outside (arguments, recipes, files of a run) never lead out of the folder that is written to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mriscope.data.manifest import subjects_of
from mriscope.data.parquet import row_path
from mriscope.data.phantom import make_phantom
from mriscope.data.phantom_options import phantom_options
from mriscope.data.readers import read
from mriscope.data.split_files import read_split_file
from mriscope.errors import MriscopeError
from mriscope.evaluation.scoring import EvaluationConfig
from mriscope.explain.overlays import check_colours
from mriscope.files import file_stem
from mriscope.models.registry import create_model
from mriscope.output_folder import LIST, OutputFolder
from mriscope.recipe import make_recipe, read_recipe
from mriscope.training.optimizers import make_optimizer
from mriscope.workflows.explain import _earlier, parse_methods

PAYLOADS = [
    *(
        "..",
        "../",
        "../x",
        "../../x",
        "../../../../../../etc/passwd",
        "a/../../x",
        "./../x",
        "x/..",
        "x/../..",
        ".../x",
    ),
    *("/x", "//x", "/etc/passwd", "/dev/null", "/proc/self/environ", "~", "~/x", "~root/x", "$HOME/x", "%HOME%/x"),
    *("..\\x", "..\\..\\x", "\\x", "C:\\x", "C:x", "\\\\host\\share", "//host/share", "file:///x", "file:../x"),
    *("%2e%2e/x", "%2e%2e%2fx", "..%2fx", "..%c0%afx", "..%00/x", "x\0/../y", "..;/x", "....//x", "..\u2215x"),
    *("CON", "x\n../y", "\u202e../x", "-rf ../x"),
]
SLICES = make_phantom(4, 2, size=32).slices


def test_there_are_forty_payloads() -> None:
    assert len(set(PAYLOADS)) >= 40


def split_naming(path: Path, name: str) -> None:
    parts = {"train": SLICES.paths.tolist()[1:], "validation": [], "test": [name]}
    path.write_text(json.dumps({"protocol": "by_slice", "data": SLICES.fingerprint, "parts": parts}))
    read_split_file(path, SLICES)


def manifest_naming(path: Path, name: str) -> None:
    path.write_text(f"path,subject\n{json.dumps(name)},1\n")
    subjects_of(["a.png"], (), path)


def listed(path: Path, name: str) -> None:
    path.with_name(LIST).write_text(json.dumps({"files": {name: {"command": "audit"}, "y": {"command": "audit"}}}))
    with OutputFolder(path.parent, "audit").writing(["z"]) as folder:
        (folder / "z").write_text("")


def optimizer_of(name: str) -> None:
    make_optimizer(make_recipe({"model": "m", "training": {"optimizer": name}}).training, create_model("compact_cnn"))


def never_reached(name: str, **_: object) -> str:
    assert ".." not in name.split("/")
    raise OSError("no hub is reached in tests")


REFUSED: dict[str, Callable[[Path, str], object]] = {
    "model": lambda _, name: create_model(name),
    "weights": lambda path, name: create_model("resnet50", options={"weights": str(path / name)}),
    "optimizer": lambda _, name: optimizer_of(name),
    "schedule": lambda _, name: make_recipe({"model": "m", "training": {"schedule": name}}),
    "protocol": lambda _, name: make_recipe({"model": "m", "split": {"protocol": name}}),
    "key of --set": lambda _, name: read_recipe(__file__, [f"{name}=1"]),
    "task": lambda _, name: EvaluationConfig("slice", name, None),
    "level": lambda _, name: EvaluationConfig(name, None, None),
    "pooling": lambda _, name: EvaluationConfig("subject", None, name),
    "method": lambda _, name: parse_methods(name),
    "colour map": lambda _, name: check_colours(name, 0.5),
    "phantom": lambda _, name: phantom_options(f"phantom:{name}"),
    "data set of the hub": lambda _, name: read(f"hf:{name}"),
    "owner on the hub": lambda _, name: read(f"hf:{name}/{name}"),
    "split file": split_naming,
    "manifest": manifest_naming,
    "list of an output folder": listed,
}


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_a_name_is_refused_and_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: str) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", never_reached)
    work = tmp_path / "a" / "b" / "work"
    work.mkdir(parents=True)
    for outside in (tmp_path / "x", tmp_path / "a" / "x", tmp_path / "a" / "b" / "x"):
        outside.write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if work not in (path, *path.parents)}
    for field, use in REFUSED.items():
        if field == "list of an output folder" and payload in ("$HOME/x", "%HOME%/x"):
            continue  # plain folders, as nothing expands them
        place = work / field.replace(" ", "-")
        place.parent.mkdir(exist_ok=True)
        if field == "list of an output folder":
            _try_list(place, payload, use)
        else:
            with pytest.raises(MriscopeError):
                use(place, payload)
    for name in (file_stem(payload), file_stem(f"{payload}.png")):
        assert name not in ("", ".", "..")
        assert not set("/\\\0:") & set(name)
        assert (work / name).resolve().parent == work.resolve()
    text = row_path(payload.encode("utf-8", "surrogateescape"), Path("a.parquet"), 0)
    assert text in (payload, "a#0")  # the identity of a row, never opened
    (work / "pictures.json").write_text(json.dumps(["grid.png", payload, f"000_{payload}_gradcam.png"]))
    assert _earlier(work) == []
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if work not in (path, *path.parents)}
    assert after == before


def _try_list(place: Path, payload: str, use: Callable[[Path, str], object]) -> None:
    """A list may name a file below its folder, whatever it is called; all else makes it damaged."""
    place.mkdir()
    try:
        use(place / "out", payload)
    except MriscopeError:
        return
    assert (place / payload).resolve().is_relative_to(place.resolve())


@pytest.mark.parametrize("payload", ["../x", "/etc/passwd", "..\\x", "x\0/../y"], ids=ascii)
def test_no_network_of_timm_has_such_a_name(payload: str) -> None:
    with pytest.raises(MriscopeError):
        create_model(f"timm:{payload}")
