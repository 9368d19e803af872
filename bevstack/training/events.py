"""Records of a training run: steps, evaluations and skipped samples."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch

from bevstack.tasks.task import Score


@dataclass(frozen=True)
class StepReport:
    """Result of one optimiser step, over all processes."""

    step: int  # 1 is the first
    num_steps: int
    loss: float  # NaN for a step that was skipped
    terms: tuple[tuple[str, float], ...]  # names and values of the loss terms
    learning_rate: float
    gradient_norm: float  # before clipping
    data_s: float  # time spent waiting for images
    step_s: float  # time of the whole step
    num_images: int = 0  # images that went through the backbone, of all frames of the clips
    memory_bytes: int = 0  # peak memory of this process so far: of the GPU, else of the CPU
    skipped: int = 0  # samples and steps skipped since the run started

    @property
    def images_per_s(self) -> float:
        """Return images per second; waiting for images counts as time."""
        return self.num_images / max(self.step_s, 1e-9)

    def log_entry(self) -> dict[str, float]:
        """Return the report as one line of the log."""
        entry: dict[str, float] = {"step": self.step, "loss": self.loss}
        entry |= {f"loss/{name}": value for name, value in self.terms}
        entry |= {"learning_rate": self.learning_rate, "gradient_norm": self.gradient_norm}
        entry |= {"data_s": self.data_s, "step_s": self.step_s, "images": self.num_images}
        return entry | {"memory_bytes": self.memory_bytes, "skipped": self.skipped}


@dataclass(frozen=True)
class Evaluation:
    """Evaluation on the held-out samples after a step."""

    step: int
    elapsed_s: float  # time in steps since the run started
    score: Score
    is_best: bool  # True for the highest headline figure so far

    def log_entry(self) -> dict[str, float]:
        """Return the evaluation as one line of its log."""
        return {"step": self.step, "elapsed_s": self.elapsed_s, **self.score.figures}


@dataclass(frozen=True)
class Skipped:
    """Samples that were skipped together, and the reason."""

    step: int
    sample_tokens: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ConstantOutputs:
    """Outputs of the model that did not vary over a window of steps."""

    step: int  # the last of the window
    names: tuple[str, ...]
    num_steps: int  # of the window

    @property
    def message(self) -> str:
        """Return a sentence for the log."""
        return (
            f"outputs of the model must vary with the images; got the same value at every trained "
            f"row for {self.num_steps} steps from {', '.join(self.names)}: their branch may be "
            "dead; lower training.learning_rate, or check its activation and labels"
        )


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of torch on the GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
