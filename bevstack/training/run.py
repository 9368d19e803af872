"""Everything in a run apart from its steps: logs, evaluations, skipped samples, bad steps."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bevstack.tasks.task import Task
from bevstack.training.checkpoint import RunPosition
from bevstack.training.events import (
    ConstantOutputs,
    Evaluation,
    Skipped,
    StepReport,
    peak_memory_bytes,
)
from bevstack.training.optimizer_step import OptimizerStep, StepOutcome
from bevstack.training.output_watch import OutputWatch
from bevstack.training.run_logs import (
    EVALUATIONS_NAME,
    LOG_NAME,
    SKIPPED_NAME,
    RunLogs,
    best_figure,
    last_evaluated,
)

_LOG = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"
BEST_NAME = "best.safetensors"


@dataclass(frozen=True)
class Listeners:
    """Callbacks of the first process for steps, evaluations, skipped samples and warnings."""

    step: Callable[[StepReport], None] | None = None
    evaluation: Callable[[Evaluation], None] | None = None
    skipped: Callable[[Skipped], None] | None = None
    constant: Callable[[ConstantOutputs], None] | None = None  # outputs that do not vary


@dataclass(frozen=True)
class TrainingResult:
    """Files of a finished run."""

    weights: Path
    log: Path
    resumed_from: int  # number of steps that were done when this run started
    evaluations: Path  # one line per evaluation on held-out scenes
    best: Path | None  # weights of the highest headline figure; None without held-out samples


class Run:
    """Training run from its start or a checkpoint; every process must call every method.

    Args:
        task: the task, with its recipe and its held-out samples.
        optimizer_step: the model and its optimiser.
        out_dir: folder of the run's files.
        listeners: callbacks of the first process.
        start_position: position at which this run starts.
    """

    def __init__(
        self,
        task: Task,
        optimizer_step: OptimizerStep,
        *,
        out_dir: Path,
        listeners: Listeners,
        start_position: RunPosition,
    ) -> None:
        self.task = task
        self.recipe = task.recipe
        self.optimizer_step = optimizer_step
        self.processes = optimizer_step.processes
        self.out_dir = out_dir
        self.start_position = start_position
        self.logs: RunLogs | None = None
        self.listeners = Listeners()
        self._watch = OutputWatch(self.processes)
        if self.processes.is_first:
            self.logs = RunLogs(out_dir, self.recipe, steps_done=start_position.steps_done)
            self.listeners = listeners

    def after_step(
        self, step: int, outcome: StepOutcome, position: RunPosition, *, epoch_length: int
    ) -> RunPosition:
        """Log a step and its skipped samples; return the new position of the run.

        Raises:
            FloatingPointError: loss or gradient is not finite and ``on_bad_step`` is "stop".
            ValueError: more samples and steps were skipped than ``max_skipped``.
        """
        self._report_skipped_samples(step, outcome)
        if not outcome.updated:
            self._handle_bad_step(step, outcome)
        constant = self._watch.after_step(step, outcome.spreads)
        if constant is not None:
            self._report_constant(constant)
        samples_seen = position.samples_seen + self.recipe.batch_size
        position = replace(
            position,
            steps_done=step,
            samples_seen=samples_seen,
            epoch=samples_seen // epoch_length,
            skipped=position.skipped + outcome.num_skipped + (not outcome.updated),
            elapsed_s=position.elapsed_s + outcome.step_s,
        )
        if self.logs is not None:
            report = self._step_report(step, outcome, position)
            self.logs.add_step(report)
            if self.listeners.step is not None:
                self.listeners.step(report)
        if position.skipped > self.recipe.max_skipped:
            raise ValueError(
                f"skipped samples and steps must be at most training.max_skipped = "
                f"{self.recipe.max_skipped}; got {position.skipped} at step {step}: "
                f"see {self.out_dir / SKIPPED_NAME}"
            )
        return position

    def evaluate_if_due(self, position: RunPosition) -> None:
        """Evaluate on the held-out samples if it is due and not yet done; keep the best weights."""
        if not self.task.has_held_out or not self._is_due(position.steps_done):
            return
        weights = self.optimizer_step.weights()
        score = self.task.evaluate(weights, self.out_dir, self.processes)
        if self.logs is None:
            return
        name = self.task.headline
        headline = score.figures[name]
        is_best = headline > best_figure(self.logs.evaluations, name)
        step = position.steps_done
        evaluation = Evaluation(step, position.elapsed_s, score, is_best)
        if is_best:
            self._write_weights(BEST_NAME, weights, step, {name: f"{headline:.6f}"})
        self.logs.add_evaluation(evaluation)
        if self.listeners.evaluation is not None:
            self.listeners.evaluation(evaluation)

    def finish(self) -> TrainingResult:
        """Write the final weights and close the logs."""
        weights = self.optimizer_step.weights()
        if self.logs is not None:
            self._write_weights(WEIGHTS_NAME, weights, self.recipe.num_steps, {})
            self.logs.close()
        self.processes.barrier()
        best = self.out_dir / BEST_NAME
        return TrainingResult(
            weights=self.out_dir / WEIGHTS_NAME,
            log=self.out_dir / LOG_NAME,
            resumed_from=self.start_position.steps_done,
            evaluations=self.out_dir / EVALUATIONS_NAME,
            best=best if self.task.has_held_out else None,
        )

    def _is_due(self, step: int) -> bool:
        """Return True if the state after a step must be evaluated and has not been."""
        if step == 0:
            return False
        every = self.recipe.evaluate_every
        due = step == self.recipe.num_steps or (every > 0 and step % every == 0)
        missing = self.logs is None or last_evaluated(self.logs.evaluations) < step
        return due and self.processes.all_true(torch.tensor(missing, device=self.processes.device))

    def _write_weights(
        self, name: str, weights: Mapping[str, Tensor], step: int, more: Mapping[str, str]
    ) -> None:
        averaged = {"steps": str(step), "ema_decay": str(self.recipe.ema_decay)}
        self.task.write_model(self.out_dir / name, weights, {**averaged, **more})

    def _step_report(self, step: int, outcome: StepOutcome, position: RunPosition) -> StepReport:
        return StepReport(
            step=step,
            num_steps=self.recipe.num_steps,
            loss=outcome.loss,
            terms=outcome.terms,
            learning_rate=outcome.learning_rate,
            gradient_norm=outcome.gradient_norm,
            data_s=outcome.data_s,
            step_s=outcome.step_s,
            num_images=outcome.num_images,
            memory_bytes=peak_memory_bytes(self.processes.device),
            skipped=position.skipped,
        )

    def _report_skipped_samples(self, step: int, outcome: StepOutcome) -> None:
        """Report the samples of all processes that were replaced by other ones."""
        if not outcome.num_skipped:
            return
        for text in self.processes.gather_texts(json.dumps(outcome.skipped_samples)):
            for token, reason in json.loads(text):
                self._report_skipped(Skipped(step, (token,), reason))

    def _handle_bad_step(self, step: int, outcome: StepOutcome) -> None:
        """Stop the run, or report the samples of all processes in a step without an update."""
        reason = f"loss must be finite; got {outcome.loss}"
        suspects = outcome.bad_samples
        if math.isfinite(outcome.loss):
            reason = f"gradient must be finite; got a norm of {outcome.gradient_norm}"
            suspects = outcome.sample_tokens
        texts = self.processes.gather_texts(json.dumps(suspects))
        tokens = tuple(token for text in texts for token in json.loads(text))
        if self.recipe.on_bad_step == "stop":
            raise FloatingPointError(
                f"{reason} at step {step}, samples {', '.join(tokens)}: lower "
                "training.learning_rate, check these samples, or set training.on_bad_step='skip'"
            )
        self._report_skipped(Skipped(step, tokens, reason))

    def _report_constant(self, constant: ConstantOutputs) -> None:
        if self.logs is not None:
            _LOG.warning("step %d: %s", constant.step, constant.message)
            self.logs.add_constant(constant)
        if self.listeners.constant is not None:
            self.listeners.constant(constant)

    def _report_skipped(self, skipped: Skipped) -> None:
        if self.logs is not None:
            self.logs.add_skipped(skipped)
        if self.listeners.skipped is not None:
            self.listeners.skipped(skipped)
