"""What a run writes beside its checkpoints: logs of steps, of evaluations, of what was skipped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.config import TrainingConfig
from bevstack.training.events import Evaluation, Skipped, StepReport
from bevstack.training.jsonl import append_log, open_log, read_log

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_NAME = "log.jsonl"
EVALUATIONS_NAME = "evaluations.jsonl"
SKIPPED_NAME = "skipped.jsonl"
BOARD_NAME = "tensorboard"


class Diary:
    """The log files of a run, going on after its last checkpoint; of the first process alone.

    Args:
        folder: of the run.
        recipe: whether TensorBoard reads along.
        steps_done: later lines are of steps that will be done again, and are dropped.
    """

    def __init__(self, folder: Path, recipe: TrainingConfig, *, steps_done: int) -> None:
        self.log = folder / LOG_NAME
        self.evaluations = folder / EVALUATIONS_NAME
        self.skipped = folder / SKIPPED_NAME
        self._board = _open_board(folder / BOARD_NAME, steps_done) if recipe.tensorboard else None
        for path in (self.log, self.evaluations, self.skipped):
            open_log(path, steps_done)

    def add_step(self, report: StepReport) -> None:
        """Adds a step."""
        entry = report.log_entry()
        append_log(self.log, entry)
        self._show(entry, "train")

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Adds an evaluation."""
        entry = evaluation.log_entry()
        append_log(self.evaluations, entry)
        self._show(entry, "held_out")

    def add_skipped(self, skipped: Skipped) -> None:
        """Adds what was left out."""
        entry = {"step": skipped.step, "samples": list(skipped.sample_tokens)}
        append_log(self.skipped, {**entry, "reason": skipped.reason})

    def close(self) -> None:
        """Lets go of TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def _show(self, entry: dict[str, float], group: str) -> None:
        if self._board is None:
            return
        for name, value in entry.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(f"{group}/{name}", value, int(entry["step"]))


def last_evaluated(path: Path) -> int:
    """The step of the last evaluation in a log; 0 without one."""
    return max((int(entry["step"]) for entry in read_log(path)), default=0)


def best_nds(path: Path) -> float:
    """The highest NDS in a log of evaluations; below all without one."""
    return max((entry["nds"] for entry in read_log(path)), default=-math.inf)


def _open_board(folder: Path, steps_done: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError(
            "training.tensorboard must be False where TensorBoard is not installed; got True: "
            "pip install 'bevstack[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=steps_done + 1)
