"""The training loop: read, forward, loss, backward, clip, step, log, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bevstack.config import Config
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.losses.detector_loss import DetectorCriterion
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model, save_model
from bevstack.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from bevstack.training.log import append_log, open_log
from bevstack.training.optimizer import learning_rate, make_optimizer, set_learning_rate
from bevstack.types import Batch

WEIGHTS_NAME = "model.safetensors"
LOG_NAME = "log.jsonl"


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did."""

    step: int  # 1 is the first
    num_steps: int
    loss: float
    terms: tuple[tuple[str, float], ...]  # named parts of the loss
    learning_rate: float
    gradient_norm: float  # before clipping
    data_s: float  # waiting for images
    step_s: float  # whole step

    def log_entry(self) -> dict[str, float]:
        """The report as one line of the log."""
        entry: dict[str, float] = {"step": self.step, "loss": self.loss}
        entry |= {f"loss/{name}": value for name, value in self.terms}
        entry |= {"learning_rate": self.learning_rate, "gradient_norm": self.gradient_norm}
        return entry | {"data_s": self.data_s, "step_s": self.step_s}


@dataclass(frozen=True)
class TrainingResult:
    """Where a finished run left its files."""

    weights: Path
    log: Path
    resumed_from: int  # steps already done when this run began


def train(
    config: Config,
    dataset: NuScenesDataset,
    out_dir: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    report: Callable[[StepReport], None] | None = None,
) -> TrainingResult:
    """Trains a model from its first or last saved step to ``config.training.num_steps``.

    Every random draw of a step (its samples, their augmentation, dropout) comes from
    (seed, step), so a run that was killed and resumed does the very steps of one that was not.

    Raises:
        FileExistsError: ``out_dir`` holds checkpoints and ``resume`` is off.
        FloatingPointError: a loss is not finite; names the step and its samples.
        ValueError: the checkpoint is of another configuration, or damaged.
    """
    recipe = config.training
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = build_model(config).to(device)
    optimizer = make_optimizer(model, recipe)
    criterion = DetectorCriterion(config.loss, config.perspective)
    done = _restore(out_dir, config, model, optimizer, resume)
    log = out_dir / LOG_NAME
    open_log(log, done)
    batches = iter(make_training_loader(dataset, config, start=done * recipe.batch_size))
    model.train()
    for step in range(done + 1, recipe.num_steps + 1):
        step_report = _train_step(model, criterion, optimizer, batches, config, step)
        append_log(log, step_report.log_entry())
        if report is not None:
            report(step_report)
        if step % recipe.checkpoint_every == 0 or step == recipe.num_steps:
            save_checkpoint(out_dir, model, optimizer, config, step)
    weights = out_dir / WEIGHTS_NAME
    save_model(weights, model, config, {"steps": str(recipe.num_steps)})
    return TrainingResult(weights, log, done)


def _restore(
    out_dir: Path,
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    resume: bool,
) -> int:
    """Puts back the newest checkpoint and returns how many steps are done."""
    checkpoints = list_checkpoints(out_dir)
    if not checkpoints:
        return 0
    if not resume:
        raise FileExistsError(
            f"{out_dir} must hold no checkpoints; got {checkpoints[-1].name}. "
            "Go on from it with --resume, or give another --out"
        )
    state = load_checkpoint(checkpoints[-1], config)
    model.load_state_dict(state.model)
    restore_optimizer(optimizer, state.optimizer)
    return state.steps_done


def _train_step(
    model: BEVFormerV2,
    criterion: DetectorCriterion,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Batch],
    config: Config,
    step: int,
) -> StepReport:
    recipe = config.training
    started = time.perf_counter()
    batch = next(batches).to(next(model.parameters()).device)
    data_s = time.perf_counter() - started
    torch.manual_seed((recipe.seed << 32) + step)
    rate = learning_rate(step - 1, recipe)
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    losses = criterion(model(batch), batch, model.grid)
    loss = float(losses.total.detach())
    if not torch.isfinite(losses.total):
        raise FloatingPointError(
            f"loss must be finite; got {loss} at step {step}, samples "
            f"{', '.join(batch.sample_tokens)}: lower training.learning_rate, or look at them"
        )
    losses.total.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
    optimizer.step()
    return StepReport(
        step=step,
        num_steps=recipe.num_steps,
        loss=loss,
        terms=tuple((name, float(value)) for name, value in losses.terms.items()),
        learning_rate=rate,
        gradient_norm=float(norm),
        data_s=data_s,
        step_s=time.perf_counter() - started,
    )
