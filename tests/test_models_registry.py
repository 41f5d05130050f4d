import subprocess
import sys

import pytest
import torch
from torch import nn

from mriscope.errors import MriscopeError, RecipeError, UnknownNameError
from mriscope.models import registration
from mriscope.models.registry import (
    Estimator,
    count_macs,
    count_parameters,
    create_model,
    list_estimators,
    list_models,
    register,
    register_estimator,
)

SUMMARIES = list_models()
NAMES = [one.name for one in SUMMARIES]

# Derived by hand from the layer table of the study.
PARAMETERS = {
    "baseline_cnn": 8_408_132,
    "baseline_cnn_ce": 8_408_260,
    "baseline_cnn_ce_dropped": 8_408_260,
    "baseline_cnn_ce_drop01": 8_408_260,
    "baseline_cnn_ce_conv_add": 4_288_068,
    "baseline_cnn_ce_conv_added_drop_minus": 4_288_068,
    "different_baseline": 2_110_724,
    "study_model": 27_575_060,
    "keras_like": 2_618_052,
    "gpt_cnn": 4_276_004,
    # Filters 16·49 + 32·16·9 + 64·32·9 + 64·64·9, two numbers of batch norm per channel, and 64·4 + 4.
    "compact_cnn": 784 + 4_608 + 18_432 + 36_864 + 2 * (16 + 32 + 64 + 64) + 260,
    # Filters 32·49 + 64·32·9 + 128·64·9, batch norm, and 4·(128·8²) + 4.
    "strided_cnn": 1_568 + 18_432 + 73_728 + 2 * (32 + 64 + 128) + 32_772,
    # The same, with 200 outputs in place of 4, and a bias for each.
    "subject_cnn": 1_568 + 18_432 + 73_728 + 2 * (32 + 64 + 128) + 200 * (8_192 + 1),
    # Filters 64·25 + 9·(128·64 + 2·128² + 256·128 + 512·256 + 2·512²), batch norm, and 4·(512·4²) + 4.
    # torchvision's count, less its classifier (2,048·1,000 + 1,000) and two of three filters of 64·7·7, and our head.
    "resnet50": 25_557_032 - 2_049_000 - 2 * 64 * 49 + (2048 * 4 + 4),
    # The published count, less its classifier (1,536·1,000 + 1,000) and two of three filters of 40·3·3, and our head.
    "efficientnet_b3": 12_233_232 - 1_537_000 - 2 * 40 * 9 + (1536 * 512 + 512) + (512 * 4 + 4),
}


def untrained(name, **settings):
    """A model that reads no weights of others."""
    return create_model(name, pretrained=False, **settings)


@pytest.mark.parametrize("name", NAMES)
class TestEveryModel:
    def test_gives_logits_and_has_its_three_parts(self, name):
        model = untrained(name, seed=0)
        assert model(torch.zeros(2, 1, 128, 128)).shape == (2, 4)
        assert {"features", "pool", "head"} <= {part for part, _ in model.named_children()}

    def test_trains_in_every_weight_that_is_not_frozen(self, name):
        model = untrained(name, seed=0).train()
        model(torch.rand(4, 1, 128, 128)).logsumexp(dim=1).sum().backward()
        weights = [one for one in model.parameters() if one.requires_grad]
        assert weights
        assert all(one.grad is not None and one.grad.isfinite().all() for one in weights)

    def test_a_slice_is_judged_alone(self, name):
        model = untrained(name, seed=0).eval()
        images = torch.rand(3, 1, 128, 128)
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    def test_its_seed_makes_its_weights_and_leaves_torchs_stream_alone(self, name):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        one, same, other = (untrained(name, seed=seed).state_dict() for seed in (1, 1, 2))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(one[key], same[key]) for key in one)
        assert any(not torch.equal(one[key], other[key]) for key in one)

    def test_takes_other_numbers_of_classes(self, name):
        assert untrained(name, classes=2).eval()(torch.zeros(1, 1, 128, 128)).shape == (1, 2)

    def test_has_the_parameters_derived_by_hand(self, name):
        assert count_parameters(untrained(name)) == PARAMETERS[name]

    def test_its_summary_tells_the_truth(self, name):
        summary = next(one for one in SUMMARIES if one.name == name)
        assert summary.parameters == count_parameters(untrained(name))
        assert summary.macs > 0
        assert summary.about.endswith(".")


