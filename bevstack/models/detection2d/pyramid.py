"""Feature pyramid of detectors in single pictures (arXiv 1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bevstack.models.backbones.fpn import FPN


class DetectionPyramid(FPN):
    """The pyramid of the backbone's stages, and every second cell of its last level.

    The coarsest level serves proposals alone.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int) -> None:
        super().__init__(in_channels, num_outputs=len(in_channels), channels=channels)

    def forward(
        self,
        maps: Sequence[Tensor],  # L x (B, C_l, H_l, W_l), finest first
    ) -> tuple[Tensor, ...]:  # L + 1 x (B, C, H_l, W_l)
        """Return the pyramid; maps may have any sizes, each finer than the next."""
        levels = super().forward(maps)
        return (*levels, levels[-1][:, :, ::2, ::2])
