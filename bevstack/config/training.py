"""Configuration of augmentation, optimisation and the training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bevstack.config.checks import check
from bevstack.config.limits import check_section

SCHEDULES = ("step", "cosine", "linear")
PRECISIONS = ("float32", "bfloat16")
ENGINES = ("ddp", "fsdp")
SAMPLINGS = ("shuffle", "class_balanced")
STOP, SKIP = "stop", "skip"
# Names of the corruptions that change pictures, as in bevstack.datasets.corruptions
PICTURE_CORRUPTIONS = ("ColorQuant", "MotionBlur", "Brightness", "LowLight", "Fog", "Snow")
CORRUPTION_SEVERITIES = ("levels", "between")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Augmentation in training (v2 specification, section 3); by default there is none."""

    # Range of the factor on images.size, drawn uniformly. Published t1, t2, t8: 0.8 to 1.2
    resize: tuple[float, float] = (1.0, 1.0)
    resize_steps: int = 0  # number of evenly spaced factors to draw from; 0 or 1: any in the range
    # Mirror all images of a sample with probability 1/2; the model mirrors their features back, so
    # cameras and boxes stay. As published
    flip_images: bool = False
    # Mirror the whole scene with probability 1/2: images, rig, ego motion and boxes. Image features
    # and headings stay consistent. Needs the bev frame "ego". Own choice
    mirror_scene: bool = False
    # Change brightness, contrast, saturation, hue and the order of channels, drawn for each image
    photometric: bool = False
    # Probability, for each sample, that one camera is missing in all frames. Own choice
    camera_dropout: float = 0.0
    # Probability, for each sample, that pictures are missing at random: each picture of each frame
    # with one probability, which is drawn for the sample up to 5 / 6. One picture of the current
    # frame always remains. Own choice
    picture_dropout: float = 0.0
    # Probability, for each sample, that all its images are corrupted: by one of the six kinds of
    # nuScenes-C that change pictures (colours, low light, motion blur, brightness, fog, snow).
    # Lost cameras are ``camera_dropout`` and ``picture_dropout``. A detector that has seen them in
    # training finds more under them (RoboBEV, arXiv 2304.06719). Own choice
    corruption: float = 0.0
    # Kinds to draw from, each entry equally often; a kind named twice is drawn twice as often
    corruption_kinds: tuple[str, ...] = PICTURE_CORRUPTIONS
    # "levels": severities of the benchmark's three levels. "between": severities that no level has,
    # so that the training has none of those that are tested
    corruption_severity: str = "levels"
    grid_mask: float = 0.0  # probability of GridMask on the current frame. Published: 0.7
    # BEV data augmentation (BDA) of points and boxes in the bev frame
    rotate_deg: float = 0.0  # largest rotation about z, in degrees; drawn uniformly from +- this
    scale: tuple[float, float] = (1.0, 1.0)  # range of the factor on lengths, drawn uniformly
    flip_x: bool = False  # x -> -x with probability 1/2
    flip_y: bool = False  # y -> -y with probability 1/2

    def __post_init__(self) -> None:
        check_section("augmentation", self)
        for name in ("resize", "scale"):
            low, high = getattr(self, name)
            check(
                f"augmentation.{name}",
                0 < low <= high,
                "be (low, high) with 0 < low <= high",
                (low, high),
            )
        for name in ("camera_dropout", "picture_dropout", "corruption", "grid_mask"):
            value = getattr(self, name)
            check(f"augmentation.{name}", 0 <= value <= 1, "lie in [0, 1]", value)
        check(
            "augmentation.corruption_kinds",
            bool(self.corruption_kinds) and set(self.corruption_kinds) <= set(PICTURE_CORRUPTIONS),
            f"be names among {PICTURE_CORRUPTIONS}, at least one",
            self.corruption_kinds,
        )
        check(
            "augmentation.corruption_severity",
            self.corruption_severity in CORRUPTION_SEVERITIES,
            f"be one of {CORRUPTION_SEVERITIES}",
            self.corruption_severity,
        )
        check("augmentation.rotate_deg", self.rotate_deg >= 0, "be >= 0", self.rotate_deg)

    @property
    def moves_bev(self) -> bool:
        """Return True if any augmentation of the bird's-eye view is on."""
        return bool(self.rotate_deg) or self.scale != (1.0, 1.0) or self.flip_x or self.flip_y


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training recipe; a step is one step of the optimiser.

    Defaults are those of the released recipe (v2 specification, section 12). Fields that the
    released recipe does not have are off by default.
    """

    num_steps: int = 42_000  # length of the training; about 24 epochs of nuScenes
    # Length of the first stage, steps. It trains only backbone, neck and perspective head, with the
    # perspective losses; the second stage trains everything. 0: no first stage. num_steps: no
    # second stage. The paper has no first stage; its backbone was trained for image detection.
    perspective_steps: int = 0
    batch_size: int = 16  # samples of a step, over all processes and passes
    # Passes into which each process splits its samples of a step, to need less memory. Gradients
    # are averaged over the passes; each pass divides its losses by its number of matched queries.
    accumulate: int = 1
    # Precision of the forward pass: "float32", or "bfloat16" by torch.autocast (float32 weights)
    precision: str = "float32"
    # Parallel training under torchrun: "ddp", every process holds all weights; or "fsdp", every
    # process holds a shard of the weights and of the optimiser's state
    engine: str = "ddp"
    learning_rate: float = 4e-4  # of AdamW, after the warm-up
    backbone_multiplier: float = 0.5  # factor on the learning rate of the backbone
    # Ratio of the learning rates of a layer of InternImage and the next layer. Paper (arXiv
    # 2211.10439): 0.96 for B, 0.94 for XL
    layer_decay: float = 1.0
    # Factor on the learning rate of the sampling offsets of deformable attention; 0.001 in the
    # released recipe of the largest detectors of pictures
    offset_multiplier: float = 1.0
    weight_decay: float = 0.01  # of AdamW
    # Apply weight decay also to norms, biases and other one-dimensional parameters: True as in the
    # released BEVFormer, False as in InternImage's detectors
    decay_norms_and_biases: bool = True
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    gradient_clip: float = 35.0  # largest L2 norm of the gradient of all parameters
    # Decay of the exponential moving average (EMA) of the weights, which is evaluated and stored
    # instead of the weights: the largest fraction of the average that a step keeps. 0: no average,
    # as published. 0.999 has a half-life of 700 steps.
    ema_decay: float = 0.0
    warmup_steps: int = 2_000  # steps of linear warm-up at the start of each stage
    warmup_start: float = 1 / 3  # factor on the learning rate at the start of the warm-up
    # "step": times decay_factor at each of decay_at; "cosine": down to 0 in half a wave; "linear":
    # down to 0 in a line from the first step, which the warm-up multiplies
    schedule: str = "step"
    decay_at: tuple[float, ...] = (20 / 24,)  # fractions of the steps of the last stage
    decay_factor: float = 0.1  # factor on the learning rate at each of decay_at
    checkpoint_every: int = 1_000  # steps between checkpoints
    evaluate_every: int = 0  # steps between evaluations on held-out scenes; 0: no evaluation
    log_every: int = 50  # steps between lines of the log
    tensorboard: bool = False  # also write the log for TensorBoard; needs the extra [tensorboard]
    # Samples of an epoch: "shuffle", each sample once; "class_balanced", all classes equally often,
    # with repetitions (CBGS, arXiv 1908.09492; 4.4 times as many samples on nuScenes)
    sampling: str = "shuffle"
    num_workers: int = 2  # data-loading processes of each training process
    # Reaction to a missing or damaged file: "stop", or "skip" the sample and draw another one
    on_bad_sample: str = STOP
    # Reaction to a loss or gradient that is not finite: "stop", or "skip" the step's update
    on_bad_step: str = STOP
    max_skipped: int = 100  # most samples and steps to skip; one more stops the training
    seed: int = 0  # of initial weights, order of samples and augmentation

    def __post_init__(self) -> None:
        check_section("training", self)
        for name in ("num_steps", "batch_size", "checkpoint_every", "log_every", "accumulate"):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in (
            "learning_rate",
            "backbone_multiplier",
            "offset_multiplier",
            "gradient_clip",
        ):
            check(f"training.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in ("warmup_steps", "num_workers", "weight_decay", "evaluate_every", "seed"):
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
            check(f"training.{name}", value in choices, f"be one of {choices}", value)
        inside = all(0 < fraction < 1 for fraction in self.decay_at)
        check("training.decay_at", inside, "be fractions of the steps in (0, 1)", self.decay_at)
        inside = 0 <= self.perspective_steps <= self.num_steps
        requirement = f"be at least 0 and at most num_steps = {self.num_steps}"
        check("training.perspective_steps", inside, requirement, self.perspective_steps)
        divides = self.batch_size % self.accumulate == 0
        requirement = f"divide batch_size = {self.batch_size}"
        check("training.accumulate", divides, requirement, self.accumulate)

    def with_num_steps(self, num_steps: int) -> TrainingConfig:
        """Return the recipe with another number of steps and the stages in proportion.

        ``perspective_steps`` and ``evaluate_every`` keep their fraction of the training, and at
        least one step if they were not 0. The warm-up takes at most a tenth of the shorter stage.
        The intervals of checkpoints and log lines stay.

        Raises:
            ValueError: ``num_steps`` is less than 1, or has no step for one of the stages.
        """
        ratio = num_steps / self.num_steps
        first = max(round(ratio * self.perspective_steps), 1) if self.perspective_steps else 0
        if 0 < self.perspective_steps < self.num_steps:
            check(
                "training.num_steps",
                num_steps > 1,
                "be at least 2, a step for each stage",
                num_steps,
            )
            first = min(first, num_steps - 1)
        every = max(round(ratio * self.evaluate_every), 1) if self.evaluate_every else 0
        shortest = min((stage for stage in (first, num_steps - first) if stage > 0), default=0)
        return replace(
            self,
            num_steps=num_steps,
            perspective_steps=first,
            evaluate_every=every,
            warmup_steps=min(self.warmup_steps, shortest // 10),
        )
