"""Configuration of augmentation, optimisation and the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check

SCHEDULES = ("step", "cosine")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Training-time augmentation (v2 specification, section 3); defaults: none."""

    resize: tuple[float, float] = (1.0, 1.0)  # factor on images.size, drawn uniformly
    resize_steps: int = 0  # > 1: that many evenly spaced factors instead of a continuum
    flip_images: bool = False  # mirror every image with probability 1/2, intrinsics with them
    photometric: bool = False  # brightness, contrast, saturation, hue, channels; each image its own
    grid_mask: float = 0.0  # probability of GridMask on the current frame; 0.7 as published
    rotate_deg: float = 0.0  # BDA: rotation about z, uniform in +- this
    scale: tuple[float, float] = (1.0, 1.0)  # BDA: uniform factor on space
    flip_x: bool = False  # BDA: x -> -x with probability 1/2
    flip_y: bool = False  # BDA: y -> -y with probability 1/2

    def __post_init__(self) -> None:
        for name in ("resize", "scale"):
            low, high = getattr(self, name)
            check(f"augmentation.{name}", 0 < low <= high, "be 0 < low <= high", (low, high))
        probability = 0 <= self.grid_mask <= 1
        check("augmentation.grid_mask", probability, "lie in [0, 1]", self.grid_mask)
        check("augmentation.rotate_deg", self.rotate_deg >= 0, "be >= 0", self.rotate_deg)

    @property
    def moves_bev(self) -> bool:
        """Whether any bird's-eye-view augmentation is on."""
        return bool(self.rotate_deg) or self.scale != (1.0, 1.0) or self.flip_x or self.flip_y


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The training recipe (v2 specification, section 12); steps are optimiser steps."""

    num_steps: int = 42_000  # length of the run
    batch_size: int = 16  # samples per optimiser step, over all processes
    learning_rate: float = 4e-4
    backbone_multiplier: float = 0.5  # on the learning rate of the backbone
    # InternImage: the rate of a layer is this times that of the next (paper: 0.96 for B, 0.94 XL)
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    # of norms, biases and all else of one axis too: True as BEVFormer, False as InternImage trains
    decay_norms_and_biases: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    gradient_clip: float = 35.0  # L2 norm over all parameters
    warmup_steps: int = 2_000  # linear, from warmup_start of the rate
    warmup_start: float = 1 / 3
    schedule: str = "step"  # "step": x decay_factor at decay_at; "cosine": to 0
    decay_at: tuple[float, ...] = (20 / 24,)  # fractions of num_steps
    decay_factor: float = 0.1
    checkpoint_every: int = 1_000  # steps
    log_every: int = 50  # steps
    num_workers: int = 2  # data-loading processes
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "log_every"):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in ("learning_rate", "backbone_multiplier", "gradient_clip"):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        check("training.layer_decay", 0 < self.layer_decay <= 1, "lie in (0, 1]", self.layer_decay)
        for name in ("warmup_steps", "num_workers", "weight_decay"):
            check(f"training.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))
        check("training.schedule", self.schedule in SCHEDULES, f"be in {SCHEDULES}", self.schedule)
        fractions = all(0 < fraction < 1 for fraction in self.decay_at)
        check("training.decay_at", fractions, "be fractions of num_steps in (0, 1)", self.decay_at)
