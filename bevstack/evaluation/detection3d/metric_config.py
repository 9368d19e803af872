"""Settings of the nuScenes detection metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bevstack.vocabulary import DETECTION_CLASSES

# In the devkit's order: sums over classes follow it, so their last bits depend on it.
NUSCENES_RANGE_M: Mapping[str, float] = MappingProxyType(
    {
        "car": 50,
        "truck": 50,
        "bus": 50,
        "trailer": 50,
        "construction_vehicle": 50,
        "pedestrian": 40,
        "motorcycle": 40,
        "bicycle": 40,
        "traffic_cone": 30,
        "barrier": 30,
    }
)


@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """Settings of matching and averaging; the defaults are ``detection_cvpr_2019``.

    nuScenes, arXiv 1903.11027, section 3.1.
    """

    # metres from the ego in (x, y) within which boxes are scored; in the order of the summary
    class_range_m: Mapping[str, float] = field(default_factory=lambda: NUSCENES_RANGE_M)
    distances_m: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)  # upper limits of the matching distance
    error_distance_m: float = 2.0  # the limit whose matches determine the five errors
    min_recall: float = 0.1  # averages leave out recalls up to this one
    min_precision: float = 0.1  # subtracted from every precision
    max_boxes: int = 500  # predictions per sample
    mean_ap_weight: int = 5  # of mAP in NDS, against 1 for each error

    def __post_init__(self) -> None:
        if set(self.class_range_m) != set(DETECTION_CLASSES):
            raise ValueError(
                f"class_range_m must name the classes {', '.join(DETECTION_CLASSES)}; got "
                f"{', '.join(self.class_range_m)}"
            )
        if self.error_distance_m not in self.distances_m:
            raise ValueError(
                f"error_distance_m must be one of distances_m {self.distances_m}; got "
                f"{self.error_distance_m}"
            )
        for name, valid in (
            ("distances_m", all(distance > 0 for distance in self.distances_m)),
            ("min_recall", 0 <= self.min_recall <= 1),
            ("min_precision", 0 <= self.min_precision < 1),
        ):
            if not valid:
                raise ValueError(f"{name} must be in its range; got {getattr(self, name)}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the classes in the order of the summary."""
        return tuple(self.class_range_m)

    def devkit_form(self) -> dict[str, object]:
        """Return the settings as the devkit writes them."""
        return {
            "class_range": dict(self.class_range_m),
            "dist_fcn": "center_distance",
            "dist_ths": list(self.distances_m),
            "dist_th_tp": self.error_distance_m,
            "min_recall": self.min_recall,
            "min_precision": self.min_precision,
            "max_boxes_per_sample": self.max_boxes,
            "mean_ap_weight": self.mean_ap_weight,
        }
