"""The training loop: read, forward, loss, backward, clip, step, log, save, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bevstack.config import Config
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.models.build import load_model
from bevstack.training.checkpoint import (
    RunPosition,
    list_checkpoints,
    load_checkpoint,
    remove_unfinished,
    restore,
    save_checkpoint,
)
from bevstack.training.events import StepReport
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.processes import Processes
from bevstack.training.run import Listeners, Run, TrainingResult


def train(
    config: Config,
    dataset: NuScenesDataset,
    out_dir: Path,
    *,
    held_out: NuScenesDataset | None = None,
    resume: bool = False,
    start: Path | None = None,
    device: str = "cpu",
    processes: Processes | None = None,
    report: Callable[[StepReport], None] | None = None,
    listeners: Listeners | None = None,
) -> TrainingResult:
    """Train a model up to ``config.training.num_steps``, from the start or the newest checkpoint.

    Every random draw of a step (samples, augmentation, dropout) comes from (seed, step), so a run
    that was killed and resumed repeats the steps of an uninterrupted one. On a CPU they are equal
    bit for bit if the number of threads is the same, as it affects the rounding of sums. Samples
    and their augmentation do not depend on the number of processes and workers either.

    Args:
        config: the model and its recipe.
        dataset: the training samples.
        out_dir: folder of checkpoints, logs and weights; all processes must have access to it.
        held_out: samples to evaluate on, every ``evaluate_every`` steps and at the end.
        resume: continue from the newest checkpoint in ``out_dir``, if there is one.
        start: initial weights of this model, such as ``convert-weights`` or another training
            writes; a resumed run does not read them. None: drawn from the seed.
        device: device of a single process.
        processes: the processes that train together, each with its device; None: a single one.
        report: called after every step in the first process; short for ``listeners.step``.
        listeners: called in the first process for steps, evaluations and skipped samples.

    Returns:
        The paths of the files that the run wrote.

    Raises:
        FileExistsError: ``out_dir`` holds checkpoints and ``resume`` is False.
        FileNotFoundError: an image is missing (names the sample), or ``start`` does not exist.
        FloatingPointError: a loss or gradient is not finite; names the step and its samples.
        ValueError: an image is damaged; a checkpoint or ``start`` is damaged or of another model;
            more is skipped than ``max_skipped``; ``evaluate_every`` is set without ``held_out``.
    """
    recipe = config.training
    processes = processes or Processes(device=torch.device(device))
    if recipe.evaluate_every and held_out is None:
        raise ValueError(
            "held_out must be given with training.evaluate_every > 0; got none: name the held-out "
            "scenes, or set it to 0"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = None
    if start is not None and not (resume and list_checkpoints(out_dir)):
        weights = load_model(start, expected=config)[0].state_dict()
    optimizer_step = OptimizerStep(config, processes, start=weights)
    start_position = position = _resume(out_dir, config, optimizer_step, resume)
    listeners = listeners or Listeners(step=report)
    run = Run(
        config,
        optimizer_step,
        out_dir=out_dir,
        held_out=held_out,
        listeners=listeners,
        start_position=start_position,
    )
    run.evaluate_if_due(position)  # the resumed run may have been killed before its evaluation
    stream = make_training_loader(
        dataset,
        config,
        start=position.samples_seen,
        rank=processes.rank,
        world_size=processes.world_size,
        pin_memory=processes.device.type == "cuda",
    )
    batches = iter(stream)
    for step in range(start_position.steps_done + 1, recipe.num_steps + 1):
        outcome = optimizer_step.run(stream, batches, step)
        position = run.after_step(step, outcome, position, epoch_length=stream.epoch_length)
        if step % recipe.checkpoint_every == 0 or step == recipe.num_steps:
            save_checkpoint(out_dir, optimizer_step, config, position)
        run.evaluate_if_due(position)
    return run.finish()


def _resume(
    out_dir: Path, config: Config, optimizer_step: OptimizerStep, resume: bool
) -> RunPosition:
    """Load the newest checkpoint, if there is one, and return its position."""
    checkpoints = list_checkpoints(out_dir)
    if not checkpoints:
        return RunPosition()
    if not resume:
        raise FileExistsError(
            f"{out_dir} must hold no checkpoints; got {checkpoints[-1].name}: "
            "continue from it with --resume, or give another --out"
        )
    if optimizer_step.processes.is_first:
        remove_unfinished(out_dir)
    state = load_checkpoint(checkpoints[-1], config)
    restore(optimizer_step, state)
    return state.position
