"""Class activation maps: where in a slice the evidence for a class lies. One method is one short function.

Each function takes a LayerRecord (A activations, G gradients, S the sum of A over places) and returns one of three:
channel weights w (B, C), for the map Σ_k w_k A_k; the share of each channel in the map, (B, C, h, w); or the map
itself, (B, h, w).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mriscope.explain.records import LayerRecord
from mriscope.explain.scores import Score, logit

_TINY = 1e-7


@dataclass(frozen=True)
class CAMMethod:
    """A method on the activations of a layer.

    Args:
        title: its name in print.
        make: from LayerRecord to channel weights, shares or a map.
        gradients: whether it uses them; where not, its record has none.
        score: what they are of.
    """

    title: str
    make: Callable[[LayerRecord], Tensor]
    gradients: bool = True
    score: Score = logit


def grad_cam(record: LayerRecord) -> Tensor:
    """Compute Grad-CAM (Selvaraju et al., 2017): w = mean G over places."""
    return record.gradient.flatten(2).mean(2)


def grad_cam_plus_plus(record: LayerRecord) -> Tensor:
    """Compute Grad-CAM++ (Chattopadhay et al., 2018): w = Σ relu(G) α, α = G² / (2 G² + S G³ + 1e-6), 0 where G = 0."""
    totals = record.activations.flatten(2).sum(2, keepdim=True)
    rises = record.gradient.flatten(2).relu()  # where G is not above 0, nothing is added
    squares = rises * rises
    below = (rises * totals).add_(2).mul_(squares).add_(1e-6)
    return squares.mul_(rises).div_(below).sum(2)


def x_grad_cam(record: LayerRecord) -> Tensor:
    """Compute XGrad-CAM (Fu et al., 2020): w = Σ G A / (S + 1e-7)."""
    return record.product.flatten(2).sum(2) / (record.activations.flatten(2).sum(2) + _TINY)


def hires_cam(record: LayerRecord) -> Tensor:
    """Compute HiRes-CAM (Draelos & Carin, 2020): shares G A, whose sum on the last map is the logit less its bias."""
    return record.product


def layer_cam(record: LayerRecord) -> Tensor:
    """Compute Layer-CAM (Jiang et al., 2021): shares relu(G) A."""
    return record.gradient.relu() * record.activations


def elementwise_grad_cam(record: LayerRecord) -> Tensor:
    """Compute element-wise Grad-CAM (Pillai & Pirsiavash, 2021): shares relu(G A)."""
    return record.product.relu()


def eigen_cam(record: LayerRecord) -> Tensor:
    """Compute Eigen-CAM (Muhammad & Yeasin, 2020): the first principal component of A, the same for every class."""
    return principal(record.activations)


def eigen_grad_cam(record: LayerRecord) -> Tensor:
    """Compute Eigen-Grad-CAM: the first principal component of G A."""
    return principal(record.product)


def score_cam(record: LayerRecord) -> Tensor:
    """Compute Score-CAM (Wang et al., 2020): w = softmax over channels of the logit under the channel's mask."""
    assert record.probes is not None
    return record.of_class(record.probes.masked).softmax(1)


def ablation_cam(record: LayerRecord) -> Tensor:
    """Compute Ablation-CAM (Desai & Ramaswamy, 2020): w = (y - y without the channel) / y; undivided where y is 0.

    y is the logit of the explained class.
    """
    assert record.probes is not None
    whole = logit(record.logits, record.classes)[:, None]
    drops = whole - record.of_class(record.probes.ablated)
    return drops / torch.where(whole == 0, 1.0, whole)


def nearest_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Compute Finer-CAM's score (Zhang et al., 2025): Σ p_j (y_c - y_j) / Σ p_j.

    The sums are over the three classes j nearest in logit. With one output it is the logit of the explained class,
    which is what sets it apart from the only other one.
    """
    own = logit(logits, classes)[:, None]
    if logits.shape[1] == 1:
        return own[:, 0]
    apart = (logits.detach() - own.detach()).abs().scatter(1, classes[:, None], -1)
    others = apart.argsort(dim=1, stable=True)[:, 1:4]
    shares = logits.softmax(1).gather(1, others)
    return (shares * (own - logits.gather(1, others))).sum(1) / (shares.sum(1) + 1e-9)


def principal(shares: Tensor) -> Tensor:
    """Compute the first principal component over places of what channels hold.

    The singular vector is found from the smaller of the two Gram matrices. A solver gives it either sign; here it is
    the one with which the component rises where the sum over channels does, so that a map is bright where the layer is.

    Args:
        shares: float32 (B, C, h, w) or (B, C, d, h, w).

    Returns:
        float32 (B, h, w) or (B, d, h, w), of mean 0.
    """
    rows = shares.flatten(2)
    rows = rows - rows.mean(2, keepdim=True)
    wide = rows.shape[1] <= rows.shape[2]
    gram = rows @ rows.mT if wide else rows.mT @ rows
    values, vectors = torch.linalg.eigh(gram.double().nan_to_num())  # fails on NaN, which the rows carry on
    first, length = vectors[..., -1:].to(rows), values[:, -1:].clamp_min(0).sqrt().to(rows)
    component = (rows.mT @ first)[..., 0] if wide else length * first[..., 0]
    rises = (component * rows.sum(1)).sum(1, keepdim=True) >= 0
    return torch.where(rises, component, -component).unflatten(1, shares.shape[2:])


CAMS = {
    "gradcam": CAMMethod("Grad-CAM", grad_cam),
    "gradcam++": CAMMethod("Grad-CAM++", grad_cam_plus_plus),
    "xgradcam": CAMMethod("XGrad-CAM", x_grad_cam),
    "hirescam": CAMMethod("HiRes-CAM", hires_cam),
    "layercam": CAMMethod("Layer-CAM", layer_cam),
    "elementwise": CAMMethod("Element-wise Grad-CAM", elementwise_grad_cam),
    "eigencam": CAMMethod("Eigen-CAM", eigen_cam, gradients=False),
    "eigengradcam": CAMMethod("Eigen-Grad-CAM", eigen_grad_cam),
    "scorecam": CAMMethod("Score-CAM", score_cam, gradients=False),
    "ablationcam": CAMMethod("Ablation-CAM", ablation_cam, gradients=False),
    "finercam": CAMMethod("Finer-CAM", grad_cam, score=nearest_classes),
}
"""The methods on one layer's activations, by the names that settings use."""


def map_of(made: Tensor, record: LayerRecord, eigen_smooth: bool) -> Tensor:
    """Return the map, (B, h, w), from what a method computed: weights, shares, or a map already.

    Args:
        made: what the method's function returned.
        record: what it was given.
        eigen_smooth: the first principal component of the channels' shares in place of their sum.
    """
    if made.ndim == record.activations.ndim - 1 and made.ndim > 2:
        return made
    if made.ndim > 2:
        return principal(made) if eigen_smooth else made.sum(1)
    if eigen_smooth:
        return principal(made.reshape(*made.shape, *[1] * (record.activations.ndim - 2)) * record.activations)
    return torch.einsum("bc,bc...->b...", made, record.activations)
