"""Choice of the best scores with one rule for equal ones."""

from __future__ import annotations

import torch
from torch import Tensor


def best_first(
    scores: Tensor,  # (B, D)
    count: int,
) -> tuple[Tensor, Tensor]:
    """Return the best scores of each row, best first; of equal scores, the first comes first.

    ``torch.topk`` orders equal scores differently in batches of different sizes. The rule here
    depends on the row alone. Scores are compared in float32.

    Returns:
        The scores (B, R) and their indices (B, R); R is the smaller of ``count`` and D.
    """
    if torch.compiler.is_exporting():
        # Standard operators cannot read a number's bits, but ONNX's TopK has this very rule.
        return scores.float().topk(min(count, scores.shape[1]), dim=1)
    bits = scores.detach().float().contiguous().view(torch.int32).long()
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # ascending for negative scores, too
    size = scores.shape[1]
    last_to_first = torch.arange(size - 1, -1, -1, device=scores.device)
    index = ((bits << 32) + last_to_first).topk(min(count, size), dim=1).indices
    return scores.gather(1, index), index
