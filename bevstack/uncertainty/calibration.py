"""Calibration of a weights file's boxes, as the section "boxes" of its file of calibrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevstack.calibration_file import calibration_path, read_calibration
from bevstack.config.tracking import TrackingConfig
from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
)
from bevstack.types import Detections
from bevstack.types.uncertainty import ELLIPSES, LEVELS, BoxUncertainty
from bevstack.uncertainty.model import DETECTION_SPREADS, FEATURES, TRACK_SPREADS, BoxModel

SECTION = "boxes"
# Classes of one group share the offsets of the model.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("car",),
    ("truck", "bus", "trailer", "construction_vehicle"),
    ("motorcycle", "bicycle"),
    ("pedestrian",),
    ("traffic_cone", "barrier"),
)


@dataclass(frozen=True, kw_only=True)
class BoxCalibration:
    """Uncertainty of the boxes of one weights file: of its detections, and of their tracks."""

    groups: tuple[tuple[str, ...], ...]  # G groups of class names
    detections: BoxModel
    tracks: BoxModel
    tracking: TrackingConfig  # the settings of the tracker that the tracks are fitted with
    fitted_on: Mapping[str, Any]  # split, number of samples and of matched boxes

    def calibrated(
        self,
        detections: Detections,
        ego_position: Tensor,  # (2,) metres, in the frame of the boxes
    ) -> Detections:
        """Return a detector's boxes with their uncertainty.

        Raises:
            ValueError: a class belongs to no group.
        """
        found = self.detections.uncertainty(
            detections.boxes,
            detections.scores,
            self.group_of(detections.labels, detections.class_names),
            ego_position=ego_position,
        )
        return replace(detections, uncertainty=found)

    def track_uncertainty(
        self,
        boxes: Detections,  # the tracks as boxes, with class names
        covariance: Tensor,  # (M, 4, 4) of the tracker: x, y, vx, vy
        *,
        seen: Tensor,  # (M,) bool: the track has a box in this frame
        ego_position: Tensor,  # (2,) metres, in the frame of the tracks
    ) -> BoxUncertainty:
        """Return the uncertainty of tracks, in their frame.

        Raises:
            ValueError: a class belongs to no group.
        """
        return self.tracks.uncertainty(
            boxes.boxes,
            boxes.scores,
            self.group_of(boxes.labels, boxes.class_names),
            ego_position=ego_position,
            covariance=covariance,
            seen=seen,
        )

    def group_of(
        self,
        labels: Tensor,  # (D,)
        class_names: Sequence[str],
    ) -> Tensor:  # (D,) int64
        """Return the group of each box."""
        numbers = torch.tensor(group_numbers(self.groups, class_names), dtype=torch.int64)
        return numbers[labels.to("cpu")]

    def to_entry(self) -> dict[str, Any]:
        """Return plain numbers and texts, as the file holds them."""
        return {
            "groups": [list(names) for names in self.groups],
            "features": list(FEATURES),
            "detections": _model_entry(self.detections),
            "tracks": _model_entry(self.tracks),
            "tracking": asdict(self.tracking),
            "fitted_on": dict(self.fitted_on),
        }

    @staticmethod
    def from_entry(where: str, value: object) -> BoxCalibration:
        """Return the calibration of a JSON object; ``where`` is its place in messages.

        Raises:
            ValueError: a field is missing, unknown or of another kind.
        """
        entry = expect_object(where, value)
        groups = tuple(
            tuple(expect_text(f"groups of {where}", name) for name in expect_list(where, names))
            for names in expect_list(f"groups of {where}", expect_field(where, entry, "groups"))
        )
        if expect_field(where, entry, "features") != list(FEATURES):
            raise ValueError(
                f"features of {where} must be {', '.join(FEATURES)}; got {entry['features']}: fit "
                "it again with this version"
            )
        tracking = expect_object(f"tracking of {where}", expect_field(where, entry, "tracking"))
        known = asdict(TrackingConfig())
        if set(tracking) != set(known):
            raise ValueError(
                f"tracking of {where} must hold {', '.join(known)}; got {', '.join(tracking)}: fit "
                "it again with this version"
            )
        settings = {
            name: expect_number(f"{name} of tracking of {where}", number)
            for name, number in tracking.items()
        }
        return BoxCalibration(
            groups=groups,
            detections=_read_model(where, entry, "detections", DETECTION_SPREADS, len(groups)),
            tracks=_read_model(where, entry, "tracks", TRACK_SPREADS, len(groups)),
            tracking=TrackingConfig(**settings),
            fitted_on=expect_object(where, entry.get("fitted_on", {})),
        )


def read_box_calibration(weights: Path, class_names: Sequence[str]) -> BoxCalibration | None:
    """Return the calibration of boxes beside a weights file; None if there is none.

    Raises:
        ValueError: the file is malformed or belongs to other weights, or a class of the weights is
            in none of its groups.
    """
    entry = read_calibration(weights, SECTION)
    if entry is None:
        return None
    where = f"{SECTION} of {calibration_path(weights)}"
    calibration = BoxCalibration.from_entry(where, entry)
    group_numbers(calibration.groups, class_names)
    return calibration


def group_numbers(groups: Sequence[Sequence[str]], class_names: Sequence[str]) -> list[int]:
    """Return the group of each class.

    Raises:
        ValueError: a class belongs to no group.
    """
    number = {name: index for index, names in enumerate(groups) for name in names}
    for name in class_names:
        if name not in number:
            raise ValueError(
                f"groups of a calibration must hold every class; got none with {name!r}: fit it "
                "with these weights"
            )
    return [number[name] for name in class_names]


def _model_entry(model: BoxModel) -> dict[str, Any]:
    return {
        "spreads": {name: value.tolist() for name, value in model.spreads.items()},
        "existence": model.existence.tolist(),
        "flip": model.flip.tolist(),
        "radii": model.radii.tolist(),
    }


def _read_model(
    where: str, entry: Mapping[str, Any], name: str, spreads: Sequence[str], groups: int
) -> BoxModel:
    where = f"{name} of {where}"
    values = expect_object(where, expect_field(where, entry, name))
    found = expect_object(f"spreads of {where}", expect_field(where, values, "spreads"))

    def numbers(label: str, value: object, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(expect_numbers(f"{label} of {where}", value, shape))

    flip = numbers("flip", expect_field(where, values, "flip"), (groups,))
    if not bool(((flip >= 0) & (flip <= 1)).all()):
        raise ValueError(f"flip of {where} must be from 0 to 1; got {flip.tolist()}")
    shape = (groups, len(ELLIPSES), len(LEVELS))
    radii = numbers("radii", expect_field(where, values, "radii"), shape)
    if not bool((radii > 0).all()):
        raise ValueError(f"radii of {where} must be positive; got {radii.min().item():g}")
    return BoxModel(
        spreads={
            key: numbers(key, expect_field(where, found, key), (groups + len(FEATURES),))
            for key in spreads
        },
        existence=numbers("existence", expect_field(where, values, "existence"), (2, groups, 2)),
        flip=flip,
        radii=radii,
    )
