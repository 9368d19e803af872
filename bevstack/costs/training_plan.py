"""Estimates of a training's operations and memory, for `bevstack train --dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bevstack.config import Config, load_config
from bevstack.costs.detector import (
    FLOAT32_BYTES,
    GIGA,
    ConfigCount,
    count_config,
    count_pairs,
    empty_proposals,
    encoder_inputs,
    head_inputs,
    nominal_rig,
    padded_size,
)

if TYPE_CHECKING:
    from torch import Tensor

# Numbers kept for each parameter: the weight, its gradient and AdamW's two moments. An average of
# the weights (EMA) adds one more.
ADAMW_STATES = 4
# Parts that have a backward pass for the current frame only; other frames carry no gradient.
ONE_FRAME_BACKWARD = ("backbone", "neck", "encoder")
# Operations of the backward pass / those of the forward pass: a matrix product has two gradients of
# the same cost, by the input and by the weight.
BACKWARD_GFLOP = 2.0


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Estimates for one training, with the six cameras of nuScenes' first car."""

    config: Config
    samples: int  # of the training split
    processes: int  # that share each step's samples
    parameters: int
    forward_gflop: float  # of one sample, all frames
    step_gflop: float  # of a step's samples, forward and backward
    state_bytes: int  # of one process: weights, gradients, optimiser, average
    activation_bytes: int  # of one process, for the samples of one pass
    evaluates: bool  # on held-out scenes

    @property
    def samples_per_pass(self) -> int:
        """Return the number of samples that one process gives to its model together."""
        recipe = self.config.training
        return recipe.batch_size // (recipe.accumulate * self.processes)

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        recipe = self.config.training
        total = recipe.num_steps * recipe.batch_size
        engine = f"{self.processes} processes with {recipe.engine}"
        engine = "1 process" if self.processes == 1 else engine
        memory = self.state_bytes + self.activation_bytes
        every = f"every {recipe.evaluate_every} steps and " if recipe.evaluate_every else ""
        evaluations = f"evaluations {every}at the end" if self.evaluates else "no evaluation"
        stages = ""
        if recipe.perspective_steps:
            steps = f"the first {recipe.perspective_steps}"
            if recipe.perspective_steps == recipe.num_steps:
                steps = "all"
            stages = f", {steps} with backbone, neck and perspective head only"
        return [
            f"parameters: {self.parameters:,}",
            f"steps: {recipe.num_steps:,}{stages}",
            f"samples: {recipe.batch_size} per step ({engine}; passes per process: "
            f"{recipe.accumulate}, samples per pass: {self.samples_per_pass}), {total:,} in total: "
            f"{total / self.samples:.1f} times the {self.samples:,} of the split; "
            f"sampling: {recipe.sampling}",
            f"GFLOP per step: {self.step_gflop:,.0f} (forward pass of a sample: "
            f"{self.forward_gflop:,.1f})",
            f"estimated memory per process: {memory / GIGA:.2f} GB (weights, gradients, "
            f"optimiser{', average' * (recipe.ema_decay > 0)} {self.state_bytes / GIGA:.2f}, "
            f"activations {self.activation_bytes / GIGA:.2f}; without images and workspaces)",
            f"precision: {recipe.precision}; checkpoints every {recipe.checkpoint_every} steps; "
            + evaluations,
        ]


def plan_training(
    config: str | Config,
    samples: int,
    processes: int = 1,
    *,
    steps: int | None = None,
    evaluates: bool = True,
) -> TrainingPlan:
    """Estimate a training without allocating or training a model.

    Args:
        config: the configuration, or its name or file as in ``load_config``.
        samples: of the training split.
        processes: that share each step's samples.
        steps: number of steps, with the recipe's stages in proportion. None: as configured.
        evaluates: True if there are held-out scenes.

    Raises:
        FileNotFoundError: there is no such configuration.
        ValueError: fields of the configuration contradict each other, ``steps`` is too small for
            its stages, or the processes cannot share a step's samples evenly.
    """
    config = config if isinstance(config, Config) else load_config(config)
    if steps is not None:
        config = replace(config, training=config.training.with_num_steps(steps))
    recipe = config.training
    passes = recipe.accumulate * processes
    if recipe.batch_size % passes:
        raise ValueError(
            f"training.batch_size must be a multiple of {processes} processes times "
            f"{recipe.accumulate} passes; got {recipe.batch_size}"
        )
    count = count_config(config)
    states = ADAMW_STATES + (recipe.ema_decay > 0)
    shards = processes if recipe.engine == "fsdp" else 1
    return TrainingPlan(
        config=config,
        samples=samples,
        processes=processes,
        parameters=count.parameters,
        forward_gflop=count.training_gflop,
        step_gflop=recipe.batch_size * _forward_and_backward_gflop(count),
        state_bytes=states * count.parameters * FLOAT32_BYTES // shards,
        activation_bytes=recipe.batch_size // passes * activation_bytes(config),
        evaluates=evaluates,
    )


def _forward_and_backward_gflop(count: ConfigCount) -> float:
    """Return the GFLOP of one sample; only the current frame has a backward pass."""
    backward = sum(
        part.gflop if part.name in ONE_FRAME_BACKWARD else part.training_gflop
        for part in count.parts
    )
    return count.training_gflop + BACKWARD_GFLOP * backward


def activation_bytes(config: Config) -> int:
    """Return the bytes that autograd keeps for one sample's current frame.

    They are counted part by part on tensors without data. With ``activation_checkpointing``, the
    activations that a single block recomputes in the backward pass are not counted.
    """
    import torch

    from bevstack.costs.macs import shapes_only
    from bevstack.models.build import build_model

    with torch.device("meta"):
        model = build_model(config)
    rig = nominal_rig(config)
    size = padded_size(config, rig)
    pairs = count_pairs(config, rig, size, step=model.encoder.pair_step)
    with (
        shapes_only(model),
        _counting_saved_tensors(model.requires_grad_().parameters()) as bytes_kept,
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision != "float32"):
            maps = model.backbone(torch.empty(rig.num_cameras, 3, *size))
            pyramid = model.neck(maps)
            if model.perspective_head is not None:
                model.perspective_head(*head_inputs(config, pyramid))
            bev = model.encoder(*encoder_inputs(model, pyramid, pairs))
            if model.fusion is not None:
                frames = len(config.frames)
                usable = torch.ones(1, frames, dtype=torch.bool)
                bev = model.fusion(bev[:, None].expand(-1, frames, -1, -1, -1), usable)
            model.decoder(bev, *empty_proposals(config))
        return bytes_kept()


@contextmanager
def _counting_saved_tensors(parameters: Iterator[Tensor]) -> Iterator[Callable[[], int]]:
    """Yield a function that returns the bytes that autograd has kept within the context.

    Each storage counts once; parameters do not count.
    """
    import torch

    own = {id(parameter) for parameter in parameters}
    # By storage. Keeping the tensor alive prevents that another storage gets the same key.
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in own:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(size for _, size in kept.values())
