"""AdamW with rates of their own for the backbone's layers, and the rate's schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from bevstack.config import TrainingConfig

BACKBONE_PREFIX = "backbone."
_STEM = re.compile(r"patch_embed\.")
_BLOCK = re.compile(r"levels\.(\d+)\.blocks\.(\d+)\.")
_BESIDE = re.compile(r"levels\.(\d+)\.(norm|post_norms\.\d+|downsample)\.")


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; parameters with the same rate and weight decay form a group.

    The backbone trains at ``backbone_multiplier`` times the rate, and with ``layer_decay`` below 1
    each of its layers at that times the rate of the next (``layer_multipliers``). Weight decay is
    on everything, as in the released recipe of BEVFormer v2 (specification, section 12); without
    ``decay_norms_and_biases`` it spares parameters of one axis and everything of a norm or a bias,
    as InternImage's detectors are trained. Each group carries ``multiplier``, which
    ``set_learning_rate`` applies.

    Raises:
        ValueError: a layer-wise decay of a backbone that is no InternImage.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    of_layers = layer_multipliers(named, config.layer_decay)
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        in_backbone = name.startswith(BACKBONE_PREFIX)
        multiplier = of_layers[name] * (config.backbone_multiplier if in_backbone else 1.0)
        decay = config.weight_decay
        if not config.decay_norms_and_biases and is_norm_or_bias(name, parameter):
            decay = 0.0
        groups.setdefault((not in_backbone, multiplier, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[key], "multiplier": key[1], "weight_decay": key[2]}
            for key in sorted(groups)  # backbone first, slowest first
        ],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def layer_multipliers(names: Iterable[str], decay: float) -> Mapping[str, float]:
    """The factor on the rate of each parameter, by its depth in an InternImage backbone.

    The stem is layer 0 and the blocks of all stages count on from 1. What stands beside a stage's
    blocks (its norms, its downsampling) belongs to the next stage's first block, or to its own in
    the last stage. A layer has ``decay`` times the rate of the next one, the last block ``decay``
    times that of everything outside of the backbone, whose factor is 1. This is the released
    detection recipe of InternImage but for the norms between blocks that only H and G have: there
    the k-th of them counts with block k, wherever it stands.

    Raises:
        ValueError: a decay below 1 and a backbone whose parameters are not those of InternImage.
    """
    names = list(names)
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    inner = {n: n[len(BACKBONE_PREFIX) :] for n in names if n.startswith(BACKBONE_PREFIX)}
    depths: dict[int, int] = {}
    for found in filter(None, map(_BLOCK.match, inner.values())):
        stage, block = int(found[1]), int(found[2])
        depths[stage] = max(depths.get(stage, 0), block + 1)
    first_of = [1 + sum(depths[below] for below in range(stage)) for stage in range(len(depths))]
    after_all = 1 + sum(depths.values())
    return {
        name: decay ** (after_all - _layer(inner[name], first_of)) if name in inner else 1.0
        for name in names
    }


def _layer(name: str, first_of: Sequence[int]) -> int:
    """Number of the layer of a backbone's parameter; ``first_of`` each stage."""
    if _STEM.match(name):
        return 0
    if found := _BLOCK.match(name):
        return first_of[int(found[1])] + int(found[2])
    if found := _BESIDE.match(name):
        return first_of[min(int(found[1]) + 1, len(first_of) - 1)]
    raise ValueError(
        "training.layer_decay must be 1 for a backbone that is no InternImage; got another with "
        f"the parameter {BACKBONE_PREFIX}{name}"
    )


def is_norm_or_bias(name: str, parameter: torch.Tensor) -> bool:
    """Whether a parameter is of one axis or none, a bias, or of a norm."""
    return parameter.dim() <= 1 or name.endswith("bias") or "norm" in name


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Rate of an optimiser step (0 is the first), before the groups' multipliers.

    Linear warm-up from ``warmup_start`` of the rate over ``warmup_steps``; then "step" multiplies
    by ``decay_factor`` at each fraction ``decay_at`` of the run, "cosine" falls to 0 at its end.
    The first ``perspective_steps`` have a warm-up of their own and a constant rate after it; all
    else counts from where they end, for the parts that begin there are new. Where none begin, as
    there are no other steps, all counts from the first.
    """
    first = config.perspective_steps if config.perspective_steps < config.num_steps else 0
    of_all = step >= first
    step -= first if of_all else 0
    num_steps = config.num_steps - first
    factor = 1.0
    if of_all and config.schedule == "step":
        passed = sum(step >= fraction * num_steps for fraction in config.decay_at)
        factor = config.decay_factor**passed
    elif of_all and step >= config.warmup_steps:
        remaining = max(num_steps - config.warmup_steps, 1)
        factor = 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / remaining))
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        factor *= config.warmup_start + (1 - config.warmup_start) * progress
    return config.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets every group's rate to ``rate`` times the group's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
