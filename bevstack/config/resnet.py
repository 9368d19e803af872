"""Configuration of ResNet (arXiv 1512.03385): depth, width and the returned stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bevstack.config.checks import check
from bevstack.config.limits import check_section

# Bottleneck blocks of each stage, by depth. Paper, table 1
STAGE_BLOCKS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
)
EXPANSION = 4  # outer / inner channels of a bottleneck block. Paper, figure 5
NORMS = ("BN", "SyncBN")


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Configuration of one ResNet; defaults are those of the published BEVFormer v2 detectors."""

    depth: int = 50  # 50 or 101. Paper, table 1
    # Inner channels of the first stage; each further stage has twice as many. Paper, table 1
    base_channels: int = 64
    # Returned stages, from 0, of strides 4, 8, 16, 32. Released configurations
    out_indices: tuple[int, ...] = (1, 2, 3)
    norm: str = "SyncBN"  # "BN", or "SyncBN" with statistics over all processes. Released code
    activation_checkpointing: bool = False  # recompute each block in backward, to save memory

    def __post_init__(self) -> None:
        check_section("backbone", self)
        known = self.depth in STAGE_BLOCKS
        check("backbone.depth", known, f"be one of {tuple(STAGE_BLOCKS)}", self.depth)
        positive = self.base_channels > 0
        check("backbone.base_channels", positive, "be positive", self.base_channels)
        ascending = list(self.out_indices) == sorted(set(self.out_indices))
        inside = all(0 <= stage < len(self.stage_blocks) for stage in self.out_indices)
        valid = bool(self.out_indices) and ascending and inside
        requirement = "be stages 0..3 in ascending order"
        check("backbone.out_indices", valid, requirement, self.out_indices)
        check("backbone.norm", self.norm in NORMS, f"be one of {NORMS}", self.norm)

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """Return the number of bottleneck blocks of every stage."""
        return STAGE_BLOCKS[self.depth]

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Return the outer channels of every stage, returned or not."""
        return tuple(
            EXPANSION * self.base_channels << stage for stage in range(len(self.stage_blocks))
        )

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each returned stage, in the order of ``out_indices``."""
        return tuple(self.stage_channels[stage] for stage in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Return the stride of each returned stage in pixels, in the order of ``out_indices``."""
        return tuple(4 << stage for stage in self.out_indices)
