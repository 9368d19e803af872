"""The training loop: read, forward, loss, backward, clip, step, log, save, evaluate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from bevstack.files import remove_leftovers
from bevstack.tasks.task import Task
from bevstack.training.checkpoint import (
    RunPosition,
    list_checkpoints,
    load_newest,
    restore,
    save_checkpoint,
)
from bevstack.training.events import StepReport
from bevstack.training.optimizer_step import OptimizerStep
from bevstack.training.processes import Processes
from bevstack.training.run import Listeners, Run, TrainingResult

_LOG = logging.getLogger(__name__)


def train(
    task: Task,
    out_dir: Path | str,
    *,
    resume: bool = False,
    start: Path | str | None = None,
    verify: bool = True,
    device: str = "cpu",
    processes: Processes | None = None,
    report: Callable[[StepReport], None] | None = None,
    listeners: Listeners | None = None,
) -> TrainingResult:
    """Train a model up to ``task.recipe.num_steps``, from the start or the newest checkpoint.

    Every random draw of a step (samples, augmentation, dropout) comes from (seed, step), so a run
    that was killed and resumed repeats the steps of an uninterrupted one. On a CPU they are equal
    bit for bit if the number of threads is the same, as it affects the rounding of sums. Samples
    and their augmentation do not depend on the number of processes and workers either.

    Args:
        task: the model, its recipe, its training samples, and held-out samples to evaluate on every
            ``evaluate_every`` steps and at the end.
        out_dir: folder of checkpoints, logs and weights; all processes must have access to it.
        resume: continue from the newest checkpoint in ``out_dir``, if there is one; if it is
            damaged, from the newest whole one, with a note.
        start: initial weights of this model, such as ``convert-weights`` or another training
            writes; a resumed run does not read them. None: drawn from the seed.
        verify: False skips the checksums of ``start`` and of checkpoints, but no other check.
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
    recipe = task.recipe
    processes = processes or Processes(device=torch.device(device))
    if recipe.evaluate_every and not task.has_held_out:
        raise ValueError(
            "held_out must be given with training.evaluate_every > 0; got none: name the held-out "
            "scenes, or set it to 0"
        )
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    weights = None
    if start is not None and not (resume and list_checkpoints(out_dir)):
        weights = task.read_weights(Path(start), verify=verify)
    optimizer_step = OptimizerStep(task, processes, start=weights)
    start_position = position = _resume(out_dir, task, optimizer_step, resume, verify)
    listeners = listeners or Listeners(step=report)
    run = Run(
        task,
        optimizer_step,
        out_dir=out_dir,
        listeners=listeners,
        start_position=start_position,
    )
    run.evaluate_if_due(position)  # the resumed run may have been killed before its evaluation
    stream = task.make_batches(recipe, processes, start=position.samples_seen)
    batches = iter(stream)
    for step in range(start_position.steps_done + 1, recipe.num_steps + 1):
        outcome = optimizer_step.run(stream, batches, step)
        position = run.after_step(step, outcome, position, epoch_length=stream.epoch_length)
        if step % recipe.checkpoint_every == 0 or step == recipe.num_steps:
            save_checkpoint(out_dir, optimizer_step, task, position)
        run.evaluate_if_due(position)
    return run.finish()


def _resume(
    out_dir: Path, task: Task, optimizer_step: OptimizerStep, resume: bool, verify: bool
) -> RunPosition:
    """Load the newest whole checkpoint, if there is one, and return its position."""
    checkpoints = list_checkpoints(out_dir)
    if not checkpoints:
        return RunPosition()
    if not resume:
        raise FileExistsError(
            f"{out_dir} must hold no checkpoints; got {checkpoints[-1].name}: "
            "continue from it with --resume, or give another --out"
        )
    if optimizer_step.processes.is_first:
        remove_leftovers(out_dir)
    state = load_newest(out_dir, task, verify=verify)
    restore(optimizer_step, state)
    _LOG.info("continue %s after step %d", out_dir, state.position.steps_done)
    return state.position
