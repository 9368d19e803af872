"""Norms of maps: batch norm (arXiv 1502.03167) over one or all processes, group norm, layer norm.

Letters: B batch, C channels, H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.utils.checkpoint import checkpoint

# torch's function, which has no annotations, with the types used here
_sum_over_processes: Callable[[Tensor], Tensor] = all_reduce


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with training statistics over all processes.

    It works on any device, whereas torch's own refuses the CPU. Processes may hold different
    numbers of images. Without a process group, with one process, or in evaluation mode it is the
    plain norm. Statistics are computed in float32 or wider, in two passes (mean, then squared
    differences from it).
    """

    def forward(
        self,
        input: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C, H, W)
        """Normalise each channel; in training mode update the running statistics."""
        initialized = distributed.is_available() and distributed.is_initialized()
        if not (self.training and initialized and distributed.get_world_size() > 1):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalise(input)

    def _normalise(self, images: Tensor) -> Tensor:
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        count = x.new_full((1,), x.numel() // x.shape[1])
        sums = _sum_over_processes(torch.cat((x.sum((0, 2, 3)), count)))
        total = sums[-1].detach().clamp(min=1)
        mean = sums[:-1] / total
        centred = x - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / total
        self._update_statistics(mean.detach(), variance.detach(), total)
        scale = self.weight.to(x.dtype) * torch.rsqrt(variance + self.eps)
        normalised = centred * scale[:, None, None] + self.bias.to(x.dtype)[:, None, None]
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        running_mean, running_var, momentum = self.running_mean, self.running_var, self.momentum
        # None only for norms without running statistics, which nothing here builds
        assert running_mean is not None and running_var is not None and momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        unbiased = variance * total / (total - 1).clamp(min=1)
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def build_batch_norm(norm: str, channels: int) -> nn.BatchNorm2d:
    """Build a batch norm by its configured name, "BN" or "SyncBN".

    Raises:
        ValueError: another name.
    """
    if norm not in ("BN", "SyncBN"):
        raise ValueError(f"norm must be 'BN' or 'SyncBN'; got {norm!r}")
    return SyncBatchNorm(channels) if norm == "SyncBN" else nn.BatchNorm2d(channels)


def build_map_norm(norm: str, channels: int, *, groups: int) -> nn.Module:
    """Build a norm of maps (B, C, H, W) by its configured name: "GN", "BN" or "SyncBN".

    Raises:
        ValueError: another name, or ``groups`` of "GN" that do not divide the channels.
    """
    if norm == "GN":
        return nn.GroupNorm(groups, channels)
    return build_batch_norm(norm, channels)


def run_block(
    block: nn.Module,
    x: Tensor,
    *,
    checkpointed: bool,
) -> Tensor:
    """Return ``block(x)``; if ``checkpointed``, the backward pass computes it a second time.

    The recomputation does not update the running statistics of batch norms, so that they are
    updated once a step, as without checkpointing.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        plain: Tensor = block(x)
        return plain

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(block)

    recomputed: Tensor = checkpoint(block, x, use_reentrant=False, context_fn=contexts)
    return recomputed


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    # Momentum 0 instead of evaluation mode: recomputation must save the same tensors as before.
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)


NORM_EPS = 1e-6  # of every LN of InternImage; released code


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """Batch norm of a channels-last map."""

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalise each channel over batch and map."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ChannelsLastSyncBatchNorm(SyncBatchNorm):
    """Batch norm of a channels-last map, over all processes."""

    def forward(
        self,
        input: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalise each channel over batch and map."""
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ChannelsLastGroupNorm(nn.GroupNorm):
    """Group norm (arXiv 1803.08494) of a channels-last map."""

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalise each group of channels over the map of each image."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_norm(norm_layer: str, channels: int, *, groups: int) -> nn.Module:
    """Build a norm of channels-last maps by its configured name; ``groups`` are those of "GN".

    Other names than "BN", "SyncBN" and "GN" give a layer norm.
    """
    if norm_layer == "BN":
        return ChannelsLastBatchNorm(channels)
    if norm_layer == "SyncBN":
        return ChannelsLastSyncBatchNorm(channels)
    if norm_layer == "GN":
        return ChannelsLastGroupNorm(groups, channels)
    return nn.LayerNorm(channels, eps=NORM_EPS)
