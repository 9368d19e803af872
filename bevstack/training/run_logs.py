"""Logs of a run: steps, evaluations, skipped samples and warnings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.config import TrainingConfig
from bevstack.json_files import expect_field
from bevstack.training.events import ConstantOutputs, Evaluation, Skipped, StepReport
from bevstack.training.jsonl import append_jsonl, open_jsonl, read_jsonl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_NAME = "log.jsonl"
EVALUATIONS_NAME = "evaluations.jsonl"
SKIPPED_NAME = "skipped.jsonl"
WARNINGS_NAME = "warnings.jsonl"
BOARD_NAME = "tensorboard"


class RunLogs:
    """Log files of a run, continued after its last checkpoint; only the first process has them.

    Args:
        folder: folder of the run.
        recipe: its ``tensorboard`` turns TensorBoard on.
        steps_done: lines of later steps are dropped, as these steps will be repeated.

    Raises:
        ImportError: TensorBoard is on and not installed.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, recipe: TrainingConfig, *, steps_done: int) -> None:
        self.log = folder / LOG_NAME
        self.evaluations = folder / EVALUATIONS_NAME
        self.skipped = folder / SKIPPED_NAME
        self.warnings = folder / WARNINGS_NAME
        self._board = _open_board(folder / BOARD_NAME, steps_done) if recipe.tensorboard else None
        for path in (self.log, self.evaluations, self.skipped, self.warnings):
            open_jsonl(path, steps_done)

    def add_step(self, report: StepReport) -> None:
        """Add a step."""
        entry = report.log_entry()
        append_jsonl(self.log, entry)
        self._show(entry, "train")

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Add an evaluation."""
        entry = evaluation.log_entry()
        append_jsonl(self.evaluations, entry)
        self._show(entry, "held_out")

    def add_skipped(self, skipped: Skipped) -> None:
        """Add skipped samples."""
        entry = {"step": skipped.step, "samples": list(skipped.sample_tokens)}
        append_jsonl(self.skipped, {**entry, "reason": skipped.reason})

    def add_constant(self, constant: ConstantOutputs) -> None:
        """Add a warning of outputs that do not vary."""
        entry = {"step": constant.step, "constant_outputs": list(constant.names)}
        append_jsonl(self.warnings, {**entry, "message": constant.message})

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def _show(self, entry: dict[str, float], group: str) -> None:
        if self._board is None:
            return
        for name, value in entry.items():
            if name != "step" and math.isfinite(value):
                self._board.add_scalar(f"{group}/{name}", value, int(entry["step"]))


def last_evaluated(path: Path) -> int:
    """Return the step of the last evaluation in a log; 0 without evaluations."""
    return max((int(entry["step"]) for entry in read_jsonl(path)), default=0)


def best_figure(path: Path, name: str) -> float:
    """Return the highest value of a figure in a log of evaluations; -inf without evaluations."""
    return max(
        (expect_field(f"log {path}", entry, name) for entry in read_jsonl(path)), default=-math.inf
    )


def _open_board(folder: Path, steps_done: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError(
            "training.tensorboard must be False if TensorBoard is not installed; got True: "
            "pip install 'bevstack[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=steps_done + 1)
