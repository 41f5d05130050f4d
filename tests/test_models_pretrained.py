"""Networks of timm: with stand-ins for the weights of others, as no test reaches for a hub."""

import copy
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from mriscope.data.batches import scaled
from mriscope.errors import DataError, RecipeError, UnknownNameError
from mriscope.explain.cam import GradCAM
from mriscope.models.registry import create_model
from mriscope.recipe import make_recipe
from mriscope.workflows._model import load_network
from mriscope.workflows.train import run

# The smallest networks of four families; they stand in for the large ones.
SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit")


def rgb_network(name: str, channels: int = 3, **options: Any) -> Any:
    """A network as timm has it for photographs, with random weights and, in batch norms, random statistics."""
    torch.manual_seed(3)
    network = timm.create_model(name, in_chans=channels, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def saved(network: nn.Module, path: Path) -> str:
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, path)
    return str(path)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory) -> str:
    return saved(rgb_network("resnet50"), tmp_path_factory.mktemp("weights") / "resnet50.safetensors")


@pytest.mark.parametrize("entry", ["state_dict", "model", None])
def test_a_training_programs_checkpoint_gives_the_same_weights(entry, tmp_path):
    network = rgb_network("test_resnet")
    weights = {f"module.{name}": one for name, one in network.state_dict().items()}
    weights |= {"n_averaged": torch.tensor(3), "module.total_ops": torch.zeros(1)}
    torch.save(weights if entry is None else {entry: weights, "epoch": 3}, tmp_path / "trained.pth")
    wrapped = create_model("timm:test_resnet", seed=0, options={"weights": str(tmp_path / "trained.pth")})
    plain = create_model("timm:test_resnet", seed=0, options={"weights": saved(network, tmp_path / "w.safetensors")})
    for name, one in plain.state_dict().items():
        torch.testing.assert_close(wrapped.state_dict()[name], one, rtol=0, atol=0)
    features: Any = wrapped.get_submodule("features")
    assert features.pretrained_cfg["state_dict"] is None


@pytest.mark.parametrize("name", SMALL)
def test_one_grey_channel_gives_what_three_equal_ones_gave(name, tmp_path):
    network = rgb_network(name, **({"img_size": 128} if name == "test_vit" else {}))
    model = create_model(f"timm:{name}", options={"weights": saved(network, tmp_path / "w.safetensors")}).eval()
    grey = scaled(torch.randint(0, 256, (2, 128, 128), dtype=torch.uint8), "imagenet")
    expected = network.forward_head(network.forward_features(grey.expand(-1, 3, -1, -1)), pre_logits=True)
    pooled = model.get_submodule("pool")(model.get_submodule("features")(grey))
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)


def test_the_filters_of_resnet50_are_summed_over_rgb(resnet_file):
    model = create_model("resnet50", options={"weights": resnet_file})
    photographs, slices = load_file(resnet_file), model.get_submodule("features").state_dict()
    torch.testing.assert_close(slices["conv1.weight"], photographs["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(slices["layer4.2.conv3.weight"], photographs["layer4.2.conv3.weight"])
    assert torch.equal(slices["layer1.0.bn1.running_var"], photographs["layer1.0.bn1.running_var"])


def test_filters_of_one_channel_are_taken_as_they_are(tmp_path):
    network = rgb_network("test_resnet", channels=1)
    model = create_model("timm:test_resnet", options={"weights": saved(network, tmp_path / "w.safetensors")})
    ours = model.get_submodule("features").state_dict()
    assert all(torch.equal(ours[name], one) for name, one in network.state_dict().items() if name in ours)


def test_a_transformers_positions_are_resized_to_other_slices(tmp_path):
    path = saved(rgb_network("test_vit"), tmp_path / "made_for_160.safetensors")
    assert load_file(path)["pos_embed"].shape[1] == 1 + 10 * 10
    model = create_model("timm:test_vit", size=96, options={"weights": path})
    assert model.get_parameter("features.pos_embed").shape[1] == 1 + 6 * 6
    assert torch.equal(model.get_parameter("features.norm.weight"), load_file(path)["norm.weight"])


def test_buffers_that_are_computed_may_be_in_the_file(tmp_path):
    network = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, embed_dim=24, num_heads=(1, 1, 1, 1))
    tables = {name: one for name, one in network.named_buffers() if name not in network.state_dict()}
    assert tables  # else this test says nothing
    from mriscope.models.pretrained import _problems

    grey = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, embed_dim=24, num_heads=(1, 1, 1, 1), in_chans=1, num_classes=0
    )
    assert _problems({**network.state_dict(), **tables}, grey) == []
    assert _problems({**network.state_dict(), "stranger": torch.zeros(1)}, grey) == [
        "stranger is (1,), the model has no such layer"
    ]


