"""The one module that answers for slices: scaling, network, temperature and distance from the training slices."""

import torch
from torch import Tensor, nn

from mriscope.choices import Scale
from mriscope.data.batches import scaled
from mriscope.evaluation.out_of_distribution import FeatureReference, distances, grid_features

_PROBES = 8  # maps of noise, by which it is seen whether logits are linear in maps


class DeployedModel(nn.Module):
    """A network with what comes before and after it, so that predict, export and serve compute the same.

    One thread at a time may call it, as it listens to the network's features while it runs.

    Args:
        network: float32 (B, 1, H, W) to logits (B, K); with a reference it has a part `features`.
        scale: as the network was trained.
        temperature: divides the logits.
        reference: None gives distances that are nan.
    """

    def __init__(
        self, network: nn.Module, scale: Scale, temperature: float, reference: FeatureReference | None
    ) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature
        self.scale: Scale = scale
        self.has_reference = reference is not None
        if reference is not None:
            for name in reference.__dataclass_fields__:
                self.register_buffer(f"reference_{name}", getattr(reference, name))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return calibrated probabilities, float32 (B, K), and distances, float32 (B,), of uint8 (B, H, W)."""
        pixels = scaled(images, self.scale)
        if not self.has_reference:
            logits = self.network(pixels)
            return self._calibrate(logits), torch.full_like(logits[:, 0], torch.nan)
        seen: list[Tensor] = []
        features = self.network.get_submodule("features")

        def listen(_module: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> None:
            seen.append(maps)

        hook = features.register_forward_hook(listen)
        try:
            logits = self.network(pixels)
        finally:
            hook.remove()
        return self._calibrate(logits), distances(grid_features(seen[0]), self._reference)

    def _calibrate(self, logits: Tensor) -> Tensor:
        return (logits.float() / self.temperature).softmax(dim=1)

    @property
    def _reference(self) -> FeatureReference:
        names = FeatureReference.__dataclass_fields__
        return FeatureReference(**{name: self.get_buffer(f"reference_{name}") for name in names})


class MappedModel(nn.Module):
    """A deployed model that also gives maps for every class, where logits are linear in the network's last maps.

    There HiResCAM and Grad-CAM need no gradient of the slice: it is the same for all.

    Args:
        deployed: the model; its network has a part `features`.
        evidence: float32 (K, C, h, w), see linear_evidence.
    """

    def __init__(self, deployed: DeployedModel, evidence: Tensor) -> None:
        super().__init__()
        self.deployed = deployed
        self.register_buffer("evidence", evidence)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return probabilities, distances, and maps by HiResCAM and Grad-CAM, (B, K, h, w), before ReLU."""
        seen: list[Tensor] = []
        features = self.deployed.network.get_submodule("features")

        def listen(_module: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> None:
            seen.append(maps)

        hook = features.register_forward_hook(listen)
        try:
            probabilities, distances = self.deployed(images)
        finally:
            hook.remove()
        evidence = self.get_buffer("evidence")
        hirescam = torch.einsum("kchw,nchw->nkhw", evidence, seen[0])
        gradcam = torch.einsum("kc,nchw->nkhw", evidence.mean((2, 3)), seen[0])
        return probabilities, distances, hirescam, gradcam


def linear_evidence(deployed: DeployedModel, size: int) -> Tensor | None:
    """Return the gradient of each logit along the network's last maps, where it is the same for every slice.

    Args:
        deployed: a model in evaluation mode.
        size: height and width of its slices.

    Returns:
        float32 (K, C, h, w); None where the network has no part `features`, or its logits are not linear in that
        part's maps.
    """
    if "features" not in dict(deployed.network.named_children()):
        return None
    maps: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: tuple[Tensor, ...], real: Tensor) -> Tensor:
        noise = torch.randn(_PROBES, *real.shape[1:], generator=torch.Generator().manual_seed(0)).to(real.device)
        maps.append((noise * real.std()).requires_grad_())
        return maps[0].clone()  # what follows may change it in place

    hook = deployed.network.get_submodule("features").register_forward_hook(replace)
    slices = torch.arange(size * size).reshape(1, size, size).remainder(256).to(torch.uint8)
    try:
        with torch.enable_grad():
            logits = deployed.network(scaled(slices.to(next(deployed.network.parameters()).device), deployed.scale))
    finally:
        hook.remove()
    if maps[0].ndim != 4:
        return None
    found = [torch.autograd.grad(column.sum(), maps[0], retain_graph=True)[0] for column in logits.T]
    gradients = torch.stack(found, dim=1)
    constant = torch.allclose(gradients, gradients[:1].expand_as(gradients), rtol=1e-5, atol=1e-8)
    return gradients[0].detach() if constant else None
