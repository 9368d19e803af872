"""Configuration of augmentation, optimisation and the training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bevstack.config.checks import check

SCHEDULES = ("step", "cosine")
PRECISIONS = ("float32", "bfloat16")
ENGINES = ("ddp", "fsdp")
SAMPLINGS = ("shuffle", "class_balanced")
STOP, SKIP = "stop", "skip"


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Training-time augmentation (v2 specification, section 3); defaults: none."""

    resize: tuple[float, float] = (1.0, 1.0)  # factor on images.size, drawn uniformly
    resize_steps: int = 0  # > 1: that many evenly spaced factors instead of a continuum
    flip_images: bool = False  # mirror every image with probability 1/2, intrinsics with them
    # mirror the whole world with probability 1/2: images, rig, motion and boxes together, so that
    # features say headings as ever; needs the bev frame "ego"
    mirror_scene: bool = False
    photometric: bool = False  # brightness, contrast, saturation, hue, channels; each image its own
    camera_dropout: float = 0.0  # probability that one camera of a sample is lost, in all frames
    grid_mask: float = 0.0  # probability of GridMask on the current frame; 0.7 as published
    rotate_deg: float = 0.0  # BDA: rotation about z, uniform in +- this
    scale: tuple[float, float] = (1.0, 1.0)  # BDA: uniform factor on space
    flip_x: bool = False  # BDA: x -> -x with probability 1/2
    flip_y: bool = False  # BDA: y -> -y with probability 1/2

    def __post_init__(self) -> None:
        for name in ("resize", "scale"):
            low, high = getattr(self, name)
            check(f"augmentation.{name}", 0 < low <= high, "be 0 < low <= high", (low, high))
        for name in ("camera_dropout", "grid_mask"):
            value = getattr(self, name)
            check(f"augmentation.{name}", 0 <= value <= 1, "lie in [0, 1]", value)
        check("augmentation.rotate_deg", self.rotate_deg >= 0, "be >= 0", self.rotate_deg)

    @property
    def moves_bev(self) -> bool:
        """Whether any bird's-eye-view augmentation is on."""
        return bool(self.rotate_deg) or self.scale != (1.0, 1.0) or self.flip_x or self.flip_y


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The training recipe (v2 specification, section 12); steps are optimiser steps."""

    num_steps: int = 42_000  # length of the run
    # the first so many steps train backbone, neck and perspective head alone, by the perspective
    # losses (0: none; the paper starts from a backbone trained in perspective), then all is
    # trained; num_steps: nothing else ever is
    perspective_steps: int = 0
    batch_size: int = 16  # samples per optimiser step, over all processes and passes
    # passes that a process splits its samples of a step into, to need less memory; the gradients
    # are averaged, and each pass's losses are divided by its own number of matched queries
    accumulate: int = 1
    precision: str = "float32"  # of the forward pass; "bfloat16": torch.autocast, weights float32
    # torchrun: "ddp", each process holds all; "fsdp", a share of weights and optimiser's state
    engine: str = "ddp"
    learning_rate: float = 4e-4
    backbone_multiplier: float = 0.5  # on the learning rate of the backbone
    # InternImage: the rate of a layer is this times that of the next (paper: 0.96 for B, 0.94 XL)
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    # of norms, biases and all else of one axis too: True as BEVFormer, False as InternImage trains
    decay_norms_and_biases: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    gradient_clip: float = 35.0  # L2 norm over all parameters
    # average of the weights over steps, which is what is evaluated and kept: a step leaves at most
    # this share of it (0: no average, as published; 0.999 forgets half in 700 steps)
    ema_decay: float = 0.0
    warmup_steps: int = 2_000  # linear, from warmup_start of the rate; at each stage's beginning
    warmup_start: float = 1 / 3
    schedule: str = "step"  # "step": x decay_factor at decay_at; "cosine": to 0
    decay_at: tuple[float, ...] = (20 / 24,)  # fractions of the steps after perspective_steps
    decay_factor: float = 0.1
    checkpoint_every: int = 1_000  # steps
    evaluate_every: int = 0  # steps from one evaluation on held-out scenes to the next; 0: never
    log_every: int = 50  # steps
    tensorboard: bool = False  # also write the log for TensorBoard; needs the extra [tensorboard]
    # an epoch: "shuffle", every sample once; "class_balanced", classes drawn equally often, with
    # repetitions (CBGS, arXiv 1908.09492; nuScenes: 4.4 times as long)
    sampling: str = "shuffle"
    num_workers: int = 2  # data-loading processes of each training process
    # a missing or damaged file: "stop", or "skip" the sample; another one takes its place
    on_bad_sample: str = STOP
    # a loss or gradient that is not finite: "stop", or "skip" the step, which changes nothing
    on_bad_step: str = STOP
    max_skipped: int = 100  # samples and steps of a run that may be skipped before it stops
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "log_every", "accumulate"):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in ("learning_rate", "backbone_multiplier", "gradient_clip"):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in ("warmup_steps", "num_workers", "weight_decay", "evaluate_every"):
            check(f"training.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))
        check("training.layer_decay", 0 < self.layer_decay <= 1, "lie in (0, 1]", self.layer_decay)
        check("training.ema_decay", 0 <= self.ema_decay < 1, "lie in [0, 1)", self.ema_decay)
        check("training.max_skipped", self.max_skipped >= 0, "be >= 0", self.max_skipped)
        for name, choices in (
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("engine", ENGINES),
            ("sampling", SAMPLINGS),
            ("on_bad_sample", (STOP, SKIP)),
            ("on_bad_step", (STOP, SKIP)),
        ):
            value = getattr(self, name)
            check(f"training.{name}", value in choices, f"be in {choices}", value)
        fractions = all(0 < fraction < 1 for fraction in self.decay_at)
        check("training.decay_at", fractions, "be fractions of the steps in (0, 1)", self.decay_at)
        inside = 0 <= self.perspective_steps <= self.num_steps
        wanted = f"be at least 0 and at most num_steps = {self.num_steps}"
        check("training.perspective_steps", inside, wanted, self.perspective_steps)
        divides = self.batch_size % self.accumulate == 0
        wanted = f"divide batch_size = {self.batch_size}"
        check("training.accumulate", divides, wanted, self.accumulate)

    def in_steps(self, num_steps: int) -> TrainingConfig:
        """The recipe in another number of steps, its shape kept.

        ``perspective_steps`` and ``evaluate_every`` keep their share of the run, a step or more
        where there were any. A warm-up takes a tenth of the shorter stage at most. Checkpoints and
        lines of the log, which protect and tell, come as often as ever.

        Raises:
            ValueError: too few steps for the stages there are.
        """
        share = num_steps / self.num_steps
        first = max(round(share * self.perspective_steps), 1) if self.perspective_steps else 0
        if 0 < self.perspective_steps < self.num_steps:
            check("training.num_steps", num_steps > 1, "hold a step of each stage", num_steps)
            first = min(first, num_steps - 1)
        every = max(round(share * self.evaluate_every), 1) if self.evaluate_every else 0
        shortest = min((stage for stage in (first, num_steps - first) if stage > 0), default=0)
        return replace(
            self,
            num_steps=num_steps,
            perspective_steps=first,
            evaluate_every=every,
            warmup_steps=min(self.warmup_steps, shortest // 10),
        )
