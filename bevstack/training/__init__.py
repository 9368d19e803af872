"""Training: the loop, its optimiser, its checkpoints and its logs."""

from bevstack.training.events import ConstantOutputs, Evaluation, Skipped, StepReport
from bevstack.training.loop import train
from bevstack.training.run import Listeners, TrainingResult

__all__ = [
    "ConstantOutputs",
    "Evaluation",
    "Listeners",
    "Skipped",
    "StepReport",
    "TrainingResult",
    "train",
]
