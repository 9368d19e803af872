"""Exponential moving average of a model's weights (EMA; arXiv 1803.05407 reviews averaging)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bevstack.training.parallel import local_tensor, shard_like


class WeightAverage:
    """Moving average of every parameter over the steps, sharded like the parameter.

    After step n the old average has weight min(``decay``, (1 + n) / (10 + n)), so that the initial
    random weights fade quickly (TensorFlow's ExponentialMovingAverage with ``num_updates``).

    Args:
        model: the trained model; the average starts as a copy of its parameters.
        decay: weight of the old average, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average with the weights after a step (1 is the first)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            local_tensor(self.tensors[name]).lerp_(local_tensor(parameter.detach()), 1 - keep)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a saved average, which is not sharded."""
        self.tensors = {
            name: shard_like(tensors[name].to(current.device), current).clone()
            for name, current in self.tensors.items()
        }
