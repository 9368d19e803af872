"""Other frames than the current one: where and when they were taken, their maps, how they are made.

Letters: B batch, T frames, N cameras, C channels, L levels, Y X grid, F frames that exist besides
the current ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bevstack.geometry import BEVGrid, CameraRig, invert_se3
from bevstack.models.temporal.reset_rules import StreamCheck
from bevstack.types import Batch


class FrameEncoder(Protocol):
    """What history needs of a model; ``BEVFormerV2`` has it."""

    pixels_per_pass: int

    @property
    def grid(self) -> BEVGrid:
        """The grid of the BEV maps."""

    def extract_pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of every image."""

    def encode(
        self,
        pyramid: Sequence[Tensor],
        rig: CameraRig,
        camera_slots: Tensor,
        *,
        padded_size: tuple[int, int],
    ) -> Tensor:
        """The BEV map of each frame."""


class Moment(NamedTuple):
    """When and where F of the other frames were taken."""

    row: Tensor  # (F,) int64, of which sample
    world_from_own: Tensor  # (F, 4, 4) float64, of each one's bev frame
    world_from_current: Tensor  # (F, 4, 4) float64

    @property
    def current_from_own(self) -> Tensor:  # (F, 4, 4) float64
        """From each one's bev frame to the current one."""
        return invert_se3(self.world_from_current) @ self.world_from_own


@dataclass(frozen=True)
class Lookback:
    """The other frames' BEV maps on the current, augmented grid."""

    valid: Tensor  # (B, T) bool, which slots have a map; true for the current one
    resets: Tensor  # (B,) int64, codes of Reset
    row: Tensor  # (F,) int64, of which sample each map is
    slot: Tensor  # (F,) int64, of which frame
    maps: Tensor | None  # (F, C, Y, X); None where F is zero
    check: StreamCheck | None  # of a stream that has a memory

    def beside(
        self,
        bev: Tensor,  # (B, C, Y, X), of the current frame
        current: int,  # its slot
    ) -> Tensor:  # (B, T, C, Y, X)
        """All maps in their places, zero where there is none; gradient to the current one."""
        maps = bev.new_zeros(*self.valid.shape, *bev.shape[1:])
        if self.maps is not None:
            maps[self.row, self.slot] = self.maps.to(bev.dtype)
        return torch.cat((maps[:, :current], bev[:, None], maps[:, current + 1 :]), 1)


@contextmanager
def looking_back(model: nn.Module) -> Iterator[None]:
    """No gradient, and every module in evaluation mode; afterwards each in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), _casts_not_kept():
            yield
    finally:
        for module in training:
            module.training = True


def _casts_not_kept() -> AbstractContextManager[object]:
    """Autocast that keeps no cast weights: those made without gradient would serve with it too."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            return torch.autocast(device, dtype=dtype, cache_enabled=False)
    return nullcontext()


def blacken_lost(
    images: Tensor,  # (B, N, 3, H, W)
    camera_mask: Tensor,  # (B, N) bool
) -> Tensor:  # (B, N, 3, H, W)
    """The images with those of lost cameras zero, whatever they held."""
    return images.masked_fill(~camera_mask[..., None, None, None], 0.0)


def encode_in_passes(
    encode: Callable[[Tensor, Tensor], Tensor],  # row and slot (F,) to maps (F, C, Y, X)
    row: Tensor,  # (F,)
    slot: Tensor,  # (F,)
    frames_per_pass: int,
) -> Tensor | None:  # (F, C, Y, X)
    """The maps of all frames, so many at a time; None where there are none."""
    if not len(row):
        return None
    passes = zip(row.split(frames_per_pass), slot.split(frames_per_pass), strict=True)
    return torch.cat([encode(*places) for places in passes])


def image_size(batch: Batch) -> tuple[int, int]:
    """(H, W) of the padded images."""
    return int(batch.images.shape[-2]), int(batch.images.shape[-1])


def frames_per_pass(model: FrameEncoder, batch: Batch) -> int:
    """How many frames of the batch's size go through a model together."""
    height, width = image_size(batch)
    return max(1, model.pixels_per_pass // max(1, int(batch.images.shape[2]) * height * width))
