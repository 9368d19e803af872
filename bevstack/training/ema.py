"""An exponential moving average of a model's weights (EMA; arXiv 1803.05407 reviews averaging)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bevstack.training.parallel import as_shared, share


class WeightAverage:
    """The average of every parameter over the steps; a sharded one's is sharded likewise.

    After step n it keeps min(``decay``, (1 + n) / (10 + n)) of itself, so that it forgets the
    random weights of the beginning (TensorFlow's ExponentialMovingAverage with ``num_updates``).

    Args:
        model: the one that is trained; the average starts as a copy.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after a step (1 is the first)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            share(self.tensors[name]).lerp_(share(parameter.detach()), 1 - keep)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from a saved average of whole tensors."""
        self.tensors = {
            name: as_shared(tensors[name].to(own.device), own).clone()
            for name, own in self.tensors.items()
        }
