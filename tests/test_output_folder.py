"""Whatever lies in an output folder and is not ours stays as it is, and is named before any work is done."""

import json
import shutil
from pathlib import Path

import pytest
from result_files import environment
from test_run_directory import finished_run

from mriscope import cli
from mriscope.errors import RunError, WriteError
from mriscope.output_folder import LIST, OutputFolder, written_with
from mriscope.results import Metrics
from mriscope.run_directory import ENVIRONMENT, check_place
from mriscope.workflows import audit, compare, crossval, demo, evaluate, explain, explain_compare

GOLDEN = Path(__file__).parent / "golden"
MINE = "my own table"
PHANTOM = "phantom:subjects=12,slices=6"


def write(folder: OutputFolder, **files: str) -> None:
    with folder.writing([f"{name}.txt" for name in files]) as place:
        for name, text in files.items():
            (place / f"{name}.txt").write_text(text)


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir() if one.name[0] != "."}


def test_a_command_replaces_what_it_wrote_and_removes_what_it_no_longer_writes(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out", "audit")
    write(folder, a="1", b="2")
    write(folder, b="3", c="4")
    assert names(folder.path) == {"b.txt", "c.txt"}
    assert set(folder.written()) == {"b.txt", "c.txt"}
    assert (folder.path / "b.txt").read_text() == "3"


def test_what_is_not_listed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MINE)
    (tmp_path / "b.txt").symlink_to("nowhere")
    (tmp_path / "c.txt").mkdir()
    folder = OutputFolder(tmp_path, "audit")
    for name in "abc":
        with pytest.raises(
            WriteError, match=rf"holds {name}\.txt that mriscope did not write, which would be replaced"
        ):
            write(folder, x="1", **{name: "2"})
    assert (tmp_path / "a.txt").read_text() == MINE
    assert names(tmp_path) == {"a.txt", "b.txt", "c.txt"}


def test_no_folder_has_a_nul_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="names no folder, as a NUL is in it"):
        write(OutputFolder(tmp_path / "a\0b", "audit"), a="1")


def test_what_was_changed_since_is_kept(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, "audit")
    write(folder, a="1", b="2")
    (tmp_path / "a.txt").write_text(MINE)
    with pytest.raises(WriteError, match=r"a\.txt that was changed after `mriscope audit` wrote it"):
        write(folder, a="3")
    write(folder, b="3")
    assert (tmp_path / "a.txt").read_text() == MINE


def test_two_commands_may_share_a_folder_but_no_file(tmp_path: Path) -> None:
    write(OutputFolder(tmp_path, "audit"), a="1")
    write(OutputFolder(tmp_path, "compare"), b="2")
    with pytest.raises(WriteError, match=r"a\.txt of `mriscope audit`"):
        write(OutputFolder(tmp_path, "compare"), a="3")
    write(OutputFolder(tmp_path, "audit"), a="4")
    assert names(tmp_path) == {"a.txt", "b.txt"}


def test_what_a_broken_off_command_left_may_be_replaced(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, "audit")

    def broken_off() -> None:
        with folder.writing(["a.txt", "b.txt"]) as place:
            (place / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert set(folder.written()) == {"a.txt"}
    (tmp_path / "b.txt").write_text(MINE)
    with pytest.raises(WriteError, match=r"b\.txt that mriscope did not write"):
        write(folder, a="1", b="2")
    write(folder, a="1")


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "a/../../b.txt", "C:\\a.txt", "..\\a.txt", "", "a\0b"])
def test_a_list_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "a.txt").write_text(MINE)
    listed = {"schema_version": 1, "files": {name: {"command": "audit", "sha256": None}}}
    (out / LIST).write_text(json.dumps(listed))
    (out / "x.txt").write_text(MINE)
    with pytest.raises(RunError, match=r"mriscope\.json is damaged"):
        write(OutputFolder(out, "audit"), x="1")
    assert (tmp_path / "a.txt").read_text() == (out / "x.txt").read_text() == MINE


def test_older_folders_are_known_by_content(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, "evaluate", written_with("metrics.json", Metrics.read, ["metrics.json", "a.txt"]))
    (tmp_path / "a.txt").write_text("of an earlier version")
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.5}')
    with pytest.raises(WriteError, match=r"a\.txt that mriscope did not write"):
        folder.check(["a.txt"])
    shutil.copyfile(GOLDEN / "metrics.json", tmp_path / "metrics.json")
    folder.check(["a.txt", "metrics.json"])


