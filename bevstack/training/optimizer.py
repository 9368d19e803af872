"""AdamW with layer-wise learning rates for the backbone, and the learning rate schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from bevstack.config import TrainingConfig

BACKBONE_PREFIX = "backbone."
_OFFSETS = "sampling_offsets"  # of deformable attention
_STEM = re.compile(r"patch_embed\.")
_BLOCK = re.compile(r"levels\.(\d+)\.blocks\.(\d+)\.")
_STAGE_END = re.compile(r"levels\.(\d+)\.(norm|post_norms\.\d+|downsample)\.")


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW; parameters with the same learning rate and weight decay form a group.

    The backbone trains at ``backbone_multiplier`` times the rate, and the sampling offsets of
    deformable attention at ``offset_multiplier`` times. With ``layer_decay`` below 1, the
    rate of each of its layers is that factor times the rate of the next (``layer_multipliers``).
    Weight decay applies to all parameters, as in the released recipe of BEVFormer v2
    (specification, section 12). Without ``decay_norms_and_biases`` it spares parameters of one axis
    and those of norms, biases and sampling offsets, as in the training of InternImage's detectors.
    Each group holds a ``multiplier``, which ``set_learning_rate`` applies.

    Raises:
        ValueError: ``layer_decay`` is below 1 and the backbone is not an InternImage.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    multipliers = layer_multipliers(named, config.layer_decay)
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        in_backbone = name.startswith(BACKBONE_PREFIX)
        multiplier = multipliers[name] * (config.backbone_multiplier if in_backbone else 1.0)
        multiplier *= config.offset_multiplier if _OFFSETS in name else 1.0
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
    """Return the learning rate factor of each parameter, by its depth in an InternImage backbone.

    The stem is layer 0; the blocks of all stages are numbered from 1. Norms and downsampling of a
    stage outside its blocks belong to the layer of the next stage's first block; in the last stage,
    to the layer of its own first block. A layer has ``decay`` times the factor of the next one. The
    last block has ``decay`` times the factor of the rest of the model, which is 1.

    This is the released detection recipe of InternImage, except for the norms between blocks that
    only H and G have: in that recipe the k-th of them has the layer of block k at any position.

    Raises:
        ValueError: ``decay`` is below 1 and the backbone's parameters are not InternImage's.
    """
    names = list(names)
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    inner = {n: n[len(BACKBONE_PREFIX) :] for n in names if n.startswith(BACKBONE_PREFIX)}
    depths: dict[int, int] = {}
    for match in filter(None, map(_BLOCK.match, inner.values())):
        stage, block = int(match[1]), int(match[2])
        depths[stage] = max(depths.get(stage, 0), block + 1)
    first_layers = [
        1 + sum(depths[below] for below in range(stage)) for stage in range(len(depths))
    ]
    rest_of_model = 1 + sum(depths.values())
    return {
        name: decay ** (rest_of_model - _layer(inner[name], first_layers)) if name in inner else 1.0
        for name in names
    }


def _layer(name: str, first_layers: Sequence[int]) -> int:  # first layer of each stage
    """Return the number of the layer of a backbone's parameter."""
    if _STEM.match(name):
        return 0
    if match := _BLOCK.match(name):
        return first_layers[int(match[1])] + int(match[2])
    if match := _STAGE_END.match(name):
        return first_layers[min(int(match[1]) + 1, len(first_layers) - 1)]
    raise ValueError(
        "training.layer_decay must be 1 for a backbone that is not an InternImage; got another "
        f"value with the parameter {BACKBONE_PREFIX}{name}"
    )


def is_norm_or_bias(name: str, parameter: torch.Tensor) -> bool:
    """Return True if a parameter has at most one axis or belongs to a bias, norm or offset."""
    return parameter.dim() <= 1 or name.endswith("bias") or "norm" in name or _OFFSETS in name


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step (0 is the first), before the groups' multipliers.

    The rate warms up linearly from ``warmup_start`` of its value over ``warmup_steps``. Then "step"
    multiplies it by ``decay_factor`` at each fraction ``decay_at`` of the run; "cosine" lowers it
    to 0 at the end of the run, from the end of the warm-up; "linear" does so along a line from the
    first step, times the warm-up, as in the released training of segmentation ("poly" of power 1).
    The first ``perspective_steps`` have a warm-up and then a constant rate. Warm-up and schedule
    start again after them, as parts of the model first train there. If all steps are perspective
    steps, they follow the schedule themselves.
    """
    first = config.perspective_steps if config.perspective_steps < config.num_steps else 0
    trains_all = step >= first
    step -= first if trains_all else 0
    num_steps = config.num_steps - first
    factor = 1.0
    if trains_all and config.schedule == "step":
        num_decays = sum(step >= fraction * num_steps for fraction in config.decay_at)
        factor = config.decay_factor**num_decays
    elif trains_all and config.schedule == "linear":
        factor = 1 - step / num_steps
    elif trains_all and step >= config.warmup_steps:
        remaining = max(num_steps - config.warmup_steps, 1)
        factor = 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / remaining))
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        factor *= config.warmup_start + (1 - config.warmup_start) * progress
    return config.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's learning rate to ``rate`` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
