"""Configuration of the perspective head: detection in every camera image by itself."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check

NORMS = ("BN", "SyncBN", "GN")
QUATERNION, YAW = "quaternion", "yaw"
ATTITUDES = (QUATERNION, YAW)
PLACE, BOX = "place", "box"
STARTS = (PLACE, BOX)
RELU, LINEAR = "relu", "linear"
SPEED_ACTIVATIONS = (RELU, LINEAR)


@dataclass(frozen=True, kw_only=True)
class SmallImagePreset:
    """Changes to DD3D with which small images and small networks learn; used by ``tiny_cpu_t4``.

    At a fifth of the published size an object's height in pixels says little about its depth, and
    many boxes contain no location of a level. Each field gives the reason for its value.
    """

    # Height of the ground in the bev frame, metres. The towers get the inverse depth of the ground
    # along each location's ray, and depths are predicted relative to it. None: depth from
    # appearance alone, as in DD3D.
    ground_z_m: float | None = 0.0
    # Code of a box's heading: "yaw", cosine and sine of the angle from the ray about the camera's
    # vertical; or "quaternion", as in DD3D. A quaternion changes its sign in a full turn, so a
    # network cannot follow a turn without a jump.
    attitude: str = YAW
    # Activation of the speed branch: "linear", or "relu" as in DD3D. Most objects stand still, so a
    # rectified branch soon predicts 0 everywhere and its gradient stays 0.
    speed_activation: str = LINEAR
    # Smallest width and height in strides that a box counts with where locations are chosen: above
    # 1 every box, however small, has a location around it. 0: as in FCOS.
    min_extent: float = 1.5
    # Corners of a box at depth d beyond this depth, in metres, count full_weight_depth_m / d, so
    # that the large errors of far boxes do not outweigh near ones. None: all count the same.
    full_weight_depth_m: float | None = 20.0
    # Power of the 3D confidence in a score, beside the image's score. 1: as in DD3D.
    confidence_power: float = 0.3

    def __post_init__(self) -> None:
        path = "perspective.small_images"
        check(f"{path}.min_extent", self.min_extent >= 0, "be >= 0", self.min_extent)
        full = self.full_weight_depth_m
        positive = full is None or full > 0
        check(f"{path}.full_weight_depth_m", positive, "be positive or none", full)
        known = self.attitude in ATTITUDES
        check(f"{path}.attitude", known, f"be one of {ATTITUDES}", self.attitude)
        known = self.speed_activation in SPEED_ACTIVATIONS
        wanted = f"be one of {SPEED_ACTIVATIONS}"
        check(f"{path}.speed_activation", known, wanted, self.speed_activation)
        power = self.confidence_power
        check(f"{path}.confidence_power", power >= 0, "be >= 0", power)


DD3D = SmallImagePreset(
    ground_z_m=None,
    attitude=QUATERNION,
    speed_activation=RELU,
    min_extent=0.0,
    full_weight_depth_m=None,
    confidence_power=1.0,
)


@dataclass(frozen=True, kw_only=True)
class PerspectiveConfig:
    """DD3D (arXiv 2108.06417) on all cameras, as BEVFormer v2 trains with (arXiv 2211.10439, 3.2).

    Values are those of the released recipe (v2 specification, section 11) unless said otherwise.
    Statistics by level and by class are nuScenes'.
    """

    strides: tuple[int, ...] = (8, 16, 32, 64, 128)  # pixels, of the pyramid's levels, finest first
    num_convs: int = 4  # of each of the three towers
    predictor_size: int = 3  # pixels, side of the kernels that read the towers; odd
    # "BN", "SyncBN" (statistics over all processes) or "GN" (within an image); one a level
    norm: str = "SyncBN"
    norm_groups: int = 32  # of "GN"; divides the channels
    activation_checkpointing: bool = False  # recompute the towers in the backward pass
    # depth a level starts with, and its spread, in metres as said: see focal_factor_px
    mean_depth_m: tuple[float, ...] = (44.921, 20.252, 11.712, 7.166, 8.548)
    std_depth_m: tuple[float, ...] = (24.331, 9.833, 6.223, 4.611, 8.275)
    depth_gain: float = 0.3  # initial scale of the depth branch, in units of std_depth_m
    # a depth d is said as d * factor * |(1 / fx, 1 / fy)|: what looks alike says alike in any lens
    focal_factor_px: float = 500.0
    depth_range_m: tuple[float, float] = (0.1, 80.0)  # decoded depths are clamped to it
    # length, width, height in metres by label; a branch says a factor of 0 to 2 on them
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
    num_attributes: int = (
        3  # moving, parked, stopped; moving, standing, sitting; with, without rider
    )
    # Targets (FCOS, arXiv 1904.01355, with centre sampling)
    center_radius: float = 1.5  # half the side of the central square, in strides
    level_bounds_px: tuple[float, ...] = (64, 128, 256, 512)  # farthest side, between the levels
    min_points: int = 3  # lidar and radar points in a box that is learned. Released code
    # Losses
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    class_weight: float = 1.0
    box3d_weight: float = 2.0  # of each of the four disentangled losses
    attribute_weight: float = 0.2
    speed_weight: float = 0.2
    smooth_l1_beta: float = 0.05  # metres for corners, metres a second for speeds
    max_corner_loss_m: float = 20.0  # what one box can add to a disentangled loss at most
    official_parity: bool = False  # the released code's quirks; see PerspectiveHead, -Criterion
    # Inference (DD3D's nuScenes settings, which the paper's proposals share)
    score_threshold: float = 0.05  # on class probability times centerness
    max_candidates: int = 1000  # a level and image, before non-maximum suppression
    nms_iou: float = 0.75  # of boxes in the image, within a class
    max_detections: int = 100  # an image
    small_images: SmallImagePreset | None = None  # none: as DD3D

    def __post_init__(self) -> None:
        ascending = list(self.strides) == sorted(set(self.strides)) and min(self.strides) >= 1
        check("perspective.strides", ascending, "ascend from 1 pixel on", self.strides)
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
        check("perspective.depth_range_m", 0 < near < far, "ascend above 0", self.depth_range_m)
        sizes = self.canonical_size_m
        whole = bool(sizes) and min(min(size) for size in sizes) > 0
        check("perspective.canonical_size_m", whole, "hold positive sizes, one a class", sizes)
        for name in ("score_threshold", "nms_iou"):
            value = getattr(self, name)
            check(f"perspective.{name}", 0 <= value <= 1, "lie in [0, 1]", value)

    @property
    def num_classes(self) -> int:
        """Return K, the number of classes: one canonical size each."""
        return len(self.canonical_size_m)

    @property
    def changes(self) -> SmallImagePreset:
        """Return the changes to DD3D, which change nothing where there is no preset."""
        return DD3D if self.small_images is None else self.small_images

    def _check_levels(self) -> None:
        levels = len(self.strides)
        for name, wanted in (
            ("mean_depth_m", levels),
            ("std_depth_m", levels),
            ("level_bounds_px", levels - 1),
        ):
            value = getattr(self, name)
            text = f"hold {wanted} values for {levels} strides"
            check(f"perspective.{name}", len(value) == wanted, text, value)
        spread = self.std_depth_m
        check("perspective.std_depth_m", min(spread) > 0, "be positive", spread)
        bounds = self.level_bounds_px
        ascending = list(bounds) == sorted(set(bounds))
        check("perspective.level_bounds_px", ascending, "ascend", bounds)


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """Hybrid object queries (arXiv 2211.10439, section 3.5): perspective boxes as reference points.

    Boxes of all cameras, suppressed in each image (``PerspectiveConfig.nms_iou``) and then in the
    bird's-eye view, stand beside the learned queries, in every group the same.
    """

    max_per_view: int = 100  # best boxes of an image that go on. Paper, k1
    bev_nms_iou: float = 0.3  # of rotated boxes seen from above, over all cameras. Paper
    max_proposals: int = 100  # a sample. Paper, k2; fewer boxes leave inactive queries
    # of a class in a sample, so that boxes of rare classes, of which a young detector is unsure,
    # do not all fall behind those of common ones. None: scores alone decide, as in the paper
    max_per_class: int | None = None
    score_threshold: float = 0.0  # boxes of a lower 3D score are no proposals
    # what the decoder takes from a proposal: its "place" alone, as in the paper; or the "box",
    # size, yaw, velocity, class and score too, which its queries start from and correct
    start: str = "place"

    def __post_init__(self) -> None:
        for name in ("max_per_view", "max_proposals"):
            check(f"proposals.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        most = self.max_per_class
        check("proposals.max_per_class", most is None or most > 0, "be positive or none", most)
        for name in ("bev_nms_iou", "score_threshold"):
            value = getattr(self, name)
            check(f"proposals.{name}", 0 <= value <= 1, "lie in [0, 1]", value)
        check("proposals.start", self.start in STARTS, f"be one of {STARTS}", self.start)
