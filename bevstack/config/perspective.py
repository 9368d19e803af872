"""Configuration of the perspective head, which detects objects in each camera image separately."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check
from bevstack.config.limits import check_section

NORMS = ("BN", "SyncBN", "GN")
QUATERNION, YAW = "quaternion", "yaw"
ATTITUDES = (QUATERNION, YAW)
PLACE, BOX = "place", "box"
STARTS = (PLACE, BOX)
RELU, LINEAR, SOFTPLUS = "relu", "linear", "softplus"
SPEED_ACTIVATIONS = (RELU, LINEAR)
SIDES_ACTIVATIONS = (RELU, SOFTPLUS)
NEAREST, SMALLEST = "nearest", "smallest"
CHOICES = (NEAREST, SMALLEST)
MAX_VISIBILITY = 4  # nuScenes' highest level of visibility


@dataclass(frozen=True, kw_only=True)
class SmallImagePreset:
    """Changes to DD3D with which small images and small networks learn; used by ``tiny_cpu_t4``.

    At a fifth of the published image size, an object's height in pixels carries little information
    about its depth, and many boxes contain no location of a pyramid level. All values are own
    choices; each comment gives the reason.

    "Measured" means: ``tiny_cpu_t4_brief`` with this option alone turned off, 600 steps of one
    sample, 150 test samples, one seed. As configured then, without the last three options: NDS
    0.1177, mAP 0.0007. Differences of 0.001 are within the noise of one seed.
    """

    # Height of the ground in the bev frame, metres. The towers get the inverse depth of the ground
    # along each location's ray as an input, and the head predicts a box's inverse depth relative to
    # it. None: depth from appearance only, as in DD3D. Measured without: NDS 0.0702, mAP 0.0002
    ground_z_m: float | None = 0.0
    # Code of a box's heading: "yaw", cosine and sine of the angle from the ray about the camera's
    # vertical axis; or "quaternion", as in DD3D. A quaternion changes its sign in a full turn, so a
    # network cannot follow a turn without a jump. Measured with "quaternion": NDS 0.1180, mAP
    # 0.0009, mAOE 1.326 instead of 1.373; so short a training shows no gain
    attitude: str = YAW
    # Activation of the speed branch: "linear", or "relu" as in DD3D. Most objects stand still, so a
    # rectified branch soon predicts 0 everywhere and its gradient stays 0. Measured with "relu":
    # NDS 0.1167, mAP 0.0006
    speed_activation: str = LINEAR
    # Smallest width and height of a box, in strides of the level, when locations are assigned to
    # boxes: a smaller box is enlarged to it. Above 1, every box contains a location; the boxes
    # without one were negatives, although scoring counts them. 0: no enlargement, as in FCOS. Not
    # measured alone
    min_extent: float = 1.5
    # Metres. The corner losses of a box at a greater depth are weighted by full_weight_depth_m /
    # depth, so that the large errors of far boxes do not outweigh near boxes. None: all weights 1.
    # Not measured alone
    full_weight_depth_m: float | None = 20.0
    # Exponent of the 3D confidence in a score: image score * confidence ^ confidence_power. 1: as
    # in DD3D. Not measured alone
    confidence_power: float = 0.3
    # Activation of the distances to the four sides of the image box: "softplus", bent over one
    # stride of the level; or "relu" as in DD3D. A rectified distance that is 0 at every positive
    # location has no gradient, and boxes without area do not suppress each other: with seed 0 all
    # four were 0 from step 40 on
    sides_activation: str = SOFTPLUS
    # Box that a location learns if it lies in several: "nearest", the nearest one that no other box
    # hides there; or "smallest", as in FCOS, even if it is hidden. See ``assign_targets``
    choice: str = NEAREST
    # Lowest level of nuScenes' visibility (1: up to 40 % of the object, 2: to 60, 3: to 80, 4:
    # more) of a box to train on; boxes of unknown visibility are trained on. 0: all boxes, as in
    # DD3D. On 90 samples of the synthetic world, both options together lower the positive locations
    # without a pixel of the object within half a stride from 15.0 to 4.0 %
    min_visibility: int = 2

    def __post_init__(self) -> None:
        check_section("perspective.small_images", self)
        path = "perspective.small_images"
        check(f"{path}.min_extent", self.min_extent >= 0, "be >= 0", self.min_extent)
        full = self.full_weight_depth_m
        positive = full is None or full > 0
        check(f"{path}.full_weight_depth_m", positive, "be positive or None", full)
        known = self.attitude in ATTITUDES
        check(f"{path}.attitude", known, f"be one of {ATTITUDES}", self.attitude)
        known = self.speed_activation in SPEED_ACTIVATIONS
        requirement = f"be one of {SPEED_ACTIVATIONS}"
        check(f"{path}.speed_activation", known, requirement, self.speed_activation)
        power = self.confidence_power
        check(f"{path}.confidence_power", power >= 0, "be >= 0", power)
        known = self.sides_activation in SIDES_ACTIVATIONS
        requirement = f"be one of {SIDES_ACTIVATIONS}"
        check(f"{path}.sides_activation", known, requirement, self.sides_activation)
        check(f"{path}.choice", self.choice in CHOICES, f"be one of {CHOICES}", self.choice)
        level = self.min_visibility
        requirement = f"lie in 0..{MAX_VISIBILITY}"
        check(f"{path}.min_visibility", 0 <= level <= MAX_VISIBILITY, requirement, level)


DD3D = SmallImagePreset(
    ground_z_m=None,
    attitude=QUATERNION,
    speed_activation=RELU,
    min_extent=0.0,
    full_weight_depth_m=None,
    confidence_power=1.0,
    sides_activation=RELU,
    choice=SMALLEST,
    min_visibility=0,
)


@dataclass(frozen=True, kw_only=True)
class PerspectiveConfig:
    """DD3D (arXiv 2108.06417) on all cameras, BEVFormer v2's supervision (arXiv 2211.10439, 3.2).

    Values are those of the released recipe (v2 specification, section 11) unless a comment gives
    another source. The statistics by level and by class are those of nuScenes.
    """

    strides: tuple[int, ...] = (8, 16, 32, 64, 128)  # pixels, of the pyramid levels, finest first
    num_convs: int = 4  # convolutions of each of the three towers
    predictor_size: int = 3  # side of the predictors' kernels, in locations; odd
    # Norm of the towers, separate for each level: "BN", "SyncBN" with statistics over all
    # processes, or "GN" with statistics of one image
    norm: str = "SyncBN"
    norm_groups: int = 32  # groups of "GN"; divides fpn.channels
    activation_checkpointing: bool = False  # recompute the towers in backward, to save memory
    # Mean and standard deviation at each level, in metres, of the depth that the head predicts (see
    # focal_factor_px). The depth branch starts at the mean, with a scale of depth_gain standard
    # deviations. With ground_z_m it predicts inverse depth and starts from 1 / mean instead.
    mean_depth_m: tuple[float, ...] = (44.921, 20.252, 11.712, 7.166, 8.548)
    std_depth_m: tuple[float, ...] = (24.331, 9.833, 6.223, 4.611, 8.275)
    depth_gain: float = 0.3  # initial scale of the depth branch, in standard deviations
    # Pixels. The head predicts depth * focal_factor_px * |(1 / fx, 1 / fy)|, so that objects of
    # equal appearance have equal predictions for any focal length. Not used with ground_z_m.
    focal_factor_px: float = 500.0
    depth_range_m: tuple[float, float] = (0.1, 80.0)  # decoded depths are clamped to it
    # Mean length, width and height of each class, metres, in label order; the head predicts factors
    # of 0 to 2 on them
    canonical_size_m: tuple[tuple[float, float, float], ...] = (
        (0.5062202, 2.3524184, 1.0413622),
        (1.7016163, 0.61416006, 1.3054738),
        (10.725025, 2.9139307, 3.2832346),
        (4.641267, 1.9751819, 1.74352),
        (6.565072, 2.772134, 3.2474296),
        (2.138673, 0.7800532, 1.4437162),
        (0.7181772, 0.6667362, 1.7616143),
        (0.4027083, 0.40246472, 1.0084083),
        (12.8197, 3.0059454, 4.1213827),
        (6.9310856, 2.4986045, 2.8382742),
    )
    # Attributes, for vehicles: moving, parked, stopped; pedestrians: moving, standing, sitting;
    # cycles: with, without rider
    num_attributes: int = 3
    # Targets (FCOS, arXiv 1904.01355, with centre sampling)
    center_radius: float = 1.5  # half the side of a box's central square, in strides
    # Pixels. Bounds between the levels on the distance from a location to the farthest side of its
    # box
    level_bounds_px: tuple[float, ...] = (64, 128, 256, 512)
    min_points: int = 3  # fewest lidar and radar points in a box to train on. Released code
    # Losses
    focal_alpha: float = 0.25  # arXiv 1708.02002
    focal_gamma: float = 2.0  # arXiv 1708.02002
    class_weight: float = 1.0
    box3d_weight: float = 2.0  # of each of the four disentangled losses
    attribute_weight: float = 0.2
    speed_weight: float = 0.2
    smooth_l1_beta: float = 0.05  # metres for corners, metres per second for speeds
    max_corner_loss_m: float = 20.0  # upper limit of a box's disentangled loss
    # Reproduce the quirks of the released code; see ``PerspectiveHead``, ``PerspectiveCriterion``
    official_parity: bool = False
    # Inference (DD3D's nuScenes settings, which the paper's proposals share)
    score_threshold: float = 0.05  # on class probability times centerness
    max_candidates: int = 1000  # of each level and image, before non-maximum suppression
    nms_iou: float = 0.75  # IoU in the image above which boxes of one class are suppressed
    max_detections: int = 100  # of each image
    small_images: SmallImagePreset | None = None  # None: DD3D without changes

    def __post_init__(self) -> None:
        check_section("perspective", self)
        ascending = list(self.strides) == sorted(set(self.strides)) and min(self.strides) >= 1
        check(
            "perspective.strides",
            ascending,
            "be in ascending order and at least 1 pixel",
            self.strides,
        )
        self._check_levels()
        check("perspective.norm", self.norm in NORMS, f"be one of {NORMS}", self.norm)
        counts = ("num_convs", "norm_groups", "num_attributes", "max_candidates", "max_detections")
        lengths = ("depth_gain", "focal_factor_px", "center_radius", "smooth_l1_beta")
        for name in (*counts, *lengths, "max_corner_loss_m"):
            value = getattr(self, name)
            check(f"perspective.{name}", value > 0, "be positive", value)
        check("perspective.min_points", self.min_points >= 0, "be >= 0", self.min_points)
        check("perspective.class_weight", self.class_weight > 0, "be positive", self.class_weight)
        odd = self.predictor_size > 0 and self.predictor_size % 2 == 1
        check("perspective.predictor_size", odd, "be odd and positive", self.predictor_size)
        near, far = self.depth_range_m
        check(
            "perspective.depth_range_m",
            0 < near < far,
            "be in ascending order and above 0",
            self.depth_range_m,
        )
        sizes = self.canonical_size_m
        whole = bool(sizes) and min(min(size) for size in sizes) > 0
        check("perspective.canonical_size_m", whole, "hold a positive size for each class", sizes)
        for name in ("score_threshold", "nms_iou"):
            value = getattr(self, name)
            check(f"perspective.{name}", 0 <= value <= 1, "lie in [0, 1]", value)

    @property
    def num_classes(self) -> int:
        """Return K, the number of classes: one canonical size each."""
        return len(self.canonical_size_m)

    @property
    def changes(self) -> SmallImagePreset:
        """Return the changes to DD3D: ``small_images``, or without a preset DD3D's own values."""
        return DD3D if self.small_images is None else self.small_images

    def _check_levels(self) -> None:
        levels = len(self.strides)
        for name, requirement in (
            ("mean_depth_m", levels),
            ("std_depth_m", levels),
            ("level_bounds_px", levels - 1),
        ):
            value = getattr(self, name)
            text = f"hold {requirement} values for {levels} strides"
            check(f"perspective.{name}", len(value) == requirement, text, value)
        spread = self.std_depth_m
        check("perspective.std_depth_m", min(spread) > 0, "be positive", spread)
        bounds = self.level_bounds_px
        ascending = list(bounds) == sorted(set(bounds))
        check("perspective.level_bounds_px", ascending, "be in ascending order", bounds)


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """Hybrid object queries (arXiv 2211.10439, section 3.5): perspective boxes as reference points.

    The boxes of all cameras are suppressed in each image (``PerspectiveConfig.nms_iou``), then in
    the bird's-eye view. The remaining boxes are added to the learned queries, the same boxes in
    every group.
    """

    max_per_view: int = 100  # best boxes of each image to keep. Paper, k1
    bev_nms_iou: float = 0.3  # IoU of rotated boxes in the bird's-eye view, over all cameras. Paper
    max_proposals: int = 100  # of a sample; with fewer boxes, queries are inactive. Paper, k2
    # Most proposals of one class in a sample. An early detector gives boxes of rare classes low
    # scores; the limit keeps room for them. None: the scores decide, as in the paper
    max_per_class: int | None = None
    score_threshold: float = 0.0  # lowest 3D score of a proposal. Own choice
    # Part of a proposal that the decoder uses: "place", its position, as in the paper; or "box",
    # also its size, yaw, velocity, class and score, which the queries start from and correct
    start: str = "place"

    def __post_init__(self) -> None:
        check_section("proposals", self)
        for name in ("max_per_view", "max_proposals"):
            check(f"proposals.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        most = self.max_per_class
        check("proposals.max_per_class", most is None or most > 0, "be positive or None", most)
        for name in ("bev_nms_iou", "score_threshold"):
            value = getattr(self, name)
            check(f"proposals.{name}", 0 <= value <= 1, "lie in [0, 1]", value)
        check("proposals.start", self.start in STARTS, f"be one of {STARTS}", self.start)
