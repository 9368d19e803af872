"""Temporal memory: what a stream keeps from one step to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bevstack.shapes import expect_shape


@dataclass(frozen=True)
class BEVMemory:
    """Past features of B independent streams, newest last: tensors only, batch first.

    It goes into a model's ``forward`` and comes out of it; nothing else holds state. ``features``
    holds one entry a level of what the configured alignment keeps: FPN maps (B, T, N, C, H, W)
    for "reproject", one BEV map (B, T, C, Y, X) for "warp".
    """

    features: tuple[Tensor, ...]  # each (B, T, ...)
    valid: Tensor  # (B, T) bool
    world_from_bev: Tensor  # (B, T, 4, 4) float64
    timestamp_us: Tensor  # (B, T) int64
    sequence_id: Tensor  # (B,) int64, which stream a row belongs to
    fingerprint: Tensor  # (B,) int64, of the model and rig that made the features

    def __post_init__(self) -> None:
        sizes = expect_shape("valid", self.valid, ("B", "T"))
        expect_shape("world_from_bev", self.world_from_bev, ("B", "T", 4, 4), sizes)
        expect_shape("timestamp_us", self.timestamp_us, ("B", "T"), sizes)
        expect_shape("sequence_id", self.sequence_id, ("B",), sizes)
        expect_shape("fingerprint", self.fingerprint, ("B",), sizes)
        for level, feature in enumerate(self.features):
            if tuple(feature.shape[:2]) != (sizes["B"], sizes["T"]):
                raise ValueError(
                    f"features[{level}] must have leading axes {(sizes['B'], sizes['T'])}; "
                    f"got {tuple(feature.shape)}"
                )

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.valid.shape[0])

    def select(
        self,
        rows: Tensor,  # (R,) int64
    ) -> BEVMemory:
        """The streams of the given batch rows, in that order."""
        return BEVMemory(
            tuple(feature[rows] for feature in self.features),
            *(getattr(self, field.name)[rows] for field in fields(self)[1:]),
        )

    @staticmethod
    def concatenate(memories: Sequence[BEVMemory]) -> BEVMemory:
        """Streams of several memories as rows of one.

        Raises:
            ValueError: no memory, or a different number of feature levels.
        """
        levels = {len(memory.features) for memory in memories}
        if len(levels) != 1:
            raise ValueError(f"memories must hold the same number of levels; got {sorted(levels)}")
        return BEVMemory(
            tuple(
                torch.cat([memory.features[level] for memory in memories])
                for level in range(levels.pop())
            ),
            *(
                torch.cat([getattr(memory, field.name) for memory in memories])
                for field in fields(BEVMemory)[1:]
            ),
        )

    def detach(self) -> BEVMemory:
        """The memory without gradient history."""
        return replace(self, features=tuple(feature.detach() for feature in self.features))

    def to(self, device: torch.device | str) -> BEVMemory:
        """The memory on a device."""
        return BEVMemory(
            tuple(feature.to(device) for feature in self.features),
            *(getattr(self, field.name).to(device) for field in fields(self)[1:]),
        )
