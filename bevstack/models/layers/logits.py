"""Probabilities and their logits."""

from __future__ import annotations

from torch import Tensor

CLASS_PRIOR = 0.01  # initial probability of every class (focal loss, arXiv 1708.02002, 3.3)

INVERSE_SIGMOID_EPS = 1e-5


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Return the logit of x, with both x and 1 - x clamped to at least 1e-5."""
    x = x.clamp(0, 1)
    eps = INVERSE_SIGMOID_EPS
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()
