from __future__ import annotations

import pytest
import torch

from bevstack.models.layers.drop_path import DropPath


def test_each_sample_is_dropped_or_scaled_by_its_own_draw() -> None:
    branch = torch.randn(9, 2, 3, 5, dtype=torch.float64)
    layer = DropPath(0.3).train()
    torch.manual_seed(11)
    got = layer(branch)
    torch.manual_seed(11)
    draws = torch.empty(9, dtype=torch.float64).bernoulli_(0.7)
    assert 0 < draws.sum() < 9
    for sample in range(9):
        wanted = branch[sample] / 0.7 if draws[sample] else torch.zeros_like(branch[sample])
        torch.testing.assert_close(got[sample], wanted, rtol=1e-15, atol=0)


def test_share_of_dropped_samples_is_the_rate_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    got = DropPath(0.25).train()(torch.ones(40_000, 1))
    # Standard error of 40000 draws: 0.0022 of the share, 0.0029 of the mean; five of them.
    assert (got == 0).double().mean().item() == pytest.approx(0.25, abs=0.011)
    assert got.mean().item() == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_touched_in_evaluation_or_at_rate_zero(rate: float, training: bool) -> None:
    branch = torch.randn(4, 3)
    state = torch.get_rng_state()
    assert DropPath(rate).train(training)(branch) is branch
    assert torch.equal(torch.get_rng_state(), state)


def test_gradient_is_scaled_like_the_value() -> None:
    torch.manual_seed(2)
    branch = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    got = DropPath(0.5).train()(branch)
    got.sum().backward()
    kept = got.abs().sum(1) > 0
    assert 0 < kept.sum() < 6
    assert torch.equal(branch.grad, 2.0 * kept[:, None].double().expand(6, 4))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rate_outside_the_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\); got"):
        DropPath(rate)
