"""mriscope.explain.layers: which layer is meant, and how its output is read."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from explain_networks import (
    SmallNet,
    SmallVolumeNet,
    baseline,
    n_hooks,
    resnet18,
    seeded,
    small_net,
    some_images,
    some_volumes,
)
from explain_networks import swin as swin_net
from explain_networks import vit as vit_net
from torch import Tensor, nn

from mriscope.errors import MriscopeError, UnknownNameError
from mriscope.explain import CAM, GradCAM, ScoreCAM, channels_last, explain, tokens
from mriscope.explain.layers import find_layers, find_reshape


class Encoder(nn.Module):
    """PyTorch's own transformer, which has a way of its own through layers nobody listens to."""

    def __init__(self, prefix: int = 1, size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 8, 8)
        self.first = nn.Parameter(torch.zeros(1, prefix, 16))
        self.places = nn.Parameter(torch.randn(1, prefix + size[0] * size[1] // 64, 16))
        block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).mT
        given = torch.cat([self.first.expand(len(images), -1, -1), patches], 1) + self.places
        return self.out(self.blocks(given).mean(1))


class ChannelsFirstNorm(nn.LayerNorm):
    """A norm over channels of maps (B, C, h, w), as ConvNeXt's."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize(
    ("make", "images", "wanted"),
    [
        pytest.param(baseline, some_images(2, 1, 32), "features.conv2", id="baseline_cnn"),
        pytest.param(resnet18, some_images(2, 3, 64), "layer4.1.conv2", id="resnet18"),
        pytest.param(vit_net, some_images(2, 3, 64), "blocks.1.norm1", id="vit"),
        pytest.param(swin_net, some_images(2, 3, 64), "layers.3.blocks.1.norm1", id="swin"),
        pytest.param(lambda: seeded(Encoder), some_images(2, 1, 32), "blocks.layers.1.norm1", id="encoder"),
        pytest.param(lambda: seeded(SmallVolumeNet), some_volumes(2), "features.0", id="volumes"),
        # At 32 pixels the last blocks of ResNet-18 have one place, which shows none.
        pytest.param(resnet18, some_images(2, 3, 32), "layer3.1.conv2", id="resnet18 on few pixels"),
    ],
)
def test_the_layer_found_by_itself(make: Callable[[], nn.Module], images: Tensor, wanted: str):
    model = make()
    cam = CAM(model)
    found = cam.explain(images)
    assert cam.layer == found.layers == (wanted,)
    assert found.maps.shape == (2, *images.shape[2:])
    assert torch.equal(found.maps, CAM(model, wanted)(images))
    assert find_layers(model, None, images) == [model.get_submodule(wanted)]
    assert n_hooks(model) == 0


def test_layers_by_module_by_name_and_mixed():
    model, images = small_net(), some_images()
    assert find_layers(model, model.features[0], images) == [model.features[0]]
    assert find_layers(model, "features.0", images) == [model.features[0]]
    assert find_layers(model, ["features.0", model.features[4]], images) == [model.features[0], model.features[4]]
    twice = GradCAM(model, ["features.4", "features.4"]).explain(images, 2)
    assert twice.layers == ("features.4", "features.4")
    torch.testing.assert_close(twice.maps, GradCAM(model, "features.4")(images, 2))


def test_a_module_known_by_two_names_is_found_by_both():
    model: Any = small_net()
    model.last_convolution = model.features[4]
    images = some_images()
    assert torch.equal(GradCAM(model, "last_convolution")(images), GradCAM(model, "features.4")(images))


@pytest.mark.parametrize(
    ("make", "size", "name", "near"),
    [
        (resnet18, 64, "layer4.2.conv2", r"layer4\.1\.conv2 \(1, 512, 2, 2\)"),
        (resnet18, 64, "layer5", r"layer4 \(1, 512, 2, 2\)"),
        (vit_net, 64, "blocks.2.norm1", r"blocks\.1\.norm1 \(1, 17, 192\)"),
        (swin_net, 64, "layers.3.blocks.2.norm1", r"layers\.3\.blocks\.1\.norm1 \(1, 2, 2, 192\)"),
    ],
)
def test_a_wrong_name_lists_the_near_ones_with_their_shapes(
    make: Callable[[], nn.Module], size: int, name: str, near: str
):
    model = make()
    with pytest.raises(UnknownNameError, match=near) as caught:
        GradCAM(model, name)(some_images(2, 3, size))
    assert f"no layer {name!r}" in str(caught.value)
    assert n_hooks(model) == 0


def test_a_name_like_no_other_lists_the_last_ones():
    with pytest.raises(UnknownNameError, match=r"head\.5 \(1, 4\)"):
        GradCAM(small_net(), "???")(some_images())


def test_an_empty_list_and_another_models_module_are_refused():
    with pytest.raises(MriscopeError, match="at least one layer"):
        GradCAM(small_net(), [])
    with pytest.raises(MriscopeError, match="ReLU is no part of the model"):
        GradCAM(small_net(), ["features.4", nn.ReLU()])
    with pytest.raises(MriscopeError, match="ReLU is no part of the model"):
        explain(small_net(), some_images(), layer=nn.ReLU())


def test_methods_on_the_whole_network_need_no_layer():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(400, 4))
    assert explain(dense, some_images(), ["fullgrad"])["fullgrad"].maps.max() == 1
    with pytest.raises(MriscopeError, match="pass layer="):
        explain(dense, some_images(), ["fullgrad", "gradcam"])


# --- tokens and channels that come last ---


def test_tokens_and_channels_last_are_read_place_by_place():
    output = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)  # one token, then two rows of three patches
    read = tokens(2, 3)(output)
    assert read.shape == (2, 3, 2, 3)
    assert read[1, 2].tolist() == output[1, 1:, 2].reshape(2, 3).tolist()
    assert torch.equal(tokens(7, 1, prefix=0)(output)[..., 0], output.mT)
    maps = torch.arange(2 * 4 * 5 * 3.0).reshape(2, 4, 5, 3)
    assert torch.equal(channels_last(maps), maps.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("prefix", "size", "places"),
    [(0, (32, 32), (4, 4)), (1, (32, 32), (4, 4)), (5, (32, 32), (4, 4)), (1, (32, 64), (4, 8)), (2, (64, 32), (8, 4))],
)
def test_tokens_are_told_by_the_proportion_of_the_image(prefix: int, size: tuple[int, int], places: tuple[int, int]):
    model, images = seeded(Encoder, prefix, size), torch.rand(2, 1, *size)
    layer = "blocks.layers.1.norm1"
    found = GradCAM(model, layer)(images, 1)
    assert found.shape == (2, *size)
    assert torch.equal(found, GradCAM(model, layer, reshape=tokens(*places, prefix))(images, 1))


def test_tokens_that_fit_no_proportion_ask_for_a_reshape():
    assert find_reshape(nn.Identity(), torch.rand(2, 7, 3), torch.rand(2, 1, 200, 300)) is not None
    assert find_reshape(nn.Identity(), torch.rand(2, 3, 2), torch.rand(2, 1, 70, 300)) is None
    model = nn.Sequential(nn.Conv2d(1, 3, (70, 150), (70, 150)), nn.Flatten(2), nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(MriscopeError, match=r"layer '1' gives float32 \(2, 3, 2\); a map needs floats with 4 axes"):
        GradCAM(model, "1")(torch.rand(2, 1, 70, 300))
    assert GradCAM(model, "1", reshape=lambda output: output[:, :, None])(torch.rand(2, 1, 70, 300)).shape == (
        2,
        70,
        300,
    )


@pytest.mark.parametrize(
    ("reshape", "match"),
    [
        (tokens(3, 3), r"reshape does not fit layer 'blocks.1.norm1', which gives float32 \(2, 17, 192\)"),
        (lambda output: output, r"'blocks.1.norm1' gives float32 \(2, 17, 192\); a map needs floats with 4 axes"),
        (lambda output: output.mean(1)[:, :, None, None], "one value per channel"),
    ],
)
def test_a_reshape_that_does_not_fit_is_refused(reshape: Callable[[Tensor], Tensor], match: str):
    with pytest.raises(MriscopeError, match=match):
        GradCAM(vit_net(), "blocks.1.norm1", reshape=reshape)(some_images(2, 3, 64))


def test_a_norm_of_channels_is_read_where_its_channels_are():
    class Norms(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            self.first, self.convolution, self.out = first, nn.Conv2d(1, 10, 2, 2), nn.Linear(10, 4)
            self.norm = ChannelsFirstNorm(10) if first else nn.LayerNorm(10)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.convolution(images)
            maps = self.norm(maps) if self.first else self.norm(maps.movedim(1, -1)).movedim(-1, 1)
            return self.out(maps.relu().mean((2, 3)))

    images = some_images(3)  # a map of 10 × 10 places and 10 channels: no axis tells itself
    found = [GradCAM(seeded(Norms, first), "norm")(images, 1) for first in (True, False)]
    assert found[0].max() == 1
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "scorecam", "ablationcam"])
def test_a_transformers_maps_do_not_depend_on_who_says_how_to_read_it(method: str):
    model, images = seeded(Encoder), some_images(2, 1, 32)
    told = CAM(model, "blocks.layers.1.norm1", method=method, reshape=tokens(4, 4))(images, [0, 1])
    assert torch.equal(CAM(model, method=method)(images, [0, 1]), told)


def test_a_layer_whose_output_is_no_map_is_refused_by_every_kind_of_method():
    class Several(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    class Wrapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.several, self.out = Several(), nn.Linear(400, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.out(self.several(images)[0].flatten(1))

    for cam in (GradCAM, ScoreCAM):
        with pytest.raises(MriscopeError, match="layer 'several' gives a tuple; a map needs floats"):
            cam(Wrapping().eval(), "several")(some_images())
        with pytest.raises(MriscopeError, match=r"layer 'head.5' gives float32 \(6, 4\); a map needs floats"):
            cam(small_net(), "head.5")(some_images())


def test_the_last_convolution_is_the_one_that_ran_last_on_a_map():
    class Unordered(nn.Module):
        """Runs its layers in another order than it lists them, and ends in a convolution on a pooled value."""

        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Conv2d(4, 4, 3), nn.Conv2d(1, 4, 3)
            self.unused, self.head = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            pooled = self.late(self.early(images).relu()).relu().mean((2, 3), keepdim=True)
            return self.head(pooled).flatten(1)

    model = Unordered().eval()
    cam = GradCAM(model)
    cam(some_images())
    assert cam.layer == ("late",)
    with pytest.raises(MriscopeError, match=r"'unused' did not run"):
        GradCAM(model, "unused")(some_images())
    with pytest.raises(MriscopeError, match=r"'head' gives one value per channel"):
        GradCAM(model, "head")(some_images())


def test_a_model_without_convolution_asks_for_a_layer():
    dense = nn.Sequential(nn.Flatten(), nn.Linear(400, 4))
    with pytest.raises(MriscopeError, match="pass layer="):
        GradCAM(dense)(some_images())
    with pytest.raises(MriscopeError, match=r"layer '1' gives float32 \(6, 4\); a map needs floats with 4 axes"):
        GradCAM(dense, "1")(some_images())
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 4, 1), nn.Flatten())
    with pytest.raises(MriscopeError, match="pass layer="):
        GradCAM(pooled)(some_images())


def test_a_layer_that_no_logit_depends_on_is_refused():
    class Aside(SmallNet):
        def forward(self, images: Tensor) -> Tensor:
            self.features(images)
            return self.head(images[:, :1].expand(-1, 8, -1, -1))

    with pytest.raises(MriscopeError, match=r"no logit depends on layer 'features.4'"):
        GradCAM(Aside().eval(), "features.4")(some_images())
