"""Convolutions that turn the maps of a tower into predictions.

Letters: I images, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.perspective import PerspectiveConfig


def build_predictor(
    config: PerspectiveConfig, channels: int, outputs: int, *, bias: bool = True
) -> nn.Conv2d:
    """Build the convolution of one kind of prediction; it keeps the map's size."""
    size = config.predictor_size
    return nn.Conv2d(channels, outputs, size, padding=size // 2, bias=bias)


def predict(
    features: Tensor,  # (I, C, H, W)
    *predictors: nn.Conv2d,
) -> list[Tensor]:  # each (I, outputs, H, W), float32 at least
    """Run all predictors of a tower as one convolution, which is faster than narrow ones."""
    weight = torch.cat([predictor.weight for predictor in predictors])
    biases = [
        predictor.weight.new_zeros(predictor.out_channels)
        if predictor.bias is None
        else predictor.bias
        for predictor in predictors
    ]
    output = functional.conv2d(features, weight, torch.cat(biases), padding="same")
    channels = [predictor.out_channels for predictor in predictors]
    return list(torch.split(_at_least_float32(output), channels, 1))


def _at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32: depths and pixels need more than eight bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
