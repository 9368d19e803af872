"""The best scores come in an order that does not depend on the batch."""

from __future__ import annotations

import pytest
import torch

from bevstack.models.layers.ranking import best_first


@pytest.mark.parametrize("count", [1, 7, 300, 500])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_equal_scores_keep_their_order(count: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels, (5, 400), generator=generator) / levels - 0.25
    values, index = best_first(scores, count)
    for row in range(5):
        plain = sorted(range(400), key=lambda d: (-float(scores[row, d]), d))
        assert index[row].tolist() == plain[:count]
        alone = best_first(scores[row : row + 1], count)
        assert torch.equal(alone[0], values[row : row + 1]) and alone[1].tolist() == [plain[:count]]


def test_scores_without_ties_and_special_numbers_are_ranked_as_by_topk() -> None:
    scores = torch.randn(3, 50).double()
    wanted = scores.topk(9, dim=1)
    values, index = best_first(scores, 9)
    assert torch.equal(index, wanted.indices) and torch.equal(values, wanted.values)
    special = torch.tensor([[1.0, -torch.inf, torch.inf, 0.0, torch.nan, -1.0, 1e-40]])
    assert best_first(special, 7)[1].tolist() == special.topk(7).indices.tolist()
    assert best_first(torch.zeros(2, 0), 4)[1].shape == (2, 0)
    assert best_first(torch.zeros(0, 5), 4)[1].shape == (0, 4)