@pytest.mark.parametrize("written", ["audit.json", "audit_alone.json"])
def test_an_older_audit_is_known_by_its_content(tmp_path: Path, written: str) -> None:
    (tmp_path / "slices.csv").write_text("path,subject\n")
    for content in ("{}", '{"verdict": "guilty", "n_slices": 3}', "my own"):
        (tmp_path / "audit.json").write_text(content)
        with pytest.raises(WriteError, match=r"audit\.json that mriscope did not write"):
            audit._output(tmp_path).check(audit.FILES)
    shutil.copyfile(GOLDEN / written, tmp_path / "audit.json")
    audit._output(tmp_path).check(audit.FILES)


def test_a_run_directory_is_known_by_its_list_or_its_environment(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT).write_text('{"name": "conda"}')
    (tmp_path / "history.csv").write_text(MINE)
    with pytest.raises(RunError, match=r"holds environment\.json and is no run directory"):
        check_place(tmp_path)
    environment(source="phantom").write(tmp_path / ENVIRONMENT)
    check_place(tmp_path)


COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "audit": (("audit", PHANTOM), audit.FILES),
    "audit --repair": (("audit", PHANTOM, "--out", "fresh", "--repair"), (*audit.FILES, audit.REPAIRED)),
    "evaluate": (("evaluate", "run"), (*evaluate.FILES, evaluate.RELIABILITY)),
    "explain": (("explain", "run"), (explain.PAGE, explain.GRID)),
    "explain-compare": (("explain-compare", "run"), explain_compare.FILES),
    "compare": (("compare", "run", "other"), compare.FILES),
    "crossval": (("crossval", "recipe.yaml"), crossval.FILES),
    "crossval --fresh": (("crossval", "recipe.yaml", "--fresh"), crossval.FILES),
    "train": (("train", "recipe.yaml"), (ENVIRONMENT, "history.csv", "metrics.json", "tracking.json")),
    "train --fresh": (("train", "recipe.yaml", "--fresh"), (ENVIRONMENT, "metrics.json", "model.safetensors")),
    "demo": (("demo",), (demo.REPORT, "explain/grid.png")),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_replaces_a_file_of_its_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words, files = COMMANDS[command]
    (tmp_path / "recipe.yaml").write_text(f"model: compact_cnn\ndata: {PHANTOM}\n")
    for name in ("run", "other"):
        finished_run(tmp_path / name)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("mriscope.data.readers.read_silently", never)
    monkeypatch.setattr("mriscope.training.checkpoint.read_weights", never)
    option = () if words[-1] == "--repair" else ("--out",)
    for name in files:
        out = tmp_path / f"out-{Path(name).name}"
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text(MINE)
        code = cli._run_app([*words, *option, str(out)])
        said = capsys.readouterr().err
        assert code == 2, (name, said)
        assert Path(name).name in said
        assert said.count("\n") == 1
        assert (out / name).read_text() == MINE
        assert names(out) == {Path(name).parts[0]}


def test_files_of_a_user_in_a_run_are_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run directory without metrics, in which somebody keeps a table under the name of one of its files."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: nearest_neighbour\ndata: {PHANTOM}\ninput: {{size: 32}}\n")
    words = ["train", str(recipe), "--out", str(tmp_path / "run")]
    assert cli._run_app(words) == 0
    assert cli._run_app([*words, "--fresh"]) == 0
    listed = json.loads((tmp_path / "run" / LIST).read_text())
    del listed["files"]["last.ckpt"]
    (tmp_path / "run" / LIST).write_text(json.dumps(listed))
    (tmp_path / "run" / "last.ckpt").write_text(MINE)
    capsys.readouterr()
    assert cli._run_app([*words, "--fresh"]) == 2
    assert "holds last.ckpt that mriscope did not write" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.ckpt").read_text() == MINE


@pytest.mark.parametrize(
    "listed", [["holiday.png"], ["grid.png", "holiday.png"], ["000_a_gradcam.png"], [], "grid.png"]
)
def test_a_list_of_pictures_of_an_older_version_is_known_by_its_names(tmp_path: Path, listed: object) -> None:
    (tmp_path / explain.LISTED).write_text(json.dumps(listed))
    assert explain._earlier(tmp_path) == []
    (tmp_path / explain.LISTED).write_text(json.dumps(["grid.png", "000_a_gradcam.png"]))
    assert explain._earlier(tmp_path) == ["grid.png", "000_a_gradcam.png", explain.LISTED, explain.PAGE]
