"""What happens around the steps of a run: its log, its evaluations, what it does about trouble."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.training.checkpoint import RunPosition
from bevstack.training.events import Evaluation, Skipped, StepReport, peak_memory_bytes
from bevstack.training.optimizer_step import Learner, StepOutcome
from bevstack.training.run_logs import (
    EVALUATIONS_NAME,
    LOG_NAME,
    SKIPPED_NAME,
    Diary,
    best_nds,
    last_evaluated,
)
from bevstack.training.validation import validate, write_weights

WEIGHTS_NAME = "model.safetensors"
BEST_NAME = "best.safetensors"


@dataclass(frozen=True)
class Listeners:
    """Whom the first process tells what happens."""

    step: Callable[[StepReport], None] | None = None
    evaluation: Callable[[Evaluation], None] | None = None
    skipped: Callable[[Skipped], None] | None = None


@dataclass(frozen=True)
class TrainingResult:
    """Where a finished run left its files."""

    weights: Path
    log: Path
    resumed_from: int  # steps already done when this run began
    evaluations: Path  # a line an evaluation on held-out scenes
    best: Path | None  # weights of the highest NDS; none without held-out scenes


class Run:
    """A run from where it begins; every method is to be called by every process.

    Args:
        config: the model and its recipe.
        learner: what is trained.
        out_dir: where files go.
        held_out: samples to evaluate on.
        listeners: whom to tell.
        begun: how far the run had come.
    """

    def __init__(
        self,
        config: Config,
        learner: Learner,
        *,
        out_dir: Path,
        held_out: NuScenesDataset | None,
        listeners: Listeners,
        begun: RunPosition,
    ) -> None:
        self.config = config
        self.recipe = config.training
        self.learner = learner
        self.processes = learner.processes
        self.out_dir = out_dir
        self.held_out = held_out
        self.begun = begun
        self.diary: Diary | None = None
        self.listeners = Listeners()
        if self.processes.is_first:
            self.diary = Diary(out_dir, self.recipe, steps_done=begun.steps_done)
            self.listeners = listeners

    def after_step(
        self, step: int, outcome: StepOutcome, position: RunPosition, *, epoch_length: int
    ) -> RunPosition:
        """Logs a step and what it left out; says how far the run has come.

        Raises:
            FloatingPointError: loss or gradient was not finite, and that stops the run.
            ValueError: more was skipped than may be.
        """
        self._tell_of_bad_samples(step, outcome)
        if not outcome.updated:
            self._tell_of_bad_step(step, outcome)
        seen = position.samples_seen + self.recipe.batch_size
        position = replace(
            position,
            steps_done=step,
            samples_seen=seen,
            epoch=seen // epoch_length,
            skipped=position.skipped + outcome.num_skipped + (not outcome.updated),
            elapsed_s=position.elapsed_s + outcome.step_s,
        )
        if self.diary is not None:
            report = self._report(step, outcome, position)
            self.diary.add_step(report)
            if self.listeners.step is not None:
                self.listeners.step(report)
        if position.skipped > self.recipe.max_skipped:
            raise ValueError(
                f"skipped samples and steps must be at most training.max_skipped = "
                f"{self.recipe.max_skipped}; got {position.skipped} at step {step}: "
                f"{self.out_dir / SKIPPED_NAME} names them"
            )
        return position

    def evaluate_if_due(self, position: RunPosition) -> None:
        """Scores the held-out samples, if it is time and not yet done; keeps the best weights."""
        if self.held_out is None or not self._is_due(position.steps_done):
            return
        weights = self.learner.weights()
        metrics = validate(weights, self.config, self.held_out, self.out_dir, self.processes)
        if self.diary is None:
            return
        is_best = metrics.nds > best_nds(self.diary.evaluations)
        step = position.steps_done
        evaluation = Evaluation(step, position.elapsed_s, metrics, is_best)
        if is_best:
            self._write_weights(BEST_NAME, weights, step, {"nds": f"{metrics.nds:.6f}"})
        self.diary.add_evaluation(evaluation)
        if self.listeners.evaluation is not None:
            self.listeners.evaluation(evaluation)

    def finish(self) -> TrainingResult:
        """Writes the weights."""
        weights = self.learner.weights()
        if self.diary is not None:
            self._write_weights(WEIGHTS_NAME, weights, self.recipe.num_steps, {})
            self.diary.close()
        self.processes.barrier()
        best = self.out_dir / BEST_NAME
        return TrainingResult(
            weights=self.out_dir / WEIGHTS_NAME,
            log=self.out_dir / LOG_NAME,
            resumed_from=self.begun.steps_done,
            evaluations=self.out_dir / EVALUATIONS_NAME,
            best=None if self.held_out is None else best,
        )

    def _is_due(self, step: int) -> bool:
        """Whether the state after a step is to be evaluated and has not been."""
        if step == 0:
            return False
        every = self.recipe.evaluate_every
        due = step == self.recipe.num_steps or (every > 0 and step % every == 0)
        missing = self.diary is None or last_evaluated(self.diary.evaluations) < step
        return due and self.processes.agree(torch.tensor(missing, device=self.processes.device))

    def _write_weights(
        self, name: str, weights: Mapping[str, Tensor], step: int, more: Mapping[str, str]
    ) -> None:
        write_weights(self.out_dir / name, weights, self.config, steps=step, metadata=more)

    def _report(self, step: int, outcome: StepOutcome, position: RunPosition) -> StepReport:
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

    def _tell_of_bad_samples(self, step: int, outcome: StepOutcome) -> None:
        """Names the samples whose place others took, of all processes."""
        if not outcome.num_skipped:
            return
        for text in self.processes.gather_texts(json.dumps(outcome.skipped_samples)):
            for token, reason in json.loads(text):
                self._tell(Skipped(step, (token,), reason))

    def _tell_of_bad_step(self, step: int, outcome: StepOutcome) -> None:
        """Names the samples of a step that was not taken, of all processes; or stops the run."""
        what = f"loss must be finite; got {outcome.loss}"
        named = outcome.bad_samples
        if math.isfinite(outcome.loss):
            what = f"gradient must be finite; got a norm of {outcome.gradient_norm}"
            named = outcome.sample_tokens
        texts = self.processes.gather_texts(json.dumps(named))
        tokens = tuple(token for text in texts for token in json.loads(text))
        if self.recipe.on_bad_step == "stop":
            raise FloatingPointError(
                f"{what} at step {step}, samples {', '.join(tokens)}: lower "
                "training.learning_rate, look at them, or let training.on_bad_step skip such steps"
            )
        self._tell(Skipped(step, tokens, what))

    def _tell(self, skipped: Skipped) -> None:
        if self.diary is not None:
            self.diary.add_skipped(skipped)
        if self.listeners.skipped is not None:
            self.listeners.skipped(skipped)
