"""Focal loss of independent sigmoids (Lin et al., arXiv 1708.02002, equation 5)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

COST_EPS = 1e-12  # inside the matching cost's logarithms, as in the published matcher


def sigmoid_focal_loss(
    logits: Tensor,  # (...)
    targets: Tensor,  # (...) 0 or 1
    *,
    alpha: float,
    gamma: float,
) -> Tensor:  # (...)
    """Compute the unreduced focal loss; alpha weighs positives, 1 - alpha negatives."""
    probability = logits.sigmoid()
    distance = targets * (1 - probability) + (1 - targets) * probability  # from the target
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return balance * distance.pow(gamma) * entropy


def single_target_focal_loss(
    target: int,  # 0 or 1
    logits: Tensor,  # (...)
    *,
    alpha: float,
    gamma: float,
) -> Tensor:  # (...)
    """Compute ``sigmoid_focal_loss`` of logits that all have one target, at a third of the work."""
    wrong_logits, balance = (-logits, alpha) if target else (logits, 1 - alpha)
    return balance * wrong_logits.sigmoid().pow(gamma) * functional.softplus(wrong_logits)


def focal_cost(
    logits: Tensor,  # (...)
    *,
    alpha: float,
    gamma: float,
) -> Tensor:  # (...)
    """Return the matching cost: a logit's focal loss as a positive minus that as a negative."""
    probability = logits.sigmoid()
    positive = -(probability + COST_EPS).log() * alpha * (1 - probability).pow(gamma)
    negative = -(1 - probability + COST_EPS).log() * (1 - alpha) * probability.pow(gamma)
    return positive - negative
