"""What a training run will do and need, said before it begins: `bevstack train --dry-run`."""

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
    encoder_inputs,
    head_inputs,
    no_proposals,
    nominal_rig,
    padded_size,
)

if TYPE_CHECKING:
    from torch import Tensor

# Of a parameter: the weight, its gradient, AdamW's two moments; and the average where there is one.
STATES_OF_ADAMW = 4
# Parts whose other frames carry no gradient: only one of their runs goes backward.
ONE_FRAME_BACKWARD = ("backbone", "neck", "encoder")
# The backward pass of a product computes two of its size: by the input and by the weight.
BACKWARD_GFLOP = 2.0


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The plan of a run. Work and memory are those of six cameras like the first nuScenes car's."""

    config: Config
    samples: int  # of the data set
    processes: int
    parameters: int
    forward_gflop: float  # of one sample, all frames
    step_gflop: float  # of all samples, forward and backward
    state_bytes: int  # of one process: weights, gradients, optimiser, average
    activation_bytes: int  # of one process: what the backward pass needs of a pass's samples

    @property
    def samples_a_pass(self) -> int:
        """That go through one process's model together."""
        recipe = self.config.training
        return recipe.batch_size // (recipe.accumulate * self.processes)

    def lines(self) -> list[str]:
        """The plan as text."""
        recipe = self.config.training
        times = recipe.num_steps * recipe.batch_size / self.samples
        how = "alone" if self.processes == 1 else f"{self.processes} by {recipe.engine}"
        memory = self.state_bytes + self.activation_bytes
        every = f"every {recipe.evaluate_every} steps and " if recipe.evaluate_every else ""
        stages = ""
        if recipe.perspective_steps:
            which = f"the first {recipe.perspective_steps}"
            if recipe.perspective_steps == recipe.num_steps:
                which = "all"
            stages = f", {which} of the perspective head alone"
        return [
            f"parameters: {self.parameters:,}",
            f"steps: {recipe.num_steps:,}{stages}",
            f"samples: {recipe.batch_size} a step ({how}; passes: {recipe.accumulate} of "
            f"{self.samples_a_pass} a process), {recipe.num_steps * recipe.batch_size:,} in all: "
            f"{times:.1f} times the {self.samples:,}, sampling: {recipe.sampling}",
            f"GFLOP of a step: {self.step_gflop:,.0f} ({self.forward_gflop:,.1f} forward a sample)",
            f"memory of a process, estimated: {memory / GIGA:.2f} GB (weights, gradients, "
            f"optimiser{', average' * (recipe.ema_decay > 0)} {self.state_bytes / GIGA:.2f}, "
            f"activations {self.activation_bytes / GIGA:.2f}; without images and workspaces)",
            f"precision: {recipe.precision}; checkpoints every {recipe.checkpoint_every} steps; "
            f"evaluations {every}at the end",
        ]


def plan_training(
    name_or_path: str, samples: int, processes: int = 1, *, steps: int | None = None
) -> TrainingPlan:
    """Counts and estimates; nothing is allocated or trained.

    Args:
        name_or_path: the configuration, as ``load_config`` takes it.
        samples: of the data set.
        processes: that share each step's samples.
        steps: the recipe in so many steps; none: as configured.

    Raises:
        FileNotFoundError: no such configuration.
        ValueError: it contradicts itself, the steps are too few for its stages, or the processes
            cannot share a step's samples.
    """
    config = load_config(name_or_path)
    if steps is not None:
        config = replace(config, training=config.training.with_num_steps(steps))
    recipe = config.training
    passes = recipe.accumulate * processes
    if recipe.batch_size % passes:
        raise ValueError(
            f"training.batch_size must be a multiple of {processes} processes times "
            f"{recipe.accumulate} passes; got {recipe.batch_size}"
        )
    count = count_config(name_or_path)
    states = STATES_OF_ADAMW + (recipe.ema_decay > 0)
    shares = processes if recipe.engine == "fsdp" else 1
    return TrainingPlan(
        config=config,
        samples=samples,
        processes=processes,
        parameters=count.parameters,
        forward_gflop=count.training_gflop,
        step_gflop=recipe.batch_size * _gflop_both_ways(count),
        state_bytes=states * count.parameters * FLOAT32_BYTES // shares,
        activation_bytes=recipe.batch_size // passes * activation_bytes(config),
    )


def _gflop_both_ways(count: ConfigCount) -> float:
    """Of one sample; frames but the current one have no backward pass."""
    backward = sum(
        part.gflop if part.name in ONE_FRAME_BACKWARD else part.training_gflop
        for part in count.parts
    )
    return count.training_gflop + BACKWARD_GFLOP * backward


def activation_bytes(config: Config) -> int:
    """What autograd keeps of one sample's current frame until the backward pass.

    Counted part by part on shapes alone. Where activations are not kept but computed again
    (``activation_checkpointing``), what a single block needs meanwhile is left out.
    """
    import torch

    from bevstack.costs.macs import shapes_only
    from bevstack.models.build import build_model

    with torch.device("meta"):
        model = build_model(config)
    rig = nominal_rig(config)
    size = padded_size(config, rig)
    pairs = count_pairs(config, rig, size, step=model.encoder.pair_step)
    with shapes_only(model), _counting(model.requires_grad_().parameters()) as kept:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision != "float32"):
            maps = model.backbone(torch.empty(rig.num_cameras, 3, *size))
            pyramid = model.neck(maps)
            if model.perspective_head is not None:
                model.perspective_head(*head_inputs(config, pyramid))
            bev = model.encoder(*encoder_inputs(model, pyramid, pairs))
            if model.fusion is not None:
                frames = len(config.frames)
                known = torch.ones(1, frames, dtype=torch.bool)
                bev = model.fusion(bev[:, None].expand(-1, frames, -1, -1, -1), known)
            model.decoder(bev, *no_proposals(config))
        return kept()


@contextmanager
def _counting(parameters: Iterator[Tensor]) -> Iterator[Callable[[], int]]:
    """Within, gives the bytes autograd keeps: each storage once, and parameters not."""
    import torch

    own = {id(parameter) for parameter in parameters}
    kept: dict[int, tuple[Tensor, int]] = {}  # by storage; the tensor keeps its number from reuse

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if id(base) not in own:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(size for _, size in kept.values())
