"""What a run directory promises when things change around it."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import png, write_files
from PIL import Image
from sklearn.metrics import cohen_kappa_score

import mriscope
from mriscope.data.slices import CLASS_NAMES
from mriscope.data.splits import by_subject
from mriscope.errors import DataError, MriscopeError, RecipeError, RunError, TrainingError
from mriscope.recipe import Recipe, make_recipe
from mriscope.reports.text import metrics_text
from mriscope.run_directory import RunDirectory, open_run
from mriscope.training.devices import describe_device
from mriscope.workflows import train
from mriscope.workflows.evaluate import evaluate_run


def small(**changes) -> Recipe:
    settings = {
        "model": "baseline_cnn",
        "data": "phantom:subjects=24,slices=4,seed=1",
        "input": {"size": 32},
        "split": {"protocol": "by_subject", "test": 0.3, "validation": 0.2},
        "training": {"epochs": 1, "batch_size": 16},
    }
    for key, value in changes.items():
        settings[key] = {**settings[key], **value} if isinstance(value, dict) and key in settings else value
    return make_recipe(settings)


def folders(root: Path, train: int, test: int) -> Path:
    """Class folders of noise, of which the first `train` slices of each class are the training part."""
    random = np.random.default_rng(5)
    for name in CLASS_NAMES:
        for row in range(train + test):
            file = root / ("train" if row < train else "test") / name / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (32, 32)).astype(np.uint8)).save(file)
    return root


def published(data: Path, **changes) -> Recipe:
    return small(data=str(data), split={"protocol": "published"}, **changes)


def test_a_run_that_goes_on_keeps_the_split_it_began_with(tmp_path, monkeypatch):
    """Another version may draw splits otherwise; what was to be test stays test."""
    directory = mriscope.run(small(), tmp_path / "run", silent=True)
    began = json.loads((directory.path / "split.json").read_text())["parts"]
    (directory.path / "metrics.json").unlink()
    monkeypatch.setattr(train, "split_for", lambda settings, slices, seed: by_subject(slices, seed=99))
    mriscope.run(small(), tmp_path / "run", silent=True)
    tested = directory.predictions().of_part("test")
    assert sorted(tested.paths.tolist()) == sorted(began["test"])


def test_a_finished_run_is_not_taken_for_one_on_other_data(tmp_path):
    mriscope.run(small(), tmp_path / "run", silent=True)
    with pytest.raises(RunError, match="holds a run on other data"):
        mriscope.run(small(data="phantom:subjects=24,slices=4,seed=2"), tmp_path / "run", silent=True)


def test_a_setting_that_went_away_makes_another_recipe(tmp_path):
    options = {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9, "weight_decay": 0.1}}
    mriscope.run(small(training=options), tmp_path / "run", silent=True)
    fewer = {"optimizer": "SGD", "optimizer_options": {"weight_decay": 0.1}}
    with pytest.raises(RunError, match=r"training\.optimizer_options\.momentum is 0\.9 there and None here"):
        mriscope.run(small(training=fewer), tmp_path / "run", silent=True)


def test_an_evaluation_is_not_written_over_a_run_nor_taken_for_one(tmp_path):
    mriscope.run(small(), tmp_path / "run", silent=True)
    with pytest.raises(RunError, match="is a run directory, which keeps its own metrics"):
        evaluate_run(tmp_path / "run", part="validation", out=tmp_path / "run")
    evaluate_run(tmp_path / "run", part="validation", out=tmp_path / "judged")
    with pytest.raises(RunError, match="is no run directory"):
        mriscope.run(small(), tmp_path / "judged", silent=True)


def test_fresh_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    mriscope.run(small(), tmp_path / "run", silent=True)
    (tmp_path / "run" / "figures" / "paper.png").write_bytes(b"mine")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    mriscope.run(small(seed=1), tmp_path / "run", fresh=True, silent=True)
    assert (tmp_path / "run" / "figures" / "paper.png").read_bytes() == b"mine"
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert open_run(tmp_path / "run").recipe.seed == 1


def test_fresh_leaves_a_folder_that_only_looks_like_a_run(tmp_path):
    folder = tmp_path / "exp"
    write_files(folder, {"recipe.yaml": b"model: baseline_cnn  # my notes\n", "figures/paper.png": png(0)})
    with pytest.raises(RunError, match="is no run directory"):
        mriscope.run(small(), folder, fresh=True, silent=True)
    assert (folder / "recipe.yaml").read_bytes().endswith(b"# my notes\n")
    assert (folder / "figures" / "paper.png").exists()


def test_a_refused_run_leaves_the_list_of_bad_rows_alone(tmp_path):
    folders(tmp_path / "data", 6, 3)
    (tmp_path / "data" / "train" / CLASS_NAMES[0] / "bad.png").write_bytes(b"no picture")
    write_files(tmp_path / "mine", {"bad_rows.csv": b"mine", "thesis.txt": b"mine"})
    with pytest.raises(RunError, match="is no run directory"):
        mriscope.run(published(tmp_path / "data"), tmp_path / "mine", skip_bad=True, silent=True)
    assert (tmp_path / "mine" / "bad_rows.csv").read_bytes() == b"mine"


def test_even_a_part_of_what_was_trained_on_is_not_judged_as_new(tmp_path):
    data = folders(tmp_path / "data", 6, 3)
    mriscope.run(published(data), tmp_path / "run", silent=True)
    with pytest.raises(RunError, match=r"24 of the 24 slices of .* were in this run's training or validation part"):
        evaluate_run(tmp_path / "run", source=str(data / "train"))
    assert evaluate_run(tmp_path / "run", source=str(data / "test")).n_slices == 12


def test_options_that_do_not_go_together_are_refused(tmp_path):
    mriscope.run(small(), tmp_path / "run", silent=True)
    with pytest.raises(RunError, match="leave out --part or --data"):
        evaluate_run(tmp_path / "run", part="test", source="phantom:subjects=8")
    with pytest.raises(RunError, match="--skip-bad goes with --data"):
        evaluate_run(tmp_path / "run", skip_bad=True)


def test_a_validation_loss_that_is_not_finite_stops_the_run_by_name(tmp_path):
    with pytest.raises(TrainingError, match=r"loss became (nan|inf)"):
        mriscope.run(small(training={"optimizer": "SGD", "learning_rate": 1e30}), tmp_path / "run", silent=True)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"schedule": "one_cycle", "schedule_options": {"total_steps": 5}}, "total_steps follows from training.epochs"),
        ({"optimizer": "SparseAdam"}, "there is no optimizer 'SparseAdam'"),
        ({"optimizer_options": {"fused": True, "foreach": True}}, "AdamW refuses them"),
        ({"optimizer_options": {"lr": 0.5}}, "lr is set by training.learning_rate alone"),
        ({"optimizer_options": {"weight_dekay": 0.5}}, "AdamW refuses them"),
        ({"schedule_options": {"T_max": 5}}, "constant refuses them"),
        ({"schedule": "cosine", "schedule_options": {"T_max": 0}}, "cosine refuses them"),
        ({"schedule": "plateau", "schedule_options": {"patience": "x"}, "epochs": 2}, "plateau refuses them"),
        ({"schedule": "plateau", "schedule_options": {"patience": 0, "min_lr": "x"}, "epochs": 3}, "plateau refuses"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(tmp_path, training, message):
    with pytest.raises(MriscopeError, match=message):
        mriscope.run(small(training=training), tmp_path / "run", silent=True)
    assert not (tmp_path / "run").exists()


def test_one_cycle_takes_its_options(tmp_path):
    options = {"schedule": "one_cycle", "schedule_options": {"pct_start": 0.1}, "epochs": 2}
    assert mriscope.run(small(training=options), tmp_path / "run", silent=True).finished


def test_patience_is_a_number(tmp_path):
    with pytest.raises(RecipeError, match=r"training\.patience: True should be a valid integer"):
        small(training={"patience": True})


def test_a_phantom_of_another_size_than_the_network_takes_is_refused(tmp_path):
    with pytest.raises(MriscopeError, match=r"has slices of 64×64 and input\.size is 128; set input\.size=64"):
        mriscope.run(
            small(data="phantom:subjects=8,slices=2,size=64", input={"size": 128}), tmp_path / "r", silent=True
        )


def test_names_that_look_like_something_else_stay_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1e5", "dátá 📁"):
        folders(tmp_path / name, 6, 3)
        directory = mriscope.run(published(Path(name)), tmp_path / "runs" / name, silent=True)
        assert open_run(directory.path).recipe.data == name
        assert directory.environment.source == str(tmp_path / name)
    mriscope.explain_run(directory.path, tmp_path / "explained", count=2)
    page = (tmp_path / "explained" / "explain.html").read_text(encoding="utf-8")
    assert "<td>dátá 📁</td>" in page
    assert str(tmp_path) not in page  # the folders above may name people
    (tmp_path / "phantom:subjects=24,slices=4,seed=1").mkdir()
    directory = mriscope.run(small(), tmp_path / "runs" / "phantom", silent=True)
    assert directory.environment.source == "phantom:subjects=24,slices=4,seed=1"


@pytest.mark.parametrize(("threads", "words"), [(1, "CPU, 1 thread"), (2, "CPU, 2 threads")])
def test_what_computes_is_said_in_words(monkeypatch, threads, words):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert describe_device(torch.device("cpu")) == words


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    mriscope.run(small(), tmp_path / "run", silent=True)
    mriscope.run(small(input={"size": 64}), tmp_path / "other", silent=True)
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "other" / "last.ckpt").replace(tmp_path / "run" / "last.ckpt")
    with pytest.raises(RunError, match="holds the state of another training"):
        mriscope.run(small(), tmp_path / "run", silent=True)


def test_a_disk_that_is_full_is_named_and_the_old_checkpoint_stays(tmp_path):
    """A limit on the size of files stands in for the full disk; the checkpoint of this network has 6 MB."""
    from mriscope.recipe import write_recipe

    mriscope.run(small(), tmp_path / "run", silent=True)
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    (tmp_path / "run" / "metrics.json").unlink()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(write_recipe(small()))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    command = [
        sys.executable,
        "-c",
        "from mriscope.cli import main; main()",
        "train",
        recipe,
        "--out",
        tmp_path / "run",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "model.safetensors cannot be written (File too large); make room there" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    assert RunDirectory(tmp_path / "run").finished is False


def write_class_folders(root: Path, names: tuple[str, ...]) -> str:
    """Six slices of noise of each class."""
    random = np.random.default_rng(5)
    for name in names:
        (root / name).mkdir(parents=True)
        for row in range(6):
            Image.fromarray(random.integers(0, 255, (32, 32)).astype(np.uint8)).save(root / name / f"{row}.png")
    return str(root)


def test_the_severity_of_a_recipe_orders_classes_whose_names_tell_nothing(tmp_path):
    data = write_class_folders(tmp_path / "data", ("x", "y", "z"))
    settings = {"data": data, "split": {"protocol": "by_slice"}}
    plain = mriscope.run(small(**settings), tmp_path / "plain", silent=True)
    assert "quadratic_kappa" not in plain.metrics().metrics
    assert "nothing says how x, y, z rise in severity" in str(plain.metrics().omitted)
    assert "note: quadratic kappa and the error in steps" in metrics_text(plain.metrics())
    named = mriscope.run(small(**settings, severity=["z", "x", "y"]), tmp_path / "named", silent=True)
    tested = named.predictions().of_part("test")
    assert tested.severity == open_run(named.path).recipe.severity == ("z", "x", "y")
    ranks = np.array([1, 2, 0])
    kappa = cohen_kappa_score(ranks[tested.labels], ranks[tested.predicted], labels=[0, 1, 2], weights="quadratic")
    for metrics in (named.metrics(), evaluate_run(named.path)):
        assert metrics.omitted is None
        assert metrics.metrics["quadratic_kappa"].value == pytest.approx(kappa, nan_ok=True)
    with pytest.raises(DataError, match="severity names z, x, and the classes are x, y, z; name each of them once"):
        mriscope.run(small(**settings, severity=["z", "x"]), tmp_path / "wrong", silent=True)
    assert not (tmp_path / "wrong").exists()