class TestFilesThatDoNotFit:
    def error(self, weights: object, kind: type[Exception] = DataError, model: str = "timm:test_resnet") -> str:
        with pytest.raises(kind) as caught:
            create_model(model, options={"weights": str(weights)})
        return str(caught.value)

    def test_differing_names_and_shapes_are_listed(self, tmp_path):
        weights = rgb_network("test_resnet").state_dict()
        weights["layer1.0.conv1.weight"] = torch.zeros(7, 7, 3, 3)
        weights["layer5.weight"] = torch.zeros(2)
        del weights["bn1.bias"]
        save_file(weights, tmp_path / "other.safetensors")
        said = self.error(tmp_path / "other.safetensors")
        assert "does not hold the weights of test_resnet:\n" in said
        assert "\n  layer1.0.conv1.weight is (7, 7, 3, 3), the model needs (" in said
        assert "\n  bn1.bias is missing, the model needs (" in said
        assert "\n  layer5.weight is (2,), the model has no such layer" in said

    def test_another_network_is_told_by_its_first_differences(self, tmp_path):
        said = self.error(saved(rgb_network("test_efficientnet"), tmp_path / "other.safetensors"))
        assert "is missing, the model needs" in said
        assert said.count("\n") <= 21

    def test_a_larger_network_of_the_same_kind_is_refused(self, resnet_file):
        said = self.error(resnet_file, model="timm:resnet26")
        assert said.count(", the model has no such layer") == 20
        assert "missing" not in said

    def test_first_filters_of_another_shape_are_refused(self, tmp_path):
        weights = rgb_network("test_resnet").state_dict()
        weights["conv1.0.weight"] = torch.zeros(5, 3, 3, 3)
        save_file(weights, tmp_path / "other.safetensors")
        assert "size mismatch for conv1.0.weight" in self.error(tmp_path / "other.safetensors")

    def test_a_missing_and_a_damaged_file_are_named(self, tmp_path):
        said = self.error(tmp_path / "absent.safetensors", RecipeError)
        assert "absent.safetensors is no file; choose none, imagenet or a file of weights" in said
        (tmp_path / "damaged.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 no json")
        assert "damaged.safetensors holds no plain weights" in self.error(tmp_path / "damaged.safetensors")

    def test_nothing_in_a_pickle_is_run(self, tmp_path):
        canary = tmp_path / "canary"
        for name in ("weights.pth", "weights.safetensors"):
            (tmp_path / name).write_bytes(pickle.dumps(Hostile(canary)))
            assert f"{name} holds no plain weights" in self.error(tmp_path / name)
        assert not canary.exists()


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.write_text, (self.canary, "run"))


