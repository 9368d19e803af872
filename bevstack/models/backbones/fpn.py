"""Feature pyramid network (arXiv 1612.03144) in the form of published BEVFormer v2 weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a top-down path of nearest-neighbour sums, 3x3 output convolutions.

    Levels beyond the backbone's come from 3x3 convolutions of stride 2. The first is computed from
    the last *output* (P6 from P5), each further one from the ReLU of the previous level (P7 from
    ReLU(P6)). There are no norms.

    Args:
        in_channels: channels of the backbone maps, finest first.
        num_outputs: levels to return, at least ``len(in_channels)``.
        channels: channels of every level.
    """

    def __init__(self, in_channels: Sequence[int], *, num_outputs: int, channels: int) -> None:
        super().__init__()
        if not 1 <= len(in_channels) <= num_outputs:
            raise ValueError(
                f"num_outputs must be at least the number of backbone maps, {len(in_channels)}, "
                f"which must be positive; got {num_outputs}"
            )
        self.lateral_convs = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output_convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=1 if level < len(in_channels) else 2, padding=1)
            for level in range(num_outputs)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise weights Xavier-uniform and biases zero."""
        for conv in (*self.lateral_convs, *self.output_convs):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(
        self,
        maps: Sequence[Tensor],  # (B, C_l, H_l, W_l), finest first
    ) -> tuple[Tensor, ...]:  # num_outputs x (B, C, H_l, W_l)
        """Return the pyramid; maps may have any sizes, each finer than the next."""
        merged = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            size = merged[level - 1].shape[-2:]
            merged[level - 1] = merged[level - 1] + functional.interpolate(merged[level], size=size)
        levels: list[Tensor] = []
        for index, conv in enumerate(self.output_convs):
            if index < len(merged):
                x = merged[index]
            else:
                x = levels[-1] if index == len(merged) else functional.relu(levels[-1])
            levels.append(conv(x))
        return tuple(levels)
