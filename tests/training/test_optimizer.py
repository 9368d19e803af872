"""The schedule written out by hand, and the groups."""

import math

import pytest
from torch import nn

from bevstack.config import TrainingConfig
from bevstack.training.optimizer import learning_rate, make_optimizer, set_learning_rate

STEP = TrainingConfig(
    num_steps=100, learning_rate=0.4, warmup_steps=10, decay_at=(0.5, 0.8), decay_factor=0.1
)
COSINE = TrainingConfig(num_steps=110, learning_rate=0.4, warmup_steps=10, schedule="cosine")


@pytest.mark.parametrize(
    ("step", "want"),
    [(0, 0.4 / 3), (5, 0.4 * 2 / 3), (10, 0.4), (49, 0.4), (50, 0.04), (80, 0.004), (99, 0.004)],
)
def test_warm_up_and_steps(step, want):
    assert learning_rate(step, STEP) == pytest.approx(want)


@pytest.mark.parametrize(
    ("step", "want"),
    [(0, 0.4 / 3), (10, 0.4), (60, 0.2), (110, 0.0), (35, 0.2 * (1 + math.cos(math.pi / 4)))],
)
def test_warm_up_and_cosine(step, want):
    assert learning_rate(step, COSINE) == pytest.approx(want)


def test_backbone_has_a_rate_of_its_own_and_every_parameter_one_group():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.Linear(3, 1)})
    optimizer = make_optimizer(model, TrainingConfig(backbone_multiplier=0.25))
    set_learning_rate(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model["backbone"].parameters()] == [0.2, 0.2]
    assert [rates[id(p)] for p in model["head"].parameters()] == [0.8, 0.8]
    assert len(rates) == 4
