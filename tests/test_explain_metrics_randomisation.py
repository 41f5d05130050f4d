"""mriscope.explain.metrics.randomisation: likeness of maps, and what random weights leave of them."""

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from mriscope.data.phantom import make_phantom
from mriscope.errors import MriscopeError
from mriscope.explain.maps import explain
from mriscope.explain.metrics.localisation import brain_mask
from mriscope.explain.metrics.randomisation import MakeMaps, randomise, rank_correlation, ssim


class Net(nn.Module):
    """Layers named against the order in which they run, batch norms, and weights without a way to reset them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6).reshape(6, 1, 1))
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images) * self.scale).mean((2, 3)))


ORDER = ("head", "second.1", "second.0", "first.1", "first.0", "(model)")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.from_numpy(make_phantom(4, 2, seed=1, size=32).slices.images.copy())[:, None].float() / 255


@pytest.fixture
def net() -> Net:
    torch.manual_seed(4)
    return Net().eval()


def edges(_model: nn.Module, images: Tensor, _classes: Tensor) -> Tensor:
    """What the study of Adebayo et al. warns of: a map that shows the image and knows no weights."""
    gradient = images[:, 0].diff(dim=1, prepend=images[:, 0, :1]).abs()
    return gradient / gradient.amax((1, 2), keepdim=True)


def method(name: str) -> MakeMaps:
    layer = "second.0" if name.endswith("cam") else None
    return lambda model, images, classes: explain(model, images, (name,), classes, layer=layer)[name].maps


def classes_of(images: Tensor) -> Tensor:
    return torch.arange(len(images)) % 3


def waves(count: int, *size: int) -> tuple[Tensor, Tensor]:
    steps = np.arange(count * int(np.prod(size))).reshape(count, *size)
    first = (np.sin(steps * 0.37) + 1) / 2
    return torch.from_numpy(first), torch.from_numpy(((np.sin(steps * 0.31 + 1) * 0.3 + first) / 1.6).clip(0, 1))


def test_ssim_is_that_of_scikit_image() -> None:
    # structural_similarity of scikit-image 0.26.0 with gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    # and data_range=1, map by map; of the volume likewise.
    golden = [0.6686434506417162, 0.6846515709871462, 0.6900261041718327]
    assert ssim(*waves(3, 20, 16)).tolist() == pytest.approx(golden, abs=1e-12)
    steps = torch.arange(12 * 13 * 14, dtype=torch.float64).reshape(1, 12, 13, 14)
    volumes = ((steps * 0.7).sin() + 1) / 2, ((steps * 0.69).cos() + 1) / 2
    assert ssim(*volumes).tolist() == pytest.approx([-0.010588566060595743], abs=1e-12)


def test_ssim_of_even_maps_is_that_of_their_brightness() -> None:
    zero, half = torch.zeros(1, 16, 16), torch.full((1, 16, 16), 0.5)
    assert ssim(zero, zero).tolist() == pytest.approx([1])
    assert ssim(half, half).tolist() == pytest.approx([1])
    assert ssim(zero, half).tolist() == pytest.approx([1e-4 / (0.25 + 1e-4)])
    assert ssim(half, torch.rand(1, 16, 16)).isfinite().all()


@settings(max_examples=30)
@given(st.integers(0, 2**20), st.integers(2, 30))
def test_rank_correlation_is_that_of_scipy(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    maps = random.integers(levels, size=(2, 3, 6, 7)) / levels
    area = random.random((3, 6, 7)) < 0.8
    first, second = (torch.from_numpy(one) for one in maps)
    whole, part = rank_correlation(first, second), rank_correlation(first, second, torch.from_numpy(area))
    for row in range(3):
        for found, (x, y) in ((whole, maps[:, row].reshape(2, -1)), (part, maps[:, row, area[row]])):
            if np.ptp(x) and np.ptp(y):
                assert found[row].item() == pytest.approx(spearmanr(x, y)[0])


def test_an_even_map_puts_nothing_in_order() -> None:
    zero, some = torch.zeros(2, 4, 4), torch.rand(2, 4, 4)
    assert rank_correlation(zero, some).tolist() == [0, 0]
    assert rank_correlation(some, zero + 0.5).tolist() == [0, 0]
    assert rank_correlation(zero, zero).tolist() == [0, 0]


def test_layers_become_random_from_the_one_that_runs_last(net: Net, images: Tensor) -> None:
    before = copy.deepcopy(net.state_dict())
    changed: list[set[str]] = []

    def watch(model: nn.Module, images: Tensor, _classes: Tensor) -> Tensor:
        changed.append({name for name, one in model.named_parameters() if not torch.equal(one, before[name])})
        return edges(model, images, _classes)

    found = randomise(net, images, classes_of(images), watch, draws=1)
    assert found.stages == ORDER
    assert found.ssim.shape == found.rank_correlation.shape == found.blank.shape == (6, len(images))
    # The fresh weights of a batch norm are 1 and 0, as are these.
    assert changed[0] == set()
    assert changed[1] == {"head.weight", "head.bias"}
    convolutions = {f"{block}.0.{kind}" for block in ("first", "second") for kind in ("weight", "bias")}
    assert changed[-1] == changed[1] | convolutions | {"scale"}
    assert all(earlier <= later for earlier, later in pairwise(changed))
    for name, weights in net.state_dict().items():
        torch.testing.assert_close(weights, before[name], rtol=0, atol=0)


def test_weights_without_a_reset_keep_their_values_in_another_order(net: Net, images: Tensor) -> None:
    seen: list[Tensor] = []

    def watch(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        assert isinstance(model, Net)
        seen.append(model.scale.detach().clone())
        return edges(model, images, classes)

    randomise(net, images, classes_of(images), watch, stages=1, draws=2)
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    for scale in seen[1:]:
        torch.testing.assert_close(scale.flatten().sort().values, seen[0].flatten(), rtol=0, atol=0)


def test_random_batch_norms_are_given_the_statistics_of_what_reaches_them(net: Net, images: Tensor) -> None:
    net.first[1].running_mean = torch.full((6,), 50.0)  # as far off as statistics of other weights may be
    outputs: list[Tensor] = []

    def watch(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        assert isinstance(model, Net)
        with torch.no_grad():
            outputs.append(model.first[:2](images))
        return edges(model, images, classes)

    randomise(net, images, classes_of(images), watch, draws=1)
    assert outputs[1].mean().item() < -10  # the head alone is random
    torch.testing.assert_close(outputs[-1].mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    assert outputs[-1].std((0, 2, 3)).tolist() == pytest.approx([1] * 6, abs=0.05)


@pytest.mark.parametrize(
    ("stages", "names"),
    [(1, ORDER[-1:]), (2, (ORDER[0], ORDER[-1])), (3, (ORDER[0], ORDER[2], ORDER[-1])), (50, ORDER)],
)
def test_stages_are_even_from_the_last_layer_to_all(
    net: Net, images: Tensor, stages: int, names: tuple[str, ...]
) -> None:
    assert randomise(net, images, classes_of(images), edges, stages=stages, draws=1).stages == names


def test_deep_networks_have_eight_stages(images: Tensor) -> None:
    deep = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(30)], nn.Flatten(), nn.Linear(32 * 32, 2))
    found = randomise(deep, images, classes_of(images) % 2, edges, draws=1)
    assert (len(found.stages), found.stages[0], found.stages[-1]) == (8, "31", "0")


def test_a_map_that_knows_no_weights_fails(net: Net, images: Tensor) -> None:
    found = randomise(net, images, classes_of(images), edges)
    torch.testing.assert_close(found.rank_correlation, torch.ones_like(found.rank_correlation))
    torch.testing.assert_close(found.ssim, torch.ones_like(found.ssim))
    assert (found.chance < 0.6).all()
    assert not found.passes


def test_turning_a_map_over_does_not_make_it_pass(net: Net, images: Tensor) -> None:
    turned = iter([False, True, True, True])

    def over(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        maps = edges(model, images, classes)
        return 1 - maps if next(turned) else maps

    assert not randomise(net, images, classes_of(images), over, stages=1).passes


def test_a_map_of_the_weights_alone_passes(net: Net, images: Tensor) -> None:
    def noise(model: nn.Module, images: Tensor, _classes: Tensor) -> Tensor:
        seed = abs(hash(tuple(model.state_dict()["first.0.weight"].flatten().tolist())))
        return torch.rand(images[:, 0].shape, generator=torch.Generator().manual_seed(seed % 2**31))

    found = randomise(net, images, classes_of(images), noise)
    assert found.passes
    assert (found.rank_correlation[-1] < 0.15).all()
    assert found.rank_correlation[:4].tolist() == pytest.approx(np.ones((4, len(images))))  # first.0 is random fifth


@pytest.mark.parametrize("name", ["gradcam", "layercam", "gradxinput"])
def test_gradients_pass_within_the_brain(net: Net, images: Tensor, name: str) -> None:
    brains = torch.from_numpy(brain_mask((images[:, 0] * 255).byte()))
    found = randomise(net, images, classes_of(images), method(name), within=brains, stages=2)
    assert found.with_contrast.any()
    assert found.rank_correlation.isfinite().all()
    assert found.ssim.isfinite().all()
    assert found.passes


def test_maps_without_contrast_do_not_count(net: Net, images: Tensor) -> None:
    def silent_first(_model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        maps = edges(_model, images, classes)
        maps[0] = 0
        return maps

    found = randomise(net, images, classes_of(images), silent_first, stages=2)
    assert found.with_contrast.tolist() == [False] + [True] * (len(images) - 1)
    assert found.blank.tolist() == [[True] + [False] * (len(images) - 1)] * 2
    assert found.rank_correlation[:, 0].tolist() == [0, 0]
    assert found.ssim[:, 0].tolist() == pytest.approx([1, 1])
    assert not found.passes
    nothing = randomise(net, images, classes_of(images), lambda _m, i, _c: torch.zeros_like(i[:, 0]), stages=1)
    assert not nothing.with_contrast.any()
    assert not nothing.passes


def test_equal_seeds_are_equal_and_leave_the_random_numbers_of_others_alone(net: Net, images: Tensor) -> None:
    state = torch.random.get_rng_state()
    one, same, other = (
        randomise(net, images, classes_of(images), method("gradcam"), seed=seed, stages=2) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.rank_correlation, same.rank_correlation)
    assert torch.equal(one.chance, same.chance)
    assert not torch.equal(one.rank_correlation, other.rank_correlation)


def test_attention_becomes_random_whole_and_volumes_work() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv3d(1, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, volumes: Tensor) -> Tensor:
            tokens = self.embed(volumes).flatten(2).mT
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    volumes = torch.rand(2, 1, 12, 12, 12)
    found = randomise(Tokens(), volumes, torch.tensor([0, 1]), lambda _m, v, _c: v[:, 0], draws=1)
    assert found.stages == ("head", "attention", "attention.out_proj", "embed")
    assert not found.passes


NETWORK, ZEROS = nn.Conv2d(1, 1, 1), torch.zeros(2, 1, 12, 12)


def call(
    model: nn.Module = NETWORK, images: Tensor = ZEROS, make: MakeMaps = edges, stages: int = 1, draws: int = 1
) -> object:
    return randomise(model, images, torch.zeros(len(images), dtype=torch.long), make, stages=stages, draws=draws)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: call(nn.Flatten()), "holds no weights"),
        (lambda: call(images=ZEROS[:0]), "no images"),
        (lambda: call(stages=0), "stages is 0"),
        (lambda: call(draws=0), "draws is 0"),
        (lambda: call(make=lambda _m, _i, _c: torch.zeros(2, 3, 3)), r"gives \(2, 3, 3\)"),
        (lambda: call(make=lambda _m, i, _c: i[:, 0] * torch.nan), "not finite"),
        (lambda: ssim(torch.zeros(1, 9, 20), torch.zeros(1, 9, 20)), "11 pixels"),
        (lambda: ssim(torch.zeros(1, 12, 12), torch.zeros(2, 12, 12)), "one shape"),
        (lambda: rank_correlation(torch.zeros(1, 4), torch.zeros(1, 5)), "one shape"),
    ],
)
def test_mistakes_are_one_sentence(made: Callable[[], object], message: str) -> None:
    with pytest.raises(MriscopeError, match=message):
        made()
