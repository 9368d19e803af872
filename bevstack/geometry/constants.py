"""Constant tensors that are made on the device itself.

A tensor made from Python numbers is first made on the host and then copied, which a GPU cannot do
while it captures a graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def constant(
    like: Tensor,
    values: Sequence[float],
) -> Tensor:  # (len(values),)
    """Return numbers as a tensor of the dtype and device of another one, without a copy to it."""
    return torch.cat([like.new_full((1,), value) for value in values])
