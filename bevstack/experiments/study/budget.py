"""Number of training steps of each stage within a budget of processor time."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace

import torch

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tasks.detection3d import Detection3D
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.processes import Processes

WARM_STEPS, TIMED_STEPS = 3, 7


@dataclass(frozen=True)
class Plan:
    """Number of steps of a variant that fill the budget, and the measured time of one step."""

    perspective_steps: int
    num_steps: int
    perspective_step_s: float  # processor time; 0 if there is no perspective stage
    step_s: float  # processor time; 0 if there is no later stage

    def to_json(self) -> dict[str, float]:
        """Return the fields as a dictionary."""
        return asdict(self)


def plan_budget(config: Config, dataset: NuScenesDataset, budget_s: float) -> Plan:
    """Compute the steps that fill the budget; the stages share it as in the configuration.

    The perspective stage gets the same share of the budget as its configured steps have of the time
    of all configured steps. The steps are timed now, on this machine; the caller measures the time
    that the training really takes.

    Args:
        config: configuration of the variant.
        dataset: training samples.
        budget_s: processor time in seconds.

    Raises:
        ValueError: the budget is too small for one step of each stage.
    """
    recipe = config.training
    later_steps = recipe.num_steps - recipe.perspective_steps
    later_step_s = time_step(config, dataset, partial=False) if later_steps else 0.0
    perspective_step_s = (
        time_step(config, dataset, partial=True) if recipe.perspective_steps else 0.0
    )
    perspective_time_s = recipe.perspective_steps * perspective_step_s
    share = perspective_time_s / (perspective_time_s + later_steps * later_step_s)
    perspective_steps = int(share * budget_s / perspective_step_s) if perspective_step_s else 0
    other_steps = int((1 - share) * budget_s / later_step_s) if later_steps else 0
    if (later_steps and other_steps < 1) or (perspective_step_s and perspective_steps < 1):
        raise ValueError(
            "--minutes must pay for a step of each stage, "
            f"{perspective_step_s + later_step_s:.1f} s; got {budget_s / 60:g}"
        )
    return Plan(
        perspective_steps, perspective_steps + other_steps, perspective_step_s, later_step_s
    )


def time_step(config: Config, dataset: NuScenesDataset, *, partial: bool) -> float:
    """Measure the median processor time of a training step; samples are read in this process.

    Args:
        config: configuration of the variant.
        dataset: training samples.
        partial: time a step of the perspective stage, else a step of the whole model.
    """
    count = WARM_STEPS + TIMED_STEPS
    recipe = replace(
        config.training,
        num_steps=count + 1,
        perspective_steps=count if partial else 0,
        num_workers=0,
    )
    config = replace(config, training=recipe)
    task, processes = Detection3D(config, dataset), Processes(device=torch.device("cpu"))
    optimizer_step = OptimizerStep(task, processes)
    stream = task.make_batches(recipe, processes, start=0)
    batches = iter(stream)
    times = []
    for number in range(1, count + 1):
        started = time.process_time()
        optimizer_step.run(stream, batches, number)
        times.append(time.process_time() - started)
    return statistics.median(times[WARM_STEPS:])
