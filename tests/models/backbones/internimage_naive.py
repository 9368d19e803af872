"""InternImage from its formulas, in float64 and channels first, with loops for the operator.

It takes one of our state dicts and a configuration, and shares no code with the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.internimage import InternImageConfig
from tests.ops import naive

State = dict[str, Tensor]
EPSILON = 1e-6


def within(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def layer_norm(x: Tensor, state: State) -> Tensor:
    """Normalise the channels (axis 1) of each pixel."""
    centred = x - x.mean(1, keepdim=True)
    x = centred / (centred.square().mean(1, keepdim=True) + EPSILON).sqrt()
    return x * state["weight"][:, None, None] + state["bias"][:, None, None]


def batch_norm(x: Tensor, state: State) -> Tensor:
    """Normalise with the running statistics; epsilon 1e-5."""
    scale = state["weight"] / (state["running_var"] + 1e-5).sqrt()
    shift = state["bias"] - state["running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def linear(x: Tensor, state: State) -> Tensor:
    return torch.einsum("bchw,dc->bdhw", x, state["weight"]) + state["bias"][:, None, None]


def activation(x: Tensor, config: InternImageConfig) -> Tensor:
    if config.act_layer == "ReLU":
        return x.clamp(min=0)
    if config.act_layer == "SiLU":
        return x / (1 + (-x).exp())
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def mixed_norm(x: Tensor, state: State, config: InternImageConfig) -> Tensor:
    if config.norm_layer == "GN":
        return group_norm(x, state, config.norm_groups)
    return (layer_norm if config.norm_layer == "LN" else batch_norm)(x, state)


def group_norm(x: Tensor, state: State, groups: int) -> Tensor:
    out, width = torch.empty_like(x), x.shape[1] // groups
    for image in range(x.shape[0]):
        for group in range(groups):
            part = x[image, group * width : (group + 1) * width]
            mean, variance = part.mean(), part.var(correction=0)
            out[image, group * width : (group + 1) * width] = (part - mean) / (
                variance + 1e-5
            ).sqrt()
    return out * state["weight"][:, None, None] + state["bias"][:, None, None]


def conv(x: Tensor, state: State, *, stride: int = 1, groups: int = 1) -> Tensor:
    padding = state["weight"].shape[-1] // 2
    return functional.conv2d(x, state["weight"], state.get("bias"), stride, padding, 1, groups)


def dcn(x: Tensor, state: State, groups: int, config: InternImageConfig) -> Tensor:
    channels = x.shape[1]
    value = linear(x, within(state, "input_proj."))
    features = conv(x, within(state, "dw_conv."), groups=channels)
    features = activation(mixed_norm(features, within(state, "dw_norm."), config), config)
    arrays = [
        t.permute(0, 2, 3, 1).contiguous().numpy()
        for t in (
            value,
            linear(features, within(state, "offset.")),
            linear(features, within(state, "mask.")),
        )
    ]
    output, *_ = naive.dcnv3(
        *arrays,
        np.zeros_like(arrays[0]),
        kernel_size=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
        dilation=(1, 1),
        groups=groups,
        offset_scale=config.offset_scale,
        remove_center=config.remove_center,
        softmax=True,
    )
    sampled = torch.from_numpy(output).permute(0, 3, 1, 2)
    if config.center_feature_scale:
        gate = 1 / (1 + (-linear(features, within(state, "center_feature_scale."))).exp())
        gate = gate.repeat_interleave(channels // groups, dim=1)
        sampled = sampled * (1 - gate) + value * gate
    return linear(sampled, within(state, "output_proj."))


def mlp(x: Tensor, state: State, config: InternImageConfig) -> Tensor:
    return linear(activation(linear(x, within(state, "fc1.")), config), within(state, "fc2."))


def block(x: Tensor, state: State, groups: int, config: InternImageConfig) -> Tensor:
    branches: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda y: dcn(y, within(state, "dcn."), groups, config),
        lambda y: mlp(y, within(state, "mlp."), config),
    )
    for number, branch in enumerate(branches, start=1):
        norm = within(state, f"norm{number}.")
        if config.post_norm:
            y = layer_norm(branch(x), norm)
        elif config.res_post_norm:
            y = layer_norm(branch(layer_norm(x, norm)), within(state, f"res_post_norm{number}."))
        else:
            y = branch(layer_norm(x, norm))
        if config.layer_scale is not None:
            y = state[f"gamma{number}"][:, None, None] * y
        x = x + y
    return x


def stages(images: Tensor, state: State, config: InternImageConfig) -> list[Tensor]:
    """Return the outputs of all stages, (B, C, H, W)."""
    stem = within(state, "patch_embed.")
    x = conv(images, within(stem, "conv1."), stride=2)
    x = activation(mixed_norm(x, within(stem, "norm1."), config), config)
    x = mixed_norm(conv(x, within(stem, "conv2."), stride=2), within(stem, "norm2."), config)
    outputs = []
    for stage, depth in enumerate(config.depths):
        level = within(state, f"levels.{stage}.")
        for index in range(depth):
            x = block(x, within(level, f"blocks.{index}."), config.groups[stage], config)
            if stage == 2 and index in config.level2_post_norm_block_ids:
                number = config.level2_post_norm_block_ids.index(index)
                x = layer_norm(x, within(level, f"post_norms.{number}."))
        if not config.post_norm or config.center_feature_scale:
            x = layer_norm(x, within(level, "norm."))
        outputs.append(x)
        if stage < len(config.depths) - 1:
            x = conv(x, within(level, "downsample.conv."), stride=2)
            x = mixed_norm(x, within(level, "downsample.norm."), config)
    return outputs


def attention_pooling(fine: Tensor, coarse: Tensor, state: State, heads: int) -> Tensor:
    """Return the logits of the attention-pooling head, one image and head at a time."""
    coarse = functional.conv2d(coarse, state["project_coarse.weight"], state["project_coarse.bias"])
    batch, channels, height, width = coarse.shape
    wide = coarse.new_zeros(batch, channels // 4, 2 * height, 2 * width)
    for down in (0, 1):
        for right in (0, 1):
            wide[:, :, down::2, right::2] = coarse[:, 2 * down + right :: 4]
    x = wide + functional.conv2d(fine, state["project_fine.weight"], state["project_fine.bias"])
    tokens = x.flatten(2)[..., None]  # (B, D, T, 1)
    attention = within(state, "pool.attention.")
    projected = {}
    for name, source in (("q", tokens.mean(2, keepdim=True)), ("k", tokens), ("v", tokens)):
        normed = layer_norm(source, within(state, f"pool.norm_{name}."))
        weights = {"weight": attention[f"{name}.weight"], "bias": attention[f"{name}_bias"]}
        projected[name] = linear(normed, weights)[..., 0]  # (B, D, T)
    size = projected["q"].shape[1] // heads
    pooled = torch.zeros(batch, projected["q"].shape[1], dtype=fine.dtype)
    for image in range(batch):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            query = projected["q"][image, part, 0]
            scores = (query @ projected["k"][image, part] / math.sqrt(size)).exp()
            pooled[image, part] = projected["v"][image, part] @ (scores / scores.sum())
    pooled = linear(pooled[..., None, None], within(attention, "proj."))
    pooled = layer_norm(pooled, within(state, "fc_norm."))
    return linear(pooled, within(state, "fc."))[..., 0, 0]
