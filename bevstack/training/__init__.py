"""Training: one straight-line loop, its optimiser, its checkpoints and its log."""

from bevstack.training.loop import StepReport, TrainingResult, train

__all__ = ["StepReport", "TrainingResult", "train"]
