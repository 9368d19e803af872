"""What a budget of processor time buys: steps of each stage, by timing some of them."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace

import torch

from bevstack.config import Config
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.training.optimizer_step import Learner
from bevstack.training.processes import Processes

WARM_STEPS, TIMED_STEPS = 3, 7


@dataclass(frozen=True)
class Plan:
    """How a variant is trained: steps that fill the budget, and what one took when timed."""

    perspective_steps: int
    num_steps: int
    perspective_step_s: float  # of processor time; 0 where there is no such stage
    step_s: float

    def to_json(self) -> dict[str, float]:
        """The fields as they are."""
        return asdict(self)


def plan_budget(config: Config, dataset: NuScenesDataset, budget_s: float) -> Plan:
    """Steps that take so much processor time, shared by the stages as the configuration does.

    The perspective stage gets the part of the budget that it has of the configured steps' time.
    Steps are timed here, on the spot, with the machine as it is: what a run took in the end is
    for its caller to measure.

    Raises:
        ValueError: the budget does not pay for one step of each stage.
    """
    recipe = config.training
    later = recipe.num_steps - recipe.perspective_steps
    whole_s = time_step(config, dataset, partial=False) if later else 0.0
    first_s = time_step(config, dataset, partial=True) if recipe.perspective_steps else 0.0
    first_time = recipe.perspective_steps * first_s
    share = first_time / (first_time + later * whole_s)
    first = int(share * budget_s / first_s) if first_s else 0
    rest = int((1 - share) * budget_s / whole_s) if later else 0
    if (later and rest < 1) or (first_s and first < 1):
        raise ValueError(
            f"--minutes must pay for a step of each stage, {first_s + whole_s:.1f} s; "
            f"got {budget_s / 60:g}"
        )
    return Plan(first, first + rest, first_s, whole_s)


def time_step(config: Config, dataset: NuScenesDataset, *, partial: bool) -> float:
    """Median processor time of a training step, its samples read in this process."""
    count = WARM_STEPS + TIMED_STEPS
    recipe = replace(
        config.training,
        num_steps=count + 1,
        perspective_steps=count if partial else 0,
        num_workers=0,
    )
    config = replace(config, training=recipe)
    learner = Learner(config, Processes(device=torch.device("cpu")))
    stream = make_training_loader(dataset, config)
    batches = iter(stream)
    times = []
    for number in range(1, count + 1):
        started = time.process_time()
        learner.step(stream, batches, number)
        times.append(time.process_time() - started)
    return statistics.median(times[WARM_STEPS:])
