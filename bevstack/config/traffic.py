"""Configuration of the traffic head, which detects lights and signs in the front cameras."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check
from bevstack.config.limits import check_section

KMH_PER_MPS = 3.6
MAX_STAGE = 3  # of a backbone, at stride 32
SHUFFLE_COLORS, SWAP_SIDES = "shuffle_colors", "swap_sides"
CONTROLS = ("", SHUFFLE_COLORS, SWAP_SIDES)  # wrong labels, in training alone


@dataclass(frozen=True, kw_only=True)
class TrafficConfig:
    """Traffic lights and signs: their own view of the front cameras, the head and its losses.

    Lengths in pixels are those of the view. All values are own choices.
    """

    # View: uncropped, at native scale up to ``max_width_px``
    num_cameras: int = 1  # front cameras, those nearest to straight ahead first
    rows: tuple[float, float] = (0.0, 0.65)  # part of the image's rows that is seen, from the top
    max_width_px: int = 800  # wider images are reduced to this width
    # Model
    stages: tuple[int, ...] = (0, 1)  # of the backbone; stage s has stride 4 * 2 ** s
    train_backbone: bool = True  # False: losses of lights and signs do not change the backbone
    channels: int = 48  # of the map at stride 4
    pixel_channels: int = 0  # of two convolutions from the image to the map; 0: none
    num_convs: int = 2  # of the dense tower, 3x3
    roi_channels: int = 96  # hidden units of the classifier of regions
    roi_map_cells: int = 4  # cells a side that a region samples from the map
    roi_image_cells: int = 12  # cells a side that a region samples from the image
    number_cells: int = 24  # the same, for the reader of numbers on signs
    max_candidates: int = 48  # peaks of an image that become regions
    max_elements: int = 32  # predictions of an image
    score_threshold: float = 0.03  # lowest score of a prediction
    nms_iou: float = 0.4  # overlap of boxes of one kind above which the worse one is dropped
    bearing_std_px: float = 0.7  # standard deviation of a box's centre, across the line of sight
    speed_limits_kmh: tuple[int, ...] = ()  # numbers on signs that are read; empty: none
    relevance_map: bool = False  # relevance also sees the detector's BEV map, where there is one
    # Labels
    min_height_px: float = 5.0  # lower elements are neither positive nor negative
    min_visibility: float = 0.3  # nor are elements of which less is visible
    # Losses
    samples: int = 4  # of training.batch_size; the remaining samples of a step train the boxes
    task_weight: float = 1.0  # of the losses of lights and signs beside those of the boxes
    box_weight: float = 1.0
    factor_weight: float = 1.0  # of colour, shape, road user and meaning
    place_weight: float = 0.3  # of depth and heading
    relevance_weight: float = 0.5
    yellow_weight: float = 4.0  # of yellow and of red with yellow among the colours
    # Augmentation
    mirror: bool = True
    photometric: bool = True  # exposure, brightness, contrast, saturation; never hue
    glare: float = 0.0  # share of the samples with a white veil, as of a low sun ahead
    scale: tuple[float, float] = (0.8, 1.25)  # range of the zoom, drawn uniformly in its logarithm
    window_px: int = 0  # side of the part of a single picture that a step trains on; 0: all of it
    # Exponent of repeat-factor sampling (LVIS, arXiv 1908.03195, 2.3); 0: every frame once
    balance: float = 0.5
    # For controls only, whose scores must collapse. "shuffle_colors": each light's colour is drawn
    # at random; "swap_sides": left and right of arrows, meanings and turns are swapped, not images
    control: str = ""

    def __post_init__(self) -> None:
        check_section("traffic", self)
        positive = (
            "samples",
            "task_weight",
            "num_cameras",
            "max_width_px",
            "channels",
            "num_convs",
            "roi_channels",
            "roi_map_cells",
            "roi_image_cells",
            "number_cells",
            "max_candidates",
            "max_elements",
            "bearing_std_px",
            "yellow_weight",
        )
        for name in positive:
            value = getattr(self, name)
            check(f"traffic.{name}", value > 0, "be positive", value)
        for name in ("box_weight", "factor_weight", "place_weight", "relevance_weight", "balance"):
            value = getattr(self, name)
            check(f"traffic.{name}", value >= 0, "be at least 0", value)
        for name in ("score_threshold", "nms_iou", "min_visibility", "glare"):
            value = getattr(self, name)
            check(f"traffic.{name}", 0 <= value <= 1, "lie in [0, 1]", value)
        top, bottom = self.rows
        check("traffic.rows", 0 <= top < bottom <= 1, "ascend within [0, 1]", self.rows)
        check("traffic.window_px", self.window_px >= 0, "be at least 0", self.window_px)
        low, high = self.scale
        check("traffic.scale", 0 < low <= high, "ascend and be above 0", self.scale)
        ascending = list(self.stages) == sorted(set(self.stages)) and len(self.stages) > 0
        inside = ascending and self.stages[0] == 0 and self.stages[-1] <= MAX_STAGE
        check("traffic.stages", inside, f"ascend from 0 to at most {MAX_STAGE}", self.stages)
        limits = self.speed_limits_kmh
        distinct = list(limits) == sorted(set(limits)) and all(limit > 0 for limit in limits)
        check("traffic.speed_limits_kmh", distinct, "ascend from above 0", limits)
        known = self.control in CONTROLS
        check("traffic.control", known, f"be one of {CONTROLS}", self.control)
        cells = self.roi_image_cells
        check("traffic.roi_image_cells", cells % 4 == 0, "be a multiple of 4", cells)
        cells = self.number_cells
        check("traffic.number_cells", cells % 4 == 0, "be a multiple of 4", cells)
        pixels = self.pixel_channels
        check("traffic.pixel_channels", pixels % 8 == 0, "be a multiple of 8, or 0", pixels)
        check("traffic.channels", self.channels % 8 == 0, "be a multiple of 8", self.channels)
