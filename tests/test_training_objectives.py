import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from mriscope.recipe import TrainingSettings
from mriscope.training.objectives import balanced_class_weights, focal_factor, hardest, make_objective, n_hardest
from mriscope.training.sampling import balanced, shuffled

LOGITS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
LABELS = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1))


def losses(class_weights: torch.Tensor | None = None, **settings) -> torch.Tensor:
    return make_objective(TrainingSettings.model_validate(settings), class_weights)(LOGITS, LABELS)


def test_two_even_logits_cost_log_two():
    objective = make_objective(TrainingSettings())
    torch.testing.assert_close(objective(torch.zeros(1, 2), torch.tensor([1])), torch.tensor([2.0]).log())


def test_cross_entropy_and_smoothing_are_torchs():
    torch.testing.assert_close(losses(), functional.cross_entropy(LOGITS, LABELS, reduction="none"))
    smoothed = functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(losses(label_smoothing=0.1), smoothed)


def test_class_weights_weigh_each_slices_loss():
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=torch.float64)
    expected = functional.cross_entropy(LOGITS, LABELS, weight=weights, reduction="none")
    torch.testing.assert_close(losses(weights), expected)


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat([0, 1, 2], [10, 30, 60])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(balanced_class_weights(torch.tensor(labels), 3).double(), torch.tensor(expected))
    weights = balanced_class_weights(torch.tensor(labels), 4)
    assert weights[3] == 0
    assert weights[torch.tensor(labels)].mean() == pytest.approx(1)


def test_focal_without_focus_is_cross_entropy():
    torch.testing.assert_close(losses(objective="focal", focus=0), losses())


def test_focal_is_the_formula_of_its_paper():
    probability = LOGITS.softmax(dim=1)[torch.arange(50), LABELS]
    torch.testing.assert_close(losses(objective="focal", focus=2), -((1 - probability) ** 2) * probability.log())


@pytest.mark.parametrize("focus", [0.5, 2.0])
def test_focal_stays_finite_where_the_model_is_sure(focus):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    objective = make_objective(TrainingSettings(objective="focal", focus=focus))
    objective(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert focal_factor(logits.detach(), torch.tensor([0, 0]), 2.0).tolist() == pytest.approx([0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("count", "share", "kept"), [(32, 0.2, 7), (16, 0.2, 4), (10, 0.2, 2), (5, 0.2, 2), (1, 0.2, 1)]
)
def test_the_hardest_share_is_rounded_up_and_two_at_least(count, share, kept):
    assert n_hardest(count, share) == kept
    assert len(hardest(torch.rand(count), share)) == kept


def test_the_hardest_have_the_highest_losses():
    assert set(hardest(torch.tensor([1.0, 9.0, 3.0, 8.0, 0.0]), 0.4).tolist()) == {1, 3}


def test_balanced_sampling_draws_each_class_alike():
    labels = np.repeat([0, 1, 2, 3], [2, 50, 300, 648])
    rows = np.arange(1000) + 7
    drawn = np.concatenate([balanced(rows, labels, seed=0, epoch=epoch) for epoch in range(20)])
    counts = np.bincount(labels[drawn - 7])
    assert len(drawn) == 20_000
    assert np.abs(counts - 5000).max() < 4 * np.sqrt(20_000 * 0.25 * 0.75)


def test_orders_are_those_of_their_seed_and_epoch():
    rows, labels = np.arange(40), np.arange(40) % 4
    for order in (lambda *when: shuffled(rows, *when), lambda *when: balanced(rows, labels, *when)):
        assert order(1, 2).tolist() == order(1, 2).tolist()
        assert order(1, 2).tolist() != order(1, 3).tolist()
        assert order(1, 2).tolist() != order(2, 2).tolist()
    assert sorted(shuffled(rows, 1, 2)) == rows.tolist()
