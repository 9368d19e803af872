from __future__ import annotations

import math

import pytest
import torch

from bevstack.losses.focal import (
    focal_cost,
    sigmoid_focal_loss,
    single_target_focal_loss,
)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.4, 1.5)])
def test_loss_and_cost_equal_their_formulas(alpha: float, gamma: float) -> None:
    for logit in (-4.0, -0.3, 0.0, 2.5):
        p = 1 / (1 + math.exp(-logit))
        positive = -alpha * (1 - p) ** gamma * math.log(p)
        negative = -(1 - alpha) * p**gamma * math.log(1 - p)
        x = torch.tensor(logit, dtype=torch.float64)
        for target, wanted in ((1.0, positive), (0.0, negative)):
            loss = sigmoid_focal_loss(x, torch.tensor(target).double(), alpha=alpha, gamma=gamma)
            assert float(loss) == pytest.approx(wanted, rel=1e-9)
            same = single_target_focal_loss(int(target), x, alpha=alpha, gamma=gamma)
            assert float(same) == pytest.approx(wanted, rel=1e-9)
        cost = focal_cost(x, alpha=alpha, gamma=gamma)
        # the cost's logarithms hold 1e-12 more
        assert float(cost) == pytest.approx(positive - negative, rel=1e-6)


def test_loss_and_gradient_stay_finite_at_large_logits() -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    targets = torch.tensor([0.0, 0.0, 1.0, 1.0])
    loss = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()
    torch.testing.assert_close(loss.detach(), torch.tensor([0.0, 150.0, 50.0, 0.0]))
    assert focal_cost(logits, alpha=0.25, gamma=2.0).isfinite().all()


@pytest.mark.parametrize("target", [0, 1])
def test_loss_of_one_target_has_the_same_gradient(target: int) -> None:
    logits = torch.linspace(-90, 90, 41).requires_grad_()
    targets = torch.full_like(logits, target)
    wanted = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    got = single_target_focal_loss(target, logits, alpha=0.25, gamma=2.0)
    torch.testing.assert_close(got, wanted)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (got, wanted)]
    torch.testing.assert_close(*gradients)
