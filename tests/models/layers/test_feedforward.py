from __future__ import annotations

import torch

from bevstack.models.layers.feedforward import FeedForward


def test_output_is_two_linear_maps_around_a_relu() -> None:
    torch.manual_seed(0)
    module = FeedForward(4, 7, dropout=0.5).eval()
    x = torch.randn(2, 3, 4)
    hidden = (x @ module.fc1.weight.T + module.fc1.bias).clamp(min=0)
    torch.testing.assert_close(module(x), hidden @ module.fc2.weight.T + module.fc2.bias)


def test_dropout_acts_in_training_after_each_map() -> None:
    torch.manual_seed(0)
    module = FeedForward(4, 7, dropout=0.5)
    zeros = (module(torch.randn(1000, 4)) == 0).float().mean()
    assert 0.45 < float(zeros) < 0.55  # of 4,000 outputs
    with torch.no_grad():
        module.fc1.weight.zero_()
        module.fc1.bias.fill_(1.0)
        module.fc2.weight.fill_(1.0)
        module.fc2.bias.zero_()
    kept = module(torch.zeros(1000, 4)) / 4  # 1 / (1 - p) twice
    sums = kept[kept > 0]
    assert set(sums.tolist()) <= set(range(1, 8)) and len(set(sums.tolist())) > 3
