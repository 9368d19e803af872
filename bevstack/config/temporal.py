"""Configuration of temporal fusion."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check
from bevstack.config.perspective import NORMS

ALIGNMENTS = ("reproject", "warp")


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """How the BEV maps of several frames become one (v2 specification, section 6).

    Alignment "reproject" encodes each past frame's features at the points of the current grid
    projected into the old images, as published weights expect. "warp" encodes each frame on its
    own grid and resamples the map by the vehicle's motion (arXiv 2211.10439, section 3.4); it
    needs weights trained with it.
    """

    alignment: str = "reproject"  # "reproject" (released code) or "warp" (paper)
    num_fusion: int = 3  # residual blocks. Released configurations
    inter_channels: int | None = None  # of the blocks; none: frames x channels. 512 in published t8
    # "BN", "SyncBN" (statistics over all processes; released code), or "GN" (within a map)
    norm: str = "SyncBN"
    norm_groups: int = 32  # of "GN"; divides the blocks' channels
    activation_checkpointing: bool = False  # recompute each block in the backward pass
    frame_interval_s: float = 0.5  # between key frames; nuScenes annotates at 2 Hz
    # a pose that moves faster than this between two frames is no drive but a jump: a reset
    max_speed_mps: float = 70.0

    def __post_init__(self) -> None:
        known = self.alignment in ALIGNMENTS
        check("temporal.alignment", known, f"be one of {ALIGNMENTS}", self.alignment)
        check("temporal.num_fusion", self.num_fusion > 0, "be positive", self.num_fusion)
        check("temporal.norm_groups", self.norm_groups > 0, "be positive", self.norm_groups)
        positive = self.inter_channels is None or self.inter_channels > 0
        check("temporal.inter_channels", positive, "be positive or none", self.inter_channels)
        check("temporal.norm", self.norm in NORMS, f"be one of {NORMS}", self.norm)
        for name in ("frame_interval_s", "max_speed_mps"):
            check(f"temporal.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
