"""Traffic lights and signs that a model predicts in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import (
    LAMP_SHAPES,
    LIGHT_COLORS,
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_ELEMENT_ATTRIBUTES,
    TRAFFIC_LIGHT,
)

Floats = NDArray[np.float64]

_OPENLANE_COLOR = {"red": "red", "yellow": "yellow", "green": "green", "red_yellow": "red"}


@dataclass(frozen=True, kw_only=True)
class TrafficDetections:
    """E predicted lights and signs of one frame, best first.

    Probabilities are calibrated: of the elements with probability p, a share p is right. Positions
    are in the ego frame (x forward, y left, z up) at the frame's reference time.

    Raises:
        ValueError: a shape does not fit ``boxes_px``.
    """

    camera: NDArray[np.int64]  # (E,) index of the frame's camera
    boxes_px: Floats  # (E, 4) left, top, right, bottom, pixels of the image as given
    scores: Floats  # (E,) probability that the box is an element of its category
    category: NDArray[np.int64]  # (E,) TRAFFIC_LIGHT or ROAD_SIGN
    color: Floats  # (E, len(LIGHT_COLORS)) probabilities; rows of signs are of no use
    shape: Floats  # (E, len(LAMP_SHAPES)) probabilities of the lit lamp's shape
    meaning: Floats  # (E, len(SIGN_MEANINGS)) probabilities; rows of lights are of no use
    position_m: Floats  # (E, 3) centre, in the ego frame
    position_cov_m2: Floats  # (E, 3, 3)
    heading_rad: Floats  # (E,) direction that the face points to, in the ego frame
    heading_std_rad: Floats  # (E,)
    relevance: (
        Floats  # (E, len(MANOEUVRES)) log-odds that it governs the ego for a manoeuvre; 0: no
    )
    lamp_box: NDArray[np.bool_] | None = None  # (E,) True: the box surrounds the lit lamp alone
    pedestrian: Floats | None = None  # (E,) probability that a light is for pedestrians
    speed_limit_mps: Floats | None = None  # (E,) NaN: none was read

    def __post_init__(self) -> None:
        count = len(self.boxes_px)
        shapes: dict[str, tuple[int, ...]] = {
            "camera": (count,),
            "boxes_px": (count, 4),
            "scores": (count,),
            "category": (count,),
            "color": (count, len(LIGHT_COLORS)),
            "shape": (count, len(LAMP_SHAPES)),
            "meaning": (count, len(SIGN_MEANINGS)),
            "position_m": (count, 3),
            "position_cov_m2": (count, 3, 3),
            "heading_rad": (count,),
            "heading_std_rad": (count,),
            "relevance": (count, len(MANOEUVRES)),
            "lamp_box": (count,),
            "pedestrian": (count,),
            "speed_limit_mps": (count,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(
                    f"TrafficDetections.{name} must have shape {shape}; got {value.shape}"
                )

    def __len__(self) -> int:
        """Return E."""
        return len(self.boxes_px)

    def __getitem__(
        self, index: NDArray[np.int64] | NDArray[np.bool_] | slice
    ) -> TrafficDetections:
        """Return some of the elements."""
        picked: dict[str, Any] = {}
        for field in fields(self):
            values = getattr(self, field.name)
            picked[field.name] = None if values is None else values[index]
        return TrafficDetections(**picked)

    @staticmethod
    def empty() -> TrafficDetections:
        """Return no elements."""
        return TrafficDetections(
            camera=np.zeros(0, np.int64),
            boxes_px=np.zeros((0, 4)),
            scores=np.zeros(0),
            category=np.zeros(0, np.int64),
            color=np.zeros((0, len(LIGHT_COLORS))),
            shape=np.zeros((0, len(LAMP_SHAPES))),
            meaning=np.zeros((0, len(SIGN_MEANINGS))),
            position_m=np.zeros((0, 3)),
            position_cov_m2=np.zeros((0, 3, 3)),
            heading_rad=np.zeros(0),
            heading_std_rad=np.zeros(0),
            relevance=np.zeros((0, len(MANOEUVRES))),
        )

    @staticmethod
    def concatenate(parts: Sequence[TrafficDetections]) -> TrafficDetections:
        """Concatenate the elements of several cameras, best first.

        An optional field is kept only if every part has it.
        """
        if not parts:
            return TrafficDetections.empty()
        values: dict[str, Any] = {}
        for field in fields(TrafficDetections):
            arrays = [getattr(part, field.name) for part in parts]
            missing = any(array is None for array in arrays)
            values[field.name] = None if missing else np.concatenate(arrays)
        merged = TrafficDetections(**values)
        return merged[np.argsort(-merged.scores, kind="stable")]

    def openlane_attributes(self) -> tuple[NDArray[np.int64], Floats]:
        """Return OpenLane-V2's most probable attribute (E,) and its confidence (E,).

        The confidence is the score times the probability of the attribute. OpenLane-V2 has no
        arrow lamps: a light has the attribute of its colour, red if red and yellow are lit.
        """
        attributes = np.zeros((len(self), len(TRAFFIC_ELEMENT_ATTRIBUTES)))
        lights = self.category == TRAFFIC_LIGHT
        for index, name in enumerate(LIGHT_COLORS):
            target = TRAFFIC_ELEMENT_ATTRIBUTES.index(_OPENLANE_COLOR.get(name, "unknown"))
            attributes[lights, target] += self.color[lights, index]
        signs = self.category == ROAD_SIGN
        for index, name in enumerate(SIGN_MEANINGS):
            known = name in TRAFFIC_ELEMENT_ATTRIBUTES
            target = TRAFFIC_ELEMENT_ATTRIBUTES.index(name) if known else 0
            attributes[signs, target] += self.meaning[signs, index]
        best = attributes.argmax(axis=1) if len(self) else np.zeros(0, np.int64)
        return best.astype(np.int64), self.scores * attributes[np.arange(len(self)), best]
