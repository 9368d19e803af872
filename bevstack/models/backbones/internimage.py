"""InternImage (arXiv 2211.05778), a backbone of DCNv3 layers on channels-last maps.

Letters: B batch, H W image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bevstack.config.internimage import InternImageConfig
from bevstack.models.backbones.dcnv3_layer import DCNv3Layer, build_activation, convolve
from bevstack.models.layers.drop_path import DropPath
from bevstack.models.layers.norms import NORM_EPS, build_norm
from bevstack.shapes import expect_shape

LINEAR_STD = 0.02  # of the truncated normal for initial linear weights; released code


def init_linear(linear: nn.Linear) -> None:
    """Initialise the weight from a truncated normal and the bias with zero."""
    nn.init.trunc_normal_(linear.weight, std=LINEAR_STD)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


class Stem(nn.Module):
    """First layers: two 3x3 convolutions of stride 2, each with a norm; an activation between."""

    def __init__(self, config: InternImageConfig) -> None:
        super().__init__()
        half = config.channels // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.norm1 = build_norm(config.norm_layer, half, groups=config.norm_groups)
        self.act = build_activation(config.act_layer)
        self.conv2 = nn.Conv2d(half, config.channels, 3, stride=2, padding=1)
        self.norm2 = build_norm(config.norm_layer, config.channels, groups=config.norm_groups)

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, ceil(H/4), ceil(W/4), C)
        """Return features at a quarter of the images' resolution."""
        x = images.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(convolve(self.conv1, x)))
        output: Tensor = self.norm2(convolve(self.conv2, x))
        return output


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2 to twice the channels, and a norm."""

    def __init__(self, channels: int, config: InternImageConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = build_norm(config.norm_layer, 2 * channels, groups=config.norm_groups)

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, ceil(H/2), ceil(W/2), 2C)
        """Halve the resolution and double the channels."""
        output: Tensor = self.norm(convolve(self.conv, x))
        return output


class MLP(nn.Module):
    """Two linear maps of each pixel with an activation between them."""

    def __init__(self, channels: int, config: InternImageConfig) -> None:
        super().__init__()
        hidden = int(channels * config.mlp_ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.act = build_activation(config.act_layer)
        self.fc2 = nn.Linear(hidden, channels)
        init_linear(self.fc1)
        init_linear(self.fc2)

    def forward(
        self,
        x: Tensor,  # (..., C)
    ) -> Tensor:  # (..., C)
        """Apply both linear maps and the activation to each pixel."""
        output: Tensor = self.fc2(self.act(self.fc1(x)))
        return output


class InternImageBlock(nn.Module):
    """Two residual branches, DCNv3 and MLP, each normalised before, after, or on both sides."""

    def __init__(
        self, channels: int, groups: int, *, drop_path_rate: float, config: InternImageConfig
    ) -> None:
        super().__init__()
        self.post_norm = config.post_norm
        self.gamma1 = self._branch_scale(channels, config)
        self.gamma2 = self._branch_scale(channels, config)
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.dcn = DCNv3Layer(channels, groups, config=config)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = MLP(channels, config)
        both = config.res_post_norm
        self.res_post_norm1 = nn.LayerNorm(channels, eps=NORM_EPS) if both else None
        self.res_post_norm2 = nn.LayerNorm(channels, eps=NORM_EPS) if both else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C)
        """Add the DCNv3 branch, then the MLP branch."""
        x = self._add_branch(x, self.dcn, self.norm1, self.res_post_norm1, self.gamma1)
        return self._add_branch(x, self.mlp, self.norm2, self.res_post_norm2, self.gamma2)

    def _add_branch(
        self,
        x: Tensor,  # (B, H, W, C)
        layer: nn.Module,
        norm: nn.Module,
        res_post_norm: nn.Module | None,
        gamma: Tensor | None,  # (C,)
    ) -> Tensor:  # (B, H, W, C)
        branch = norm(layer(x)) if self.post_norm else layer(norm(x))
        if res_post_norm is not None:
            branch = res_post_norm(branch)
        kept: Tensor = self.drop_path(branch)
        if gamma is None:
            return x + kept
        return torch.addcmul(x, kept, gamma)  # one pass over memory instead of two

    @staticmethod
    def _branch_scale(channels: int, config: InternImageConfig) -> nn.Parameter | None:
        if config.layer_scale is None:
            return None
        return nn.Parameter(torch.full((channels,), config.layer_scale))


class InternImageStage(nn.Module):
    """Blocks of one resolution, their final norm, and the downsampling to the next resolution."""

    def __init__(
        self,
        stage: int,
        config: InternImageConfig,
        *,
        drop_path_rates: Sequence[float],  # one a block
    ) -> None:
        super().__init__()
        channels = config.stage_channels[stage]
        self.activation_checkpointing = config.activation_checkpointing
        self.blocks = nn.ModuleList(
            InternImageBlock(channels, config.groups[stage], drop_path_rate=rate, config=config)
            for rate in drop_path_rates
        )
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS) if config.stage_end_norm else None
        self.post_norm_block_ids = config.level2_post_norm_block_ids if stage == 2 else ()
        self.post_norms = nn.ModuleList(
            nn.LayerNorm(channels, eps=NORM_EPS) for _ in self.post_norm_block_ids
        )
        is_last = stage == len(config.depths) - 1
        self.downsample = None if is_last else Downsample(channels, config)

    def forward(
        self,
        x: Tensor,  # (B, H, W, C)
    ) -> Tensor:  # (B, H, W, C), before the downsampling
        """Run the blocks and the final norm, without the downsampling."""
        for index, block in enumerate(self.blocks):
            x = self._run(block, x)
            if index in self.post_norm_block_ids:
                x = self.post_norms[self.post_norm_block_ids.index(index)](x)
        output: Tensor = x if self.norm is None else self.norm(x)
        return output

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        output: Tensor = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return output


class InternImage(nn.Module):
    """Backbone with feature maps at strides 4, 8, 16 and 32 (those of ``out_indices``).

    Images may have any size; each halving rounds up. For published weights images are RGB,
    normalised with the ImageNet mean and standard deviation. Stages after the last returned one
    are built, so that published weights fit, but not run. T, H and G return normalised maps, S to
    XL the residual stream before a norm, as published detectors expect.

    Args:
        config: the variant and its flags; ``detection_config(name)`` for a published one.
    """

    def __init__(self, config: InternImageConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = Stem(config)
        rates = iter(config.drop_path_rates)
        self.levels = nn.ModuleList(
            InternImageStage(stage, config, drop_path_rates=[next(rates) for _ in range(depth)])
            for stage, depth in enumerate(config.depths)
        )
        for stage in self.levels[: config.frozen_stages]:
            stage.requires_grad_(False)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each returned map."""
        return self.config.out_channels

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Return the strides of the returned maps, in image pixels."""
        return self.config.out_strides

    def train(self, mode: bool = True) -> InternImage:
        """Switch training mode on or off; frozen stages stay in evaluation mode (no drop path)."""
        super().train(mode)
        for stage in self.levels[: self.config.frozen_stages]:
            stage.eval()
        return self

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, ...]:  # len(out_indices) x (B, C_l, H_l, W_l), contiguous
        """Run the stages up to the last returned one, and return their maps.

        Raises:
            ValueError: ``images`` is not (B, 3, H, W).
        """
        return self.run_stages(images, self.config.out_indices)

    def run_stages(
        self,
        images: Tensor,  # (B, 3, H, W)
        stages: Sequence[int],  # ascending
    ) -> tuple[Tensor, ...]:  # len(stages) x (B, C_l, H_l, W_l), contiguous
        """Return the maps of given stages; later stages do not run.

        Raises:
            ValueError: ``images`` is not (B, 3, H, W).
        """
        expect_shape("images", images, ("B", 3, "H", "W"))
        return self.run_after_stem(self.patch_embed(images), stages)

    def run_after_stem(
        self,
        x: Tensor,  # (B, H/4, W/4, C)
        stages: Sequence[int],  # ascending
    ) -> tuple[Tensor, ...]:  # len(stages) x (B, C_l, H_l, W_l), contiguous
        """Return the maps of given stages of the stem's output; later stages do not run."""
        maps = []
        for index, stage in enumerate(self.levels):
            x = stage(x)
            if index in stages:
                maps.append(x.permute(0, 3, 1, 2).contiguous())
            if index == stages[-1]:
                break
            downsample = stage.downsample
            assert isinstance(downsample, nn.Module)  # only the last stage has none
            x = downsample(x)
        return tuple(maps)
