"""What a step of training did, and what an evaluation during training found."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch

from bevstack.evaluation.detection3d.metrics import ERRORS, DetectionMetrics


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, over all processes."""

    step: int  # 1 is the first
    num_steps: int
    loss: float  # NaN for a step that was skipped
    terms: tuple[tuple[str, float], ...]  # named parts of the loss
    learning_rate: float
    gradient_norm: float  # before clipping
    data_s: float  # waiting for images
    step_s: float  # whole step
    num_images: int = 0  # that went through the backbone, those of other frames too
    memory_bytes: int = 0  # most that this process has held so far: of the GPU, else in all
    skipped: int = 0  # samples and steps skipped since the run began

    @property
    def images_per_s(self) -> float:
        """Images a second, waiting included."""
        return self.num_images / max(self.step_s, 1e-9)

    def log_entry(self) -> dict[str, float]:
        """The report as one line of the log."""
        entry: dict[str, float] = {"step": self.step, "loss": self.loss}
        entry |= {f"loss/{name}": value for name, value in self.terms}
        entry |= {"learning_rate": self.learning_rate, "gradient_norm": self.gradient_norm}
        entry |= {"data_s": self.data_s, "step_s": self.step_s, "images": self.num_images}
        return entry | {"memory_bytes": self.memory_bytes, "skipped": self.skipped}


@dataclass(frozen=True)
class Evaluation:
    """Our evaluator's score of the held-out scenes after a step."""

    step: int
    elapsed_s: float  # spent in steps since the run began
    metrics: DetectionMetrics
    is_best: bool  # of all evaluations so far, by NDS

    def log_entry(self) -> dict[str, float]:
        """The evaluation as one line of its log."""
        metrics = self.metrics
        entry = {"step": self.step, "elapsed_s": self.elapsed_s, "nds": metrics.nds}
        entry["map"] = metrics.mean_average_precision
        names = [printed.lower() for _, printed in ERRORS]
        entry |= {f"m{n}": v for n, v in zip(names, metrics.errors.values, strict=True)}
        return entry | {f"ap/{c.name}": c.average_precision for c in metrics.classes}


@dataclass(frozen=True)
class Skipped:
    """One thing that was left out, and why."""

    step: int
    sample_tokens: tuple[str, ...]
    reason: str


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held so far: of the GPU by torch, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere
