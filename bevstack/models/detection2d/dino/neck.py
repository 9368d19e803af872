"""Maps of equal channels for DINO: projected stages, and one coarser map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ChannelMapper(nn.Module):
    """1x1 convolutions with group norm, and a coarser map of the last stage by stride 2."""

    def __init__(self, in_channels: Sequence[int], *, channels: int, groups: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, channels, 1, bias=False) for c in in_channels)
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in in_channels)
        self.extra_conv = nn.Conv2d(in_channels[-1], channels, 3, stride=2, padding=1, bias=False)
        self.extra_norm = nn.GroupNorm(groups, channels)
        for module in (*self.convs, self.extra_conv):
            assert isinstance(module, nn.Conv2d)
            nn.init.xavier_uniform_(module.weight)

    def forward(
        self,
        maps: Sequence[Tensor],  # L - 1 x (B, C_l, H_l, W_l)
    ) -> tuple[Tensor, ...]:  # L x (B, C, H_l, W_l)
        """Return the maps, finest first."""
        levels = [norm(conv(x)) for conv, norm, x in zip(self.convs, self.norms, maps, strict=True)]
        return (*levels, self.extra_norm(self.extra_conv(maps[-1])))
