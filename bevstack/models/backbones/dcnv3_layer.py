"""The DCNv3 layer (arXiv 2211.05778, section 3.1) and the activations around it.

Letters: B batch, H W map, C channels, G groups, P points of the kernel.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.internimage import InternImageConfig
from bevstack.models.layers.norms import build_norm
from bevstack.ops import dcnv3


def build_activation(act_layer: str) -> nn.Module:
    """Return the activation of the given name; GELU is the exact one."""
    activations: dict[str, type[nn.Module]] = {"GELU": nn.GELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU}
    return activations[act_layer]()


def convolve(
    conv: nn.Conv2d,
    x: Tensor,  # (B, H, W, C)
) -> Tensor:  # (B, H', W', C')
    """Apply a convolution to a channels-last map; both permutations are views."""
    output: Tensor = conv(x.permute(0, 3, 1, 2))
    return output.permute(0, 2, 3, 1)


class CenterFeatureScale(nn.Module):
    """A gate for each group, computed from the offset branch's features (H and G).

    It weighs the unsampled value against the sampled one. It is not an ``nn.Linear``, because
    published multiply-accumulate counts exclude the gate.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(groups, channels))  # zeros: gates start at 0.5
        self.bias = nn.Parameter(torch.zeros(groups))

    def forward(
        self,
        features: Tensor,  # (B, H, W, C)
        sampled: Tensor,  # (B, H, W, C)
        value: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Blend the sampled map with the value: sampled * (1 - gate) + value * gate."""
        gate = functional.linear(features, self.weight, self.bias).sigmoid()[..., None]  # B H W G 1
        groups = gate.shape[-2]
        sampled = rearrange(sampled, "b h w (g c) -> b h w g c", g=groups)
        value = rearrange(value, "b h w (g c) -> b h w g c", g=groups)
        return rearrange(sampled.lerp(value, gate), "b h w g c -> b h w (g c)")


class DCNv3Layer(nn.Module):
    """Deformable convolution v3: 3x3 points a group, with offsets and weights from the input.

    The value is a linear map of the layer's input. Offsets and mask come from a depthwise
    convolution of it with norm and activation.

    Args:
        channels: C of input and output.
        groups: G; each group has its own points and weights.
        config: the variant's flags; kernel 3 and stride, padding and dilation 1 are fixed.
    """

    kernel_size = 3

    def __init__(self, channels: int, groups: int, *, config: InternImageConfig) -> None:
        super().__init__()
        self.groups = groups
        self.offset_scale = config.offset_scale
        self.remove_center = config.remove_center
        points = self.kernel_size**2 - int(config.remove_center)
        dw_size = config.dw_kernel_size
        self.center_feature_scale = (
            CenterFeatureScale(channels, groups) if config.center_feature_scale else None
        )
        self.dw_conv = nn.Conv2d(channels, channels, dw_size, padding=dw_size // 2, groups=channels)
        self.dw_norm = build_norm(config.norm_layer, channels, groups=config.norm_groups)
        self.act = build_activation(config.act_layer)
        self.offset = nn.Linear(channels, groups * points * 2)
        self.mask = nn.Linear(channels, groups * points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set offsets and mask logits to zero: the regular 3x3 grid with equal weights.

        Projections start Xavier-uniform, with zero biases.
        """
        for head in (self.offset, self.mask):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        for projection in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Sample the projected input at the predicted offsets, and project the weighted sums."""
        value = self.input_proj(x)
        features = self.act(self.dw_norm(convolve(self.dw_conv, x)))
        sampled = dcnv3(
            value,
            self.offset(features),  # (B, H, W, G*P*2), pairs (x, y) in pixels
            self.mask(features),  # (B, H, W, G*P), logits
            kernel_size=(self.kernel_size, self.kernel_size),
            stride=(1, 1),
            padding=(1, 1),
            dilation=(1, 1),
            groups=self.groups,
            offset_scale=self.offset_scale,
            remove_center=self.remove_center,
            softmax=True,
        )
        if self.center_feature_scale is not None:
            sampled = self.center_feature_scale(features, sampled, value)
        output: Tensor = self.output_proj(sampled)
        return output
