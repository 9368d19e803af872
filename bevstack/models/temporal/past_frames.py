"""Frames of a clip or stream besides the current one: their poses, BEV maps and encoding.

They are called past frames, although a model may also use future frames of a clip. Letters:
B batch, T frames, N cameras, C channels, L levels, Y X grid, F existing past frames of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.geometry import invert_se3
from bevstack.models.layers.sizes import Sizes
from bevstack.models.temporal.reset_rules import StreamCheck
from bevstack.types import Batch


class FramePoses(NamedTuple):
    """Samples and poses of F past frames."""

    row: Tensor  # (F,) int64, sample of each frame
    world_from_past: Tensor  # (F, 4, 4) float64, from the frame's own bev frame
    world_from_current: Tensor  # (F, 4, 4) float64, from its sample's current bev frame

    @property
    def current_from_past(self) -> Tensor:  # (F, 4, 4) float64
        """Return the transforms from each frame's own bev frame to the current one."""
        return invert_se3(self.world_from_current) @ self.world_from_past


@dataclass(frozen=True)
class PastFrames:
    """BEV maps of past frames on the current, augmented grid."""

    valid: Tensor  # (B, T) bool, True for slots with a map and for the current one
    resets: Tensor  # (B,) int64, codes of Reset
    row: Tensor  # (F,) int64, sample of each map
    slot: Tensor  # (F,) int64, slot of each map, in 0..T-1
    maps: Tensor | None  # (F, C, Y, X); None if F is zero
    check: StreamCheck | None  # None for clips and for streams without a memory

    def stack_with_current(
        self,
        bev: Tensor,  # (B, C, Y, X), of the current frame
        current: int,  # slot of the current frame
    ) -> Tensor:  # (B, T, C, Y, X)
        """Return the maps of all slots, zero in missing ones; only ``bev`` carries gradient."""
        maps = bev.new_zeros(*self.valid.shape, *bev.shape[1:])
        if self.maps is not None:
            maps[self.row, self.slot] = self.maps.to(bev.dtype)
        return torch.cat((maps[:, :current], bev[:, None], maps[:, current + 1 :]), 1)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Disable gradients and set all modules to evaluation mode; restore their modes at the end."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), _autocast_without_cache():
            yield
    finally:
        for module in training:
            module.training = True


def _autocast_without_cache() -> AbstractContextManager[object]:
    """Return autocast without its cache of cast weights; nothing if autocast is off.

    Weights that were cast without gradient would otherwise be reused with gradient later.
    """
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            return torch.autocast(device, dtype=dtype, cache_enabled=False)
    return nullcontext()


def blacken_lost(
    images: Tensor,  # (B, N, 3, H, W)
    camera_mask: Tensor,  # (B, N) bool
) -> Tensor:  # (B, N, 3, H, W)
    """Return the images with those of lost cameras set to zero, even where they were NaN."""
    return images.masked_fill(~camera_mask[..., None, None, None], 0.0)


def choose_frames(
    exists: Tensor,  # (B, T) bool
    current: int,  # slot of the current frame
    sizes: Sizes,
) -> tuple[Tensor, Tensor]:  # (F,) int64 each
    """Return row and slot of the existing past frames; with bounds, of all past frames."""
    batch, frames = exists.shape
    device = exists.device
    if sizes.bounds is None:
        past = exists & torch.arange(frames, device=device).ne(current)
        row, slot = past.nonzero(as_tuple=True)
        return row, slot
    slots = torch.cat(
        (torch.arange(current, device=device), torch.arange(current + 1, frames, device=device))
    )
    rows = torch.arange(batch, device=device)
    return rows[:, None].expand(-1, len(slots)).flatten(), slots.repeat(batch)


def encode_in_passes(
    encode: Callable[[Tensor, Tensor], Tensor],  # row and slot (F,) to maps (F, C, Y, X)
    row: Tensor,  # (F,)
    slot: Tensor,  # (F,)
    frames_per_pass: int,
) -> Tensor | None:  # (F, C, Y, X)
    """Return the maps of all frames, at most ``frames_per_pass`` a call; None without frames."""
    if not len(row):
        return None
    rows, slots = torch.split(row, frames_per_pass), torch.split(slot, frames_per_pass)
    return torch.cat([encode(*indices) for indices in zip(rows, slots, strict=True)])


def image_size(batch: Batch) -> tuple[int, int]:
    """Return (H, W) of the padded images."""
    return int(batch.images.shape[-2]), int(batch.images.shape[-1])