def test_macs_are_those_counted_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 16, 3))
    assert count_macs(model, size=4) == 16 * 2 * 9 + 32 * 3


def test_baseline_cnn_has_the_studys_layers_in_their_order():
    layers = [type(layer).__name__ for layer in create_model("baseline_cnn").get_submodule("features").children()]
    assert layers == ["Conv2d", "ReLU", "MaxPool2d", "BatchNorm2d", "Conv2d", "ReLU", "MaxPool2d"]


def test_an_unknown_model_names_the_near_ones():
    with pytest.raises(UnknownNameError, match="no model 'baselin_cnn'; did you mean baseline_cnn"):
        create_model("baselin_cnn")


def test_an_unknown_option_is_named():
    with pytest.raises(RecipeError, match="baseline_cnn has no option 'dropout'"):
        create_model("baseline_cnn", options={"dropout": 0.3})


@pytest.mark.parametrize("dropout", ["x", 2, -0.5, None, [0.5]])
def test_a_value_that_an_option_does_not_take_is_refused(dropout):
    with pytest.raises(
        RecipeError, match=r"model_options: compact_cnn refuses them: |dropout: is .+; compact_cnn takes a number"
    ):
        create_model("compact_cnn", options={"dropout": dropout})


def test_a_model_that_needs_neither_timm_nor_scikit_learn_imports_neither():
    program = (
        "import sys; from mriscope.models.registry import create_model; create_model('baseline_cnn')\n"
        "assert not {'timm', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_estimators_are_made_by_name_and_have_no_summary():
    assert list_estimators() == ["nearest_neighbour", "tissue_families", "tissue_histograms"]
    assert not set(list_estimators()) & set(NAMES)
    for name in list_estimators():
        assert isinstance(create_model(name), Estimator)
        assert count_macs(create_model(name)) is None
    assert not isinstance(untrained("compact_cnn"), Estimator)


@pytest.mark.parametrize("again", [register, register_estimator])
@pytest.mark.parametrize("name", ["compact_cnn", "tissue_histograms"])
def test_a_name_that_is_taken_is_refused(again, name):
    def maker(*, classes: int = 4, size: int = 128):
        return nn.Flatten()

    maker.__name__ = name
    with pytest.raises(MriscopeError, match=rf"the model name '{name}' is taken by mriscope\.models\.\w+; give"):
        again(maker)
    assert not isinstance(create_model(name), nn.Flatten)


def test_a_network_of_ones_own_is_created_by_its_name(monkeypatch):
    monkeypatch.setattr(registration, "_entries", dict(registration._entries))

    @register
    def one_layer(*, classes: int = 4, size: int = 128):
        """A linear layer on all pixels."""
        return nn.Sequential(nn.Flatten(), nn.Linear(size**2, classes))

    assert register(one_layer) is one_layer
    assert create_model("one_layer", classes=3, size=8)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert "one_layer" in [one.name for one in list_models()]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"width": 100_000}, r"would have [\d,]+ parameters, at most 2,000,000,000 are taken"),
        ({"width": 2**62}, "refuses them"),
        ({"width": 0}, "refuses them"),
        ({"width": 2.5}, r"model_options\.width: is 2\.5; strided_cnn takes a whole number"),
        ({"places": -1}, "refuses them"),
        ({"mirror": "x"}, r"model_options\.mirror: is 'x'; strided_cnn takes true or false"),
    ],
)
def test_options_that_make_no_network_are_refused_before_they_cost_anything(options, reason):
    with pytest.raises(RecipeError, match=reason):
        create_model("strided_cnn", size=32, options=options)
