"""Checkpoints of the study's notebooks, written here by hand-made copies of its networks."""

import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mriscope.data.slices import CLASS_NAMES
from mriscope.errors import DataError, RecipeError, RunError, UnknownNameError
from mriscope.models.registry import create_model
from mriscope.results import ImportedMetrics, ImportedWeights, Metrics
from mriscope.run_directory import RunDirectory, open_run
from mriscope.training.checkpoint import save_weights
from mriscope.workflows._model import load_network
from mriscope.workflows.evaluate import evaluate_run
from mriscope.workflows.explain import explain_run
from mriscope.workflows.import_weights import import_weights
from mriscope.workflows.predict import predict_images

CPU = torch.device("cpu")
SMALL = 32  # height and width where the layers matter and their size does not


class StudyCNN(nn.Module):
    """The study's baseline family as its notebooks write it: flat names, convolutions before batch norms."""

    def __init__(self, widths: Sequence[int], norms: int, dropped: Sequence[float], last: float, size: int) -> None:
        super().__init__()
        self.stages, self.norms, self.dropped, self.last = len(widths), norms, dropped, last
        for stage, (before, width) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            setattr(self, f"conv{stage}", nn.Conv2d(before, width, 3, padding=1))
        for stage in range(1, norms + 1):
            setattr(self, f"batchnorm{stage}", nn.BatchNorm2d(widths[stage - 1]))
        self.fc1 = nn.Linear(widths[-1] * (size // 2 ** len(widths)) ** 2, 128)
        self.out = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        for stage in range(1, self.stages + 1):
            x = functional.max_pool2d(functional.relu(self.get_submodule(f"conv{stage}")(x)), 2)
            if stage <= self.norms:
                x = self.get_submodule(f"batchnorm{stage}")(x)
            if stage <= len(self.dropped):
                x = functional.dropout(x, self.dropped[stage - 1], self.training)
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.out(functional.dropout(x, self.last, self.training))


FAMILY = {
    "baseline_cnn": ((32, 64), 1, (), 0),
    "baseline_cnn_ce": ((32, 64), 2, (0.3, 0.4), 0.5),
    "baseline_cnn_ce_dropped": ((32, 64), 2, (0, 0.2), 0.3),
    "baseline_cnn_ce_drop01": ((32, 64), 2, (), 0.1),
    "baseline_cnn_ce_conv_add": ((32, 64, 128), 3, (), 0.1),
    "baseline_cnn_ce_conv_added_drop_minus": ((32, 64, 128), 3, (), 0),
}


def study_cnn(name: str = "baseline_cnn", size: int = SMALL) -> StudyCNN:
    """One of the family."""
    torch.manual_seed(7)
    widths, norms, dropped, last = FAMILY[name]
    return as_trained(StudyCNN(widths, norms, dropped, last, size))


def as_trained(model: nn.Module) -> Any:
    """The model in evaluation mode, and no number of a batch norm what it began with, so that none can be mistaken."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.save(study_cnn().state_dict(), tmp_path / "study.pth")
    return tmp_path / "study.pth"


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A run directory of imported weights."""
    folder = tmp_path_factory.mktemp("imported")
    torch.save(study_cnn().state_dict(), folder / "study.pth")
    return import_weights(folder / "study.pth", "baseline_cnn", folder / "run", size=SMALL).path


def refusal(file: Path, model: str = "baseline_cnn", size: int = SMALL) -> str:
    """What is said of a file that cannot be imported; nothing is written."""
    out = file.with_name("refused")
    with pytest.raises(DataError) as caught:
        import_weights(file, model, out, size=size)
    assert not out.exists()
    return str(caught.value)


class TestTheBaselineFamily:
    @pytest.mark.parametrize("name", FAMILY)
    def test_gives_the_logits_that_the_studys_network_gave(self, name, tmp_path):
        theirs = study_cnn(name, size=128)
        torch.save(theirs.state_dict(), tmp_path / "study.pth")
        directory = import_weights(tmp_path / "study.pth", name, tmp_path / "run")
        ours, class_names = load_network(open_run(directory.path), CPU)
        images = torch.rand(3, 1, 128, 128)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), theirs(images), atol=1e-6, rtol=0)
        assert class_names == CLASS_NAMES

    @pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "net", "network", "weights", "my_cnn"])
    def test_may_come_within_a_dict(self, key, imported, tmp_path):
        content = {"epoch": 10, key: study_cnn().state_dict(), "optimizer": {"state": {}}, "acc": torch.tensor(95.0)}
        torch.save(content, tmp_path / "wrapped.pth")
        assert self.same_weights(imported, tmp_path / "wrapped.pth")

    def test_may_come_within_a_dict_within_a_dict(self, imported, tmp_path):
        torch.save({"model": {"state_dict": study_cnn().state_dict(), "arch": "cnn"}}, tmp_path / "wrapped.pth")
        assert self.same_weights(imported, tmp_path / "wrapped.pth")

    def test_of_weights_and_their_average_the_weights_are_taken_and_that_is_said(self, imported, tmp_path, caplog):
        average = {name: one * 0 for name, one in study_cnn().state_dict().items()}
        torch.save({"model_ema": average, "model": study_cnn().state_dict()}, tmp_path / "two.pth")
        assert self.same_weights(imported, tmp_path / "two.pth")
        assert "two.pth holds weights under model_ema too; those under model are taken" in caplog.text

    def test_two_models_without_a_usual_name_are_refused(self, tmp_path):
        weights = study_cnn().state_dict()
        torch.save({"generator": weights, "critic": weights}, tmp_path / "two.pth")
        assert "two.pth holds weights under generator, critic; save those you mean alone" in refusal(
            tmp_path / "two.pth"
        )

    def test_may_come_with_the_counters_of_averages_and_profilers(self, imported, tmp_path):
        weights = {f"module.{name}": one for name, one in study_cnn().state_dict().items()}
        counters = {"n_averaged": torch.tensor(3), "module.total_ops": torch.zeros(1)}
        counters |= {"module.conv1.total_ops": torch.zeros(1), "module.conv1.total_params": torch.zeros(1)}
        torch.save({"net": {**counters, **weights}}, tmp_path / "counted.pth")
        assert self.same_weights(imported, tmp_path / "counted.pth")

    def test_may_be_a_safetensors_file(self, imported, tmp_path):
        save_file(study_cnn().state_dict(), tmp_path / "study.safetensors")
        assert self.same_weights(imported, tmp_path / "study.safetensors")

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net."])
    def test_may_come_from_a_wrapped_network(self, prefix, imported, tmp_path):
        weights = {f"{prefix}{name}": one for name, one in study_cnn().state_dict().items()}
        torch.save(weights, tmp_path / "wrapped.pth")
        assert self.same_weights(imported, tmp_path / "wrapped.pth")

    def test_may_come_in_the_format_before_zip_and_in_double_precision(self, imported, tmp_path):
        torch.save(study_cnn().double().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        assert self.same_weights(imported, tmp_path / "old.pth")

    def same_weights(self, one: Path, file: Path) -> bool:
        other = import_weights(file, "baseline_cnn", file.with_name("run"), size=SMALL).path
        return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def as_a_notebook_would(model: nn.Module, kinds: Sequence[str] = ("conv", "bn", "fc")) -> dict[str, Tensor]:
    """A network's weights under flat names, all layers of one kind together, each kind in its order."""
    layers = {"conv": [], "bn": [], "fc": []}
    for name, module in model.named_modules():
        for kind, types in (("conv", nn.Conv2d), ("bn", nn.BatchNorm2d | nn.BatchNorm1d), ("fc", nn.Linear)):
            if isinstance(module, types):
                layers[kind].append(name)
    weights = model.state_dict()
    return {
        f"{kind}{number}.{name.removeprefix(f'{layer}.')}": one
        for kind in kinds
        for number, layer in enumerate(layers[kind], start=1)
        for name, one in weights.items()
        if name.rpartition(".")[0] == layer
    }


def imported_of(directory: RunDirectory) -> ImportedWeights:
    assert directory.environment.imported is not None
    return directory.environment.imported


class TestFamiliesWhoseNamesAreNotKnown:
    @pytest.mark.parametrize("name", ["different_baseline", "gpt_cnn", "study_model", "baseline_cnn_ce_conv_add"])
    @pytest.mark.parametrize("kinds", [("conv", "bn", "fc"), ("fc", "conv", "bn")])
    def test_layers_are_told_by_their_shapes(self, name, kinds, tmp_path):
        theirs = as_trained(create_model(name, size=SMALL, seed=1))
        torch.save(as_a_notebook_would(theirs, kinds), tmp_path / "study.pth")
        directory = import_weights(tmp_path / "study.pth", name, tmp_path / "run", size=SMALL)
        ours, _ = load_network(directory, CPU)
        assert all(torch.equal(one, theirs.state_dict()[key]) for key, one in ours.state_dict().items())
        assert imported_of(directory).matched_by == "shapes"
        assert imported_of(directory).by_order == []

    def test_those_that_only_their_order_tells_apart_are_named(self, tmp_path, caplog):
        theirs = as_trained(create_model("keras_like", size=SMALL, seed=1))
        torch.save(as_a_notebook_would(theirs), tmp_path / "study.pth")
        with caplog.at_level(logging.WARNING, "mriscope"):
            directory = import_weights(tmp_path / "study.pth", "keras_like", tmp_path / "run", size=SMALL)
        ours, _ = load_network(directory, CPU)
        assert all(torch.equal(one, theirs.state_dict()[key]) for key, one in ours.state_dict().items())
        assert imported_of(directory).by_order == ["bn3", "bn6"]
        assert "2 layers share a shape and were matched by their order: bn3, bn6" in caplog.text

    def test_what_neither_name_shape_nor_order_tells_apart_is_refused(self, tmp_path):
        weights = as_a_notebook_would(create_model("keras_like", size=SMALL, seed=1))
        shuffled = {name: one for name, one in weights.items() if name.startswith("bn6")} | weights
        torch.save(shuffled, tmp_path / "study.pth")
        said = refusal(tmp_path / "study.pth", "keras_like")
        assert said.endswith("keras_like:\n  bn6, bn3 have one shape and come in another order than the model's layers")

    def test_what_has_no_counterpart_is_listed(self, tmp_path):
        weights = as_a_notebook_would(create_model("gpt_cnn", size=SMALL))
        weights["conv2.weight"] = torch.zeros(32, 16, 3, 3)
        torch.save(weights, tmp_path / "study.pth")
        assert refusal(tmp_path / "study.pth", "gpt_cnn").split("\n")[1:] == [
            "  bias (32,), weight (32, 16, 5, 5): no layer in the file and features.5 in the model",
            "  bias (32,), weight (32, 16, 3, 3): conv2 in the file and no layer in the model",
        ]

    def test_our_own_names_are_taken(self, tmp_path):
        theirs = create_model("gpt_cnn", size=SMALL, seed=1)
        torch.save(theirs.state_dict(), tmp_path / "own.pth")
        directory = import_weights(tmp_path / "own.pth", "gpt_cnn", tmp_path / "run", size=SMALL)
        assert imported_of(directory).matched_by == "names"


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b3"])
def test_torchvisions_large_networks_give_the_same_logits_here(name, tmp_path):
    """The study's two large networks as its notebooks make them: torchvision's, with one channel and its own heads."""
    from torchvision import models

    torch.manual_seed(5)
    theirs = getattr(models, name)(weights=None)
    if name == "resnet50":
        theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        theirs.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(2048, 4))
    else:
        theirs.features[0][0] = nn.Conv2d(1, 40, 3, stride=2, padding=1, bias=False)
        theirs.classifier = nn.Sequential(
            nn.Dropout(0.4), nn.Linear(1536, 512), nn.ReLU(), nn.Dropout(0.4), nn.Linear(512, 4)
        )
    torch.save(as_trained(theirs).state_dict(), tmp_path / "study.pth")
    directory = import_weights(tmp_path / "study.pth", name, tmp_path / "run", scale="imagenet")
    images = torch.rand(2, 1, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(load_network(directory, CPU)[0](images), theirs(images), atol=1e-4, rtol=1e-4)
    assert imported_of(directory).by_order


class TestFilesThatDoNotFit:
    def test_every_wrong_name_and_shape_is_listed(self, tmp_path):
        weights = study_cnn().state_dict()
        weights["conv2.weight"] = torch.zeros(64, 32, 5, 5)
        weights["out.weight"] = torch.zeros(2, 128)
        weights["conv3.bias"] = torch.zeros(9)
        del weights["fc1.bias"]
        torch.save(weights, tmp_path / "other.pth")
        assert refusal(tmp_path / "other.pth").split("\n") == [
            f"{tmp_path / 'other.pth'} does not hold the weights of baseline_cnn:",
            "  conv2.weight is (64, 32, 5, 5), the model needs (64, 32, 3, 3)",
            "  out.weight is (2, 128), the model needs (4, 128)",
            "  fc1.bias is missing, the model needs (128,)",
            "  conv3.bias is (9,), the model has no such layer",
        ]

    def test_a_variant_with_another_batch_norm_is_another_model(self, checkpoint):
        said = refusal(checkpoint, "baseline_cnn_ce")
        assert "batchnorm2.weight is missing, the model needs (64,)" in said

    def test_another_size_of_slices_shows_in_the_first_linear_layer(self, checkpoint):
        assert "fc1.weight is (128, 4096), the model needs (128, 65536)" in refusal(checkpoint, size=128)

    def test_weights_that_are_not_finite_are_named(self, tmp_path):
        weights = study_cnn().state_dict()
        weights["out.bias"][0] = float("nan")
        torch.save(weights, tmp_path / "nan.pth")
        assert "out.bias hold numbers that are not finite" in refusal(tmp_path / "nan.pth")

    @pytest.mark.parametrize(
        "content",
        [
            {},
            [torch.zeros(3)],
            torch.zeros(3),
            {"epoch": 3, "loss": 0.5},
            {"state_dict": None},
            {1: torch.zeros(3)},
            {"conv1.weight": torch.zeros(2, 2).to_sparse()},
            {"conv1.weight": torch.zeros(2, dtype=torch.complex64)},
            {"conv1.weight": torch.zeros(2, device="meta")},
        ],
        ids=["empty", "list", "tensor", "numbers", "nothing", "unnamed", "sparse", "complex", "without content"],
    )
    def test_what_is_no_state_dict_is_refused(self, content, tmp_path):
        torch.save(content, tmp_path / "odd.pth")
        assert "save it with torch.save(model.state_dict(), ...)" in refusal(tmp_path / "odd.pth")

    @pytest.mark.parametrize(
        "content", [b"", b"no pickle", b"PK\x03\x04 no zip", b"\x80\x04.", pickle.dumps([1], 5)], ids=repr
    )
    def test_what_torch_did_not_save_is_refused_in_a_sentence(self, content, tmp_path):
        (tmp_path / "odd.pth").write_bytes(content)
        said = refusal(tmp_path / "odd.pth")
        assert "odd.pth holds no " in said
        assert "\n" not in said

    def test_a_cut_off_file_is_refused(self, checkpoint):
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
        assert "holds no plain weights" in refusal(checkpoint)

    def test_a_missing_file_and_a_folder_are_named(self, tmp_path):
        assert "absent.pth cannot be read (No such file or directory)" in refusal(tmp_path / "absent.pth")
        (tmp_path / "folder").mkdir()
        assert "folder cannot be read (Is a directory)" in refusal(tmp_path / "folder")


class TestHostileFiles:
    class Hostile:
        """Makes a folder when it is unpickled."""

        def __init__(self, canary: Path) -> None:
            self.canary = canary

        def __reduce__(self):
            return (os.mkdir, (str(self.canary),))

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("place", ["alone", "among the weights", "beside the weights"])
    def test_nothing_in_them_runs(self, place, zipped, tmp_path):
        hostile, weights = self.Hostile(tmp_path / "canary"), study_cnn().state_dict()
        contents = {"alone": hostile, "among the weights": {**weights, "fc1.bias": hostile}}
        content = contents.get(place, {"state_dict": weights, "optimizer": hostile})
        torch.save(content, tmp_path / "hostile.pth", _use_new_zipfile_serialization=zipped)
        said = refusal(tmp_path / "hostile.pth")
        assert "hostile.pth holds no plain weights (it asks for posix.mkdir); nothing in it was run" in said
        assert "\n" not in said
        assert not (tmp_path / "canary").exists()

    def test_an_archive_that_unpacks_to_more_than_it_is_is_not_unpacked(self, checkpoint, tmp_path):
        with zipfile.ZipFile(checkpoint) as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as bomb:
            for entry in plain.infolist():
                bomb.writestr(entry.filename, plain.read(entry))
        said = refusal(tmp_path / "bomb.pth")
        assert "bomb.pth holds no plain weights (it is a compressed archive, which torch.save never writes)" in said

    def test_a_bare_pickle_runs_neither(self, tmp_path):
        (tmp_path / "hostile.pth").write_bytes(pickle.dumps(self.Hostile(tmp_path / "canary")))
        assert "nothing in it was run" in refusal(tmp_path / "hostile.pth")
        assert not (tmp_path / "canary").exists()

    def test_a_whole_pickled_model_is_refused_with_what_to_do(self, tmp_path):
        torch.save(study_cnn(), tmp_path / "whole.pth")
        said = refusal(tmp_path / "whole.pth")
        assert "StudyCNN); nothing in it was run; save it with torch.save(model.state_dict(), ...)" in said


class TestTheRunDirectory:
    def test_says_that_it_was_imported_and_not_judged(self, imported):
        directory = open_run(imported)
        metrics = ImportedMetrics.read(imported / "metrics.json")
        assert (metrics.protocol, metrics.n_slices, metrics.metrics) == ("imported", 0, {})
        assert (directory.protocol, directory.leaky, directory.seen_slices()) == ("imported", None, [])
        with pytest.raises(RunError, match="were imported and never evaluated; evaluate them with --data"):
            directory.metrics()
        assert directory.recipe.input.scale == "raw"  # as the study feeds it
        assert directory.recipe.input.size == SMALL
        origin = imported_of(directory)
        assert origin.file == "study.pth"
        assert len(origin.sha256) == 64
        assert directory.environment.source is None
        assert {file.name for file in imported.iterdir() if file.name[0] != "."} == {
            *("recipe.yaml", "environment.json", "model.safetensors", "metrics.json")
        }
        assert "training" not in (imported / "recipe.yaml").read_text()  # nothing is claimed of how it was trained

    def test_answers_for_an_image(self, imported, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (SMALL, SMALL), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "slice.png")
        (answer,) = predict_images(imported, [tmp_path / "slice.png"]).slices
        with torch.no_grad():
            expected = study_cnn()(torch.from_numpy(pixels).float()[None, None]).softmax(dim=1)[0]
        assert [answer.probabilities[name] for name in CLASS_NAMES] == pytest.approx(expected.tolist(), abs=1e-5)

    def test_with_weights_that_are_not_finite_answers_nothing(self, imported, tmp_path):
        shutil.copytree(imported, tmp_path / "run")
        weights = load_file(tmp_path / "run" / "model.safetensors")
        weights["head.out.bias"][0] = float("nan")
        save_weights(weights, tmp_path / "run" / "model.safetensors", "baseline_cnn", CLASS_NAMES)
        Image.fromarray(np.zeros((SMALL, SMALL), np.uint8)).save(tmp_path / "slice.png")
        with pytest.raises(RunError, match=r"holds weights that are not finite \(head\.out\.bias\)"):
            predict_images(tmp_path / "run", [tmp_path / "slice.png"])

    def test_with_outputs_that_are_not_finite_answers_nothing(self, imported, tmp_path):
        shutil.copytree(imported, tmp_path / "run")
        weights = load_file(tmp_path / "run" / "model.safetensors")
        weights = {name: one * 1e30 if one.is_floating_point() else one for name, one in weights.items()}
        save_weights(weights, tmp_path / "run" / "model.safetensors", "baseline_cnn", CLASS_NAMES)
        Image.fromarray(np.full((SMALL, SMALL), 200, np.uint8)).save(tmp_path / "slice.png")
        with pytest.raises(DataError, match="the model's outputs are not finite"):
            predict_images(tmp_path / "run", [tmp_path / "slice.png"])

    def test_is_judged_on_a_source_under_its_own_protocol(self, imported, tmp_path):
        metrics = evaluate_run(imported, source="phantom:subjects=8,slices=3,seed=9", out=tmp_path / "judged")
        assert (metrics.protocol, metrics.part, metrics.n_slices) == ("imported", "whole", 24)
        assert metrics.leaky is None
        assert "the weights were imported, so slices of this source may have trained them" in str(metrics.interval.note)
        assert Metrics.read(tmp_path / "judged" / "metrics.json") == metrics

    def test_has_no_predictions_of_its_own(self, imported):
        with pytest.raises(RunError, match="were imported and never evaluated; evaluate them with --data SOURCE"):
            evaluate_run(imported)

    def test_is_explained_on_a_source_or_on_images(self, imported, tmp_path):
        written = explain_run(imported, tmp_path / "out", count=4, source="phantom:subjects=8,slices=3,seed=9")
        assert len(written) == 5
        picture = written[1]
        assert len(explain_run(imported, tmp_path / "one", images=[picture])) == 2
        with pytest.raises(RunError, match="were imported without data; name --images or --data SOURCE"):
            explain_run(imported, tmp_path / "none")

    def test_is_not_written_over_anything(self, imported, checkpoint):
        before = (imported / "metrics.json").stat().st_mtime_ns
        for place in (imported, checkpoint):
            with pytest.raises(RunError, match="is not empty; name a new folder with --out"):
                import_weights(checkpoint, "baseline_cnn", place, size=SMALL)
        assert (imported / "metrics.json").stat().st_mtime_ns == before

    def test_settings_that_do_not_exist_are_named(self, checkpoint, tmp_path):
        with pytest.raises(UnknownNameError, match="did you mean baseline_cnn"):
            import_weights(checkpoint, "baselin_cnn", tmp_path / "run")
        with pytest.raises(RecipeError, match=r"input\.scale"):
            import_weights(checkpoint, "baseline_cnn", tmp_path / "run", scale="grey")
        with pytest.raises(RecipeError, match=r"input\.size"):
            import_weights(checkpoint, "baseline_cnn", tmp_path / "run", size=8)
        assert not (tmp_path / "run").exists()
