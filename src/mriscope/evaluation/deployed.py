"""The one module that answers for slices: scaling, network, temperature and distance from the training slices."""

import torch
from torch import Tensor, nn

from mriscope.choices import Scale
from mriscope.data.batches import scaled
from mriscope.evaluation.out_of_distribution import FeatureReference, distances, grid_features


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
