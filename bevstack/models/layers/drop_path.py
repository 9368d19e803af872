"""Stochastic depth (arXiv 1603.09382): whole residual branches are dropped, sample by sample."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth: in training, a residual branch is zero for random samples of the batch.

    The remaining samples are scaled by 1 / (1 - ``rate``), so the branch's mean is unchanged.

    Args:
        rate: probability that a sample's branch is dropped, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must be in [0, 1); got {rate}")
        self.rate = rate

    def forward(
        self,
        branch: Tensor,  # (B, ...)
    ) -> Tensor:
        """Drop the branch of some samples; return it unchanged in evaluation or at rate 0."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        per_sample = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * branch.new_empty(per_sample).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Return the rate, for the printed module."""
        return f"rate={self.rate}"
