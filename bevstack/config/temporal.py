"""Configuration of temporal fusion."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check
from bevstack.config.limits import check_section
from bevstack.config.perspective import NORMS

ALIGNMENTS = ("reproject", "warp")


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Fusion of the BEV maps of several frames into one (v2 specification, section 6).

    Alignment "reproject" projects the points of the current grid into the images of each past frame
    and encodes the frame's features there. Published weights need it. Alignment "warp" encodes
    each frame on the frame's own grid and resamples the BEV map by the vehicle's motion (arXiv
    2211.10439, section 3.4). It needs weights that were trained with it.
    """

    alignment: str = "reproject"  # "reproject" (released code) or "warp" (paper)
    num_fusion: int = 3  # residual blocks of the fusion network. Released configurations
    # Channels of the residual blocks. None: number of frames x fpn.channels. Released
    # configurations; 512 in the published t8
    inter_channels: int | None = None
    # "BN", "SyncBN" with statistics over all processes, or "GN" with statistics of one BEV map.
    # Released code: "SyncBN"
    norm: str = "SyncBN"
    norm_groups: int = 32  # groups of "GN"; divides the blocks' channels. Own choice
    activation_checkpointing: bool = False  # recompute each block in backward, to save memory
    frame_interval_s: float = 0.5  # between successive frame offsets. nuScenes: key frames at 2 Hz
    # A pose that moves faster than this between two frames counts as a jump of localisation, which
    # resets the history. Own choice
    max_speed_mps: float = 70.0

    def __post_init__(self) -> None:
        check_section("temporal", self)
        known = self.alignment in ALIGNMENTS
        check("temporal.alignment", known, f"be one of {ALIGNMENTS}", self.alignment)
        check("temporal.num_fusion", self.num_fusion > 0, "be positive", self.num_fusion)
        check("temporal.norm_groups", self.norm_groups > 0, "be positive", self.norm_groups)
        positive = self.inter_channels is None or self.inter_channels > 0
        check("temporal.inter_channels", positive, "be positive or None", self.inter_channels)
        check("temporal.norm", self.norm in NORMS, f"be one of {NORMS}", self.norm)
        for name in ("frame_interval_s", "max_speed_mps"):
            check(f"temporal.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
