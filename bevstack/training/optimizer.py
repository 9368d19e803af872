"""AdamW with a rate of its own for the backbone, and the rate's schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from bevstack.config import TrainingConfig

BACKBONE_PREFIX = "backbone."


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over two groups: the backbone at ``backbone_multiplier`` times the rate, and the rest.

    As the released recipe: weight decay on everything (BEVFormer v2 specification, section 12).
    Each group carries ``multiplier``, which ``set_learning_rate`` applies.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    backbone = [p for name, p in named if name.startswith(BACKBONE_PREFIX)]
    rest = [p for name, p in named if not name.startswith(BACKBONE_PREFIX)]
    groups = [
        {"params": backbone, "multiplier": config.backbone_multiplier},
        {"params": rest, "multiplier": 1.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Rate of an optimiser step (0 is the first), before the groups' multipliers.

    Linear warm-up from ``warmup_start`` of the rate over ``warmup_steps``; then "step" multiplies
    by ``decay_factor`` at each fraction ``decay_at`` of the run, "cosine" falls to 0 at its end.
    """
    factor = 1.0
    if config.schedule == "step":
        passed = sum(step >= fraction * config.num_steps for fraction in config.decay_at)
        factor = config.decay_factor**passed
    elif step >= config.warmup_steps:
        remaining = max(config.num_steps - config.warmup_steps, 1)
        factor = 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / remaining))
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        factor *= config.warmup_start + (1 - config.warmup_start) * progress
    return config.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets every group's rate to ``rate`` times the group's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
