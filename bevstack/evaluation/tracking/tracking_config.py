"""Settings of the nuScenes tracking metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

# The seven classes in the order of the summary; the classes that stand still are not tracked.
TRACKING_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")

# In the devkit's order.
TRACKING_RANGE_M: Mapping[str, float] = MappingProxyType(
    {
        "car": 50,
        "truck": 50,
        "bus": 50,
        "trailer": 50,
        "pedestrian": 40,
        "motorcycle": 40,
        "bicycle": 40,
    }
)
# Values of a class that has true boxes, but not one match; -1: counted from the true boxes.
WORST_FIGURES: Mapping[str, float] = MappingProxyType(
    {
        "amota": 0.0,
        "amotp": 2.0,
        "recall": 0.0,
        "motar": 0.0,
        "mota": 0.0,
        "motp": 2.0,
        "mt": 0.0,
        "ml": -1.0,
        "faf": 500,
        "gt": -1,
        "tp": 0.0,
        "fp": -1.0,
        "fn": -1.0,
        "ids": -1.0,
        "frag": -1.0,
        "tid": 20,
        "lgd": 20,
    }
)
_COLORS = ("C9", "C2", "C0", "C6", "C5", "C3", "C1")  # of the devkit's plots, by class


@dataclass(frozen=True, kw_only=True)
class TrackingMetricConfig:
    """Settings of matching and averaging; the defaults are ``tracking_nips_2019``.

    nuScenes, arXiv 1903.11027, section 3.2; X. Weng et al., arXiv 1907.03961, section IV.
    """

    # metres from the ego in (x, y) within which boxes are scored
    class_range_m: Mapping[str, float] = field(default_factory=lambda: TRACKING_RANGE_M)
    distance_m: float = 2.0  # a pair of boxes nearer than this may match
    min_recall: float = 0.1  # lowest of the recall levels, which end at 1
    num_levels: int = 40  # number of recall levels
    max_boxes: int = 500  # predictions per sample

    def __post_init__(self) -> None:
        if set(self.class_range_m) != set(TRACKING_CLASSES):
            raise ValueError(
                f"class_range_m must name the classes {', '.join(TRACKING_CLASSES)}; got "
                f"{', '.join(self.class_range_m)}"
            )
        for name, valid in (
            ("distance_m", self.distance_m > 0),
            ("min_recall", 0 < self.min_recall < 1),
            ("num_levels", self.num_levels > 1),
            ("max_boxes", self.max_boxes > 0),
        ):
            if not valid:
                raise ValueError(f"{name} must be in its range; got {getattr(self, name)}")

    def recall_levels(self) -> NDArray[np.float64]:  # (num_levels,)
        """Return the recall levels in ascending order, rounded as in the devkit."""
        return np.linspace(self.min_recall, 1, self.num_levels).round(12)

    def devkit_form(self) -> dict[str, object]:
        """Return the settings as the devkit writes them."""
        return {
            "tracking_names": list(TRACKING_CLASSES),
            "pretty_tracking_names": {name: name.capitalize() for name in TRACKING_CLASSES},
            "tracking_colors": dict(zip(TRACKING_CLASSES, _COLORS, strict=True)),
            "class_range": dict(self.class_range_m),
            "dist_fcn": "center_distance",
            "dist_th_tp": self.distance_m,
            "min_recall": self.min_recall,
            "max_boxes_per_sample": self.max_boxes,
            "metric_worst": dict(WORST_FIGURES),
            "num_thresholds": self.num_levels,
        }
