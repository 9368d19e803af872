"""Norms of maps: batch norm (arXiv 1502.03167) over one process or all of them, group norm, LN.

Letters: B batch, C channels, H W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.utils.checkpoint import checkpoint


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm whose training statistics are those of all processes together.

    On any device: torch's own refuses the CPU. Processes may hold different numbers of images.
    Without a process group, in evaluation mode, or alone in its group it is the plain norm.
    Statistics are float32 or wider, in two passes (mean, then squared distances from it).
    """

    def forward(
        self,
        input: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C, H, W)
        """Normalises each channel; in training mode moves the running statistics."""
        together = distributed.is_available() and distributed.is_initialized()
        if not (self.training and together and distributed.get_world_size() > 1):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalise(input)

    def _normalise(self, images: Tensor) -> Tensor:
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        count = x.new_full((1,), x.numel() // x.shape[1])
        sums = all_reduce(torch.cat((x.sum((0, 2, 3)), count)))
        total = sums[-1].detach().clamp(min=1)
        mean = sums[:-1] / total
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / total
        self._move_statistics(mean.detach(), variance.detach(), total)
        scale = self.weight.to(x.dtype) * torch.rsqrt(variance + self.eps)
        normalised = centred * scale[:, None, None] + self.bias.to(x.dtype)[:, None, None]
        return normalised.to(images.dtype)

    @torch.no_grad()
    def _move_statistics(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        unbiased = variance * total / (total - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


def build_batch_norm(norm: str, channels: int) -> nn.BatchNorm2d:
    """A batch norm by its configured name, "BN" or "SyncBN".

    Raises:
        ValueError: another name.
    """
    if norm not in ("BN", "SyncBN"):
        raise ValueError(f"norm must be 'BN' or 'SyncBN'; got {norm!r}")
    return SyncBatchNorm(channels) if norm == "SyncBN" else nn.BatchNorm2d(channels)


def build_map_norm(norm: str, channels: int, *, groups: int) -> nn.Module:
    """A norm of maps (B, C, H, W) by its configured name: "GN", or one of ``build_batch_norm``.

    Raises:
        ValueError: another name, or groups of "GN" that do not divide the channels.
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
    """``block(x)``, in the backward pass once more where its activations are not kept.

    The second time the running statistics of its batch norms stand still: they move once a step,
    as without checkpointing.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        return block(x)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_stand_still(block)

    return checkpoint(block, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_stand_still(block: nn.Module) -> Iterator[None]:
    # They go through the same steps, as the second pass must save the same tensors as the first.
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.sub_(1)


NORM_EPS = 1e-6  # of every LN of InternImage; released code


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """Batch norm of a channels-last map."""

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalises each channel over batch and map."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ChannelsLastSyncBatchNorm(SyncBatchNorm):
    """Batch norm of a channels-last map, over all processes."""

    def forward(
        self,
        input: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalises each channel over batch and map."""
        return super().forward(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ChannelsLastGroupNorm(nn.GroupNorm):
    """Group norm (arXiv 1803.08494) of a channels-last map."""

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Normalises each group of channels over the map of each image."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_norm(norm_layer: str, channels: int, *, groups: int) -> nn.Module:
    """A norm by its configured name for a channels-last map; ``groups`` are those of GN."""
    if norm_layer == "BN":
        return ChannelsLastBatchNorm(channels)
    if norm_layer == "SyncBN":
        return ChannelsLastSyncBatchNorm(channels)
    if norm_layer == "GN":
        return ChannelsLastGroupNorm(groups, channels)
    return nn.LayerNorm(channels, eps=NORM_EPS)
