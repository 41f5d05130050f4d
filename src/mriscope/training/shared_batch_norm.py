"""Batch norm over the whole batch where several processes share it."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from mriscope.training.devices import world_size

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of the slices of all processes, however unequal their shares.

    torch's SyncBatchNorm does the same on GPUs alone, and has no process without slices.

    Attributes:
        counts: whether the slices of this process count; not where they stand in for an empty share.
    """

    counts = True

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalize float (B, C, ...) over all but its second axis."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
        weight = float(self.counts)
        own = values.new_full((1,), weight * values.numel() / values.shape[1])
        sums = all_reduce(torch.cat([values.sum(axes) * weight, own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        variance = all_reduce((values - mean.view(shape)).square().sum(axes) * weight) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)
        normal = (values - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)


def share_batch_norm(model: nn.Module) -> None:
    """Replace the batch norms of a network, in place, by ones over all processes; parameters and their names stay.

    Only torch's own kinds are: those that timm joins with an activation keep to the slices of their process.
    """
    for name, child in model.named_children():
        if isinstance(child, _PLAIN) and type(child) in _PLAIN:  # not a kind of timm's that derives from them
            shared = SharedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            shared.weight, shared.bias = child.weight, child.bias
            shared.running_mean, shared.running_var = child.running_mean, child.running_var
            shared.num_batches_tracked = child.num_batches_tracked
            setattr(model, name, shared.train(child.training))
        else:
            share_batch_norm(child)


def count_slices(model: nn.Module, counts: bool) -> None:
    """Tell the batch norms of a network whether the slices of this process count in the next step."""
    for module in model.modules():
        if isinstance(module, SharedBatchNorm):
            module.counts = counts
