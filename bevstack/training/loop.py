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
from bevstack.training.optimizer_step import Learner
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
    """Trains a model from its first or last saved step to ``config.training.num_steps``.

    Every random draw of a step (its samples, their augmentation, dropout) comes from
    (seed, step), so a run that was killed and resumed does the very steps of one that was not, on a
    CPU bit for bit if it has as many threads: sums over another number of them round otherwise.
    Samples and their augmentation do not depend on the number of processes and workers either.

    Args:
        config: the model and its recipe.
        dataset: the training samples.
        out_dir: for checkpoints, logs and weights; all processes must see it.
        held_out: samples to evaluate on, every ``evaluate_every`` steps and at the end.
        resume: go on from the newest checkpoint in ``out_dir``, where there is one.
        start: weights of this model to begin with, such as ``convert-weights`` or another training
            wrote; a run that goes on does not read them again. None: drawn from the seed.
        device: what a process alone computes on.
        processes: those that train together, each with its device; none: this one alone.
        report: is told every step; short for ``listeners.step``.
        listeners: are told steps, evaluations and what is skipped, in the first process.

    Raises:
        FileExistsError: ``out_dir`` holds checkpoints and ``resume`` is off.
        FileNotFoundError: an image is missing (names the sample), or there is no ``start``.
        FloatingPointError: a loss or gradient is not finite; names the step and its samples.
        ValueError: a damaged image; checkpoint or ``start`` of another model, or damaged; more
            was skipped than may be; evaluations are asked for and there is nothing to evaluate on.
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
    learner = Learner(config, processes, start=weights)
    begun = position = _resume(out_dir, config, learner, resume)
    listeners = listeners or Listeners(step=report)
    run = Run(config, learner, out_dir=out_dir, held_out=held_out, listeners=listeners, begun=begun)
    run.evaluate_if_due(position)  # a run killed before it did
    stream = make_training_loader(
        dataset,
        config,
        start=position.samples_seen,
        rank=processes.rank,
        world_size=processes.world_size,
        pin_memory=processes.device.type == "cuda",
    )
    batches = iter(stream)
    for step in range(begun.steps_done + 1, recipe.num_steps + 1):
        outcome = learner.step(stream, batches, step)
        position = run.after_step(step, outcome, position, epoch_length=stream.epoch_length)
        if step % recipe.checkpoint_every == 0 or step == recipe.num_steps:
            save_checkpoint(out_dir, learner, config, position)
        run.evaluate_if_due(position)
    return run.finish()


def _resume(out_dir: Path, config: Config, learner: Learner, resume: bool) -> RunPosition:
    """Puts back the newest checkpoint, and says how far it is."""
    checkpoints = list_checkpoints(out_dir)
    if not checkpoints:
        return RunPosition()
    if not resume:
        raise FileExistsError(
            f"{out_dir} must hold no checkpoints; got {checkpoints[-1].name}. "
            "Go on from it with --resume, or give another --out"
        )
    if learner.processes.is_first:
        remove_unfinished(out_dir)
    state = load_checkpoint(checkpoints[-1], config)
    restore(learner, state)
    return state.position