class TestTheHub:
    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path) -> Path:
        """A hub that is out of reach, and an empty cache of it."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        return tmp_path

    @pytest.mark.parametrize("name", ["resnet50", "efficientnet_b3", "timm:test_resnet"])
    def test_out_of_reach_it_names_both_ways_on(self, name):
        with pytest.raises(RecipeError) as caught:
            create_model(name)
        said = str(caught.value)
        assert "model_options.weights: the ImageNet weights of" in said
        assert "model_options.weights=/path/to/file.safetensors" in said
        assert "model_options.weights=none" in said
        assert "\n" not in said

    def test_what_its_cache_holds_is_taken(self, cache):
        network = rgb_network("test_resnet")
        folder = cache / "models--timm--test_resnet.r160_in1k"
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        saved(network, folder / "snapshots" / ("0" * 40) / "model.safetensors")
        model = create_model("timm:test_resnet")
        expected = network.get_parameter("conv1.0.weight").sum(1, keepdim=True)
        torch.testing.assert_close(model.get_parameter("features.conv1.0.weight"), expected)

    def test_a_network_that_nobody_trained_says_so(self):
        with pytest.raises(RecipeError, match="timm has no trained weights for mixer_s32_224; give a local copy"):
            create_model("timm:mixer_s32_224")

    def test_a_model_that_is_filled_later_asks_for_nothing(self):
        create_model("timm:test_resnet", pretrained=False)
        create_model("timm:test_resnet", pretrained=False, options={"weights": "/nowhere.safetensors"})
        create_model("timm:test_resnet", options={"weights": "none"})


class TestFrozenParts:
    def trained(self, model: nn.Module, steps: int = 2) -> None:
        """Some steps on noise, in training mode."""
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            functional.cross_entropy(model(torch.rand(4, 1, 64, 64)), torch.arange(4)).backward()
            optimizer.step()

    def test_of_resnet50_the_last_stage_and_the_head_are_trained(self, resnet_file):
        model = create_model("resnet50", options={"weights": resnet_file})
        before = {name: one.clone() for name, one in model.state_dict().items()}
        self.trained(model)
        after = model.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        rest = {name for name in before if not name.startswith(("features.layer4.", "head."))}
        assert "features.layer1.0.bn1.running_mean" in rest
        assert not changed & rest  # weights and running statistics alike
        # A bias of the head and a weight of layer4 may stand still by chance; statistics and counts never do.
        assert {name for name in before if "layer4" in name and "running" in name} <= changed
        assert {"head.out.weight", "features.layer4.0.conv1.weight"} <= changed

    def test_they_rest_in_evaluation_mode_while_the_rest_trains(self, resnet_file):
        model = create_model("resnet50", options={"weights": resnet_file})
        modes = {name: module.training for name, module in model.train().named_modules()}
        assert not modes["features.bn1"]
        assert not modes["features.layer3.5.bn3"]
        assert modes["features.layer4.0.bn1"]
        assert modes["head.dropout"]
        assert not any(module.training for module in model.eval().modules())

    def test_nothing_is_frozen_where_weights_are_random(self):
        model = create_model("resnet50", options={"weights": "none"})
        assert all(one.requires_grad for one in model.parameters())
        with pytest.raises(RecipeError, match="frozen: would keep random weights, as weights is none; set it to false"):
            create_model("resnet50", options={"weights": "none", "frozen": True})

    def test_a_model_that_is_filled_later_is_frozen_as_if_it_were_full(self):
        model = create_model("resnet50", pretrained=False)
        trained = {name.rsplit(".", 1)[0] for name, one in model.named_parameters() if one.requires_grad}
        assert trained == {name for name in trained if name.startswith(("features.layer4.", "head."))}
        model = create_model("resnet50", pretrained=False, options={"frozen": False})
        assert all(one.requires_grad for one in model.parameters())

    def test_of_efficientnet_b3_nothing_is_frozen_unless_asked_for(self):
        assert all(one.requires_grad for one in create_model("efficientnet_b3", pretrained=False).parameters())
        model = create_model("efficientnet_b3", pretrained=False, options={"frozen": True})
        assert {name for name, one in model.named_parameters() if one.requires_grad} == {
            *("head.fc1.weight", "head.fc1.bias", "head.out.weight", "head.out.bias")
        }

    def test_any_backbone_can_be_frozen_whole(self):
        model = create_model("timm:test_vit", size=64, pretrained=False, options={"frozen": True})
        before = {name: one.clone() for name, one in model.get_submodule("features").state_dict().items()}
        self.trained(model)
        after = model.get_submodule("features").state_dict()
        assert all(torch.equal(one, after[name]) for name, one in before.items())
        assert not any(module.training for module in model.get_submodule("features").modules())


def test_the_heads_are_the_studys():
    def layers(name):
        head = create_model(name, pretrained=False).get_submodule("head")
        return [
            (one.in_features, one.out_features) if isinstance(one, nn.Linear) else getattr(one, "p", "ReLU")
            for one in head.children()
        ]

    assert layers("resnet50") == [0.5, (2048, 4)]
    assert layers("efficientnet_b3") == [0.4, (1536, 512), "ReLU", 0.4, (512, 4)]


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [
        ("vit_tiny_patch16_224", 128, (2, 1 + 8 * 8, 192)),
        ("vit_tiny_patch16_224", 224, (2, 1 + 14 * 14, 192)),
        ("vit_tiny_patch16_224.augreg_in21k", 64, (2, 1 + 4 * 4, 192)),
        ("swin_tiny_patch4_window7_224", 128, (2, 4, 4, 768)),
        ("convnext_atto", 128, (2, 320, 4, 4)),
        ("test_efficientnet", 96, (2, 256, 3, 3)),
    ],
)
def test_any_name_of_timm_gives_a_model(name, size, features):
    model = create_model(f"timm:{name}", classes=3, size=size, pretrained=False, seed=0)
    images = torch.rand(2, 1, size, size)
    assert model.get_submodule("features")(images).shape == features
    logits = model(images)
    assert logits.shape == (2, 3)
    logits.logsumexp(dim=1).sum().backward()
    assert all(one.grad is not None for one in model.get_submodule("head").parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tinny", "no timm model 'convnext_tinny'; did you mean convnext_tiny"),
        ("resnet50.a1_in1", "did you mean resnet50.a1_in1k"),
        ("zzz", "no timm model 'zzz'; choose one of "),
        ("hf-hub:owner/name", "no timm model 'hf-hub:owner/name'"),
        ("local-dir:/somewhere", "no timm model 'local-dir:/somewhere'"),
        ("", "no timm model ''"),
    ],
)
def test_an_unknown_name_of_timm_names_the_near_ones(name, message):
    with pytest.raises(UnknownNameError) as caught:
        create_model(f"timm:{name}")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_network_that_takes_no_slices_of_this_size_says_so():
    with pytest.raises(RecipeError, match=r"timm:test_vit: takes no slices of 1×100×100 \("):
        create_model("timm:test_vit", size=100, pretrained=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": 3}, "weights: is 3; choose none, imagenet or a file of weights"),
        ({"weights": None}, "weights: is None"),
        ({"weights": "Imagenet"}, "Imagenet is no file; choose none, imagenet"),
        ({"frozen": "no"}, "frozen: is 'no'; choose true or false"),
        ({"weight": "none"}, "has no option 'weight'; did you mean weights"),
        ({"pretrained": False}, "has no option 'pretrained'"),
    ],
)
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b3", "timm:test_resnet"])
def test_options_that_do_not_fit_are_named(name, options, message):
    with pytest.raises(RecipeError) as caught:
        create_model(name, options=options)
    assert message in str(caught.value)


def test_a_copy_stands_on_its_own():
    """Averaged weights live in a copy; it must not run the layers of the model it was made of."""
    model = create_model("timm:test_resnet", pretrained=False, seed=0).eval()
    images = torch.rand(1, 1, 64, 64)
    expected, double = model(images), copy.deepcopy(model)
    for one in model.parameters():
        one.data.zero_()
    torch.testing.assert_close(double(images), expected)
    assert set(double.state_dict()) == set(model.state_dict())
    assert not any(name.startswith("pool") for name in model.state_dict())


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b3"])
def test_an_explanation_finds_the_last_map_by_itself(name):
    maps = GradCAM(create_model(name, pretrained=False, seed=0))(torch.rand(2, 1, 96, 96))
    assert maps.shape == (2, 96, 96)
    assert (maps >= 0).all()
    assert (maps <= 1).all()


def test_a_trained_run_is_loaded_without_the_weights_it_began_with(tmp_path):
    path = Path(saved(rgb_network("test_resnet"), tmp_path / "w.safetensors"))
    recipe = make_recipe(
        {
            "model": "timm:test_resnet",
            "model_options": {"weights": str(path), "frozen": True},
            "data": "phantom:subjects=24,slices=2,seed=1",
            "input": {"size": 32, "scale": "imagenet"},
            "training": {"epochs": 1, "batch_size": 16, "weight_averaging": 0.5},
        }
    )
    directory = run(recipe, tmp_path / "run", device="cpu", silent=True)
    expected = load_file(path)["layer1.0.conv1.weight"]
    path.unlink()
    model, _ = load_network(directory, torch.device("cpu"))
    assert torch.equal(model.get_parameter("features.layer1.0.conv1.weight"), expected)
