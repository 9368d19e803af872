"""True and predicted lights and signs of many images as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.types.traffic import LAMP, TrafficElement, light_color
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LIGHT_COLORS, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_COLOR = -1


@dataclass(frozen=True, kw_only=True)
class ElementColumns:
    """N lights and signs, true or predicted, in the order of their images.

    Raises:
        ValueError: columns have different lengths.
    """

    image: Ints  # (N,) number of the image
    boxes_px: Floats  # (N, 4) left, top, right, bottom
    category: Ints  # (N,) TRAFFIC_LIGHT or ROAD_SIGN
    attribute: Ints  # (N,) index into TRAFFIC_ELEMENT_ATTRIBUTES
    color: Ints  # (N,) index into LIGHT_COLORS; NO_COLOR of signs and if unknown
    lamp_box: Bools  # (N,) True: the box surrounds the lit lamp alone
    distance_m: Floats  # (N,) from the vehicle; NaN: unknown
    speed_limit_mps: Floats  # (N,) number on a sign; NaN: none, or not read
    visibility: Floats  # (N,) 0..1 if true, 0 of lamps shown dark; ones if predicted
    scores: Floats  # (N,) of the attribute; ones if true

    def __post_init__(self) -> None:
        for name in ("boxes_px", "category", "attribute", "color", "lamp_box", "distance_m"):
            self._expect_length(name)
        for name in ("speed_limit_mps", "visibility", "scores"):
            self._expect_length(name)

    def _expect_length(self, name: str) -> None:
        if len(getattr(self, name)) != len(self.image):
            raise ValueError(
                f"ElementColumns.{name} must have {len(self.image)} rows; "
                f"got {len(getattr(self, name))}"
            )

    def __len__(self) -> int:
        """Return N."""
        return len(self.image)

    @property
    def height_px(self) -> Floats:  # (N,)
        """Return the heights of the boxes."""
        height: Floats = self.boxes_px[:, 3] - self.boxes_px[:, 1]
        return height

    def select(self, rows: Bools) -> ElementColumns:
        """Return some of the elements."""
        return ElementColumns(
            image=self.image[rows],
            boxes_px=self.boxes_px[rows],
            category=self.category[rows],
            attribute=self.attribute[rows],
            color=self.color[rows],
            lamp_box=self.lamp_box[rows],
            distance_m=self.distance_m[rows],
            speed_limit_mps=self.speed_limit_mps[rows],
            visibility=self.visibility[rows],
            scores=self.scores[rows],
        )


def true_columns(
    elements: Sequence[TrafficElement],
    images: Ints,  # (N,) number of each element's image
    ego_position_m: Floats,  # (N, 3) of the vehicle at that image, in the world frame
) -> ElementColumns:
    """Return true elements as columns, in the order of their images."""
    order = np.argsort(images, kind="stable")
    elements = [elements[row] for row in order]
    positions = [(np.nan,) * 3 if e.position_m is None else e.position_m for e in elements]
    gaps = np.array(positions, np.float64).reshape(-1, 3) - ego_position_m[order]
    count = len(elements)
    return ElementColumns(
        image=images[order],
        boxes_px=np.array([e.box_px for e in elements], np.float64).reshape(count, 4),
        category=np.array([e.category for e in elements], np.int64),
        attribute=np.array([e.attribute for e in elements], np.int64),
        color=np.array([true_color(e) for e in elements], np.int64),
        lamp_box=np.array([e.box_convention == LAMP for e in elements], np.bool_),
        distance_m=np.linalg.norm(gaps, axis=1),
        speed_limit_mps=np.array(
            [np.nan if e.speed_limit_mps is None else e.speed_limit_mps for e in elements],
            np.float64,
        ),
        # The state of a lamp that is lit and dark in the image cannot be read from the image
        visibility=np.array([0.0 if e.is_dark else e.visibility for e in elements], np.float64),
        scores=np.ones(count),
    )


def predicted_columns(
    detections: Sequence[TrafficDetections],
    images: Sequence[Ints],  # of each frame: (C,) numbers of the images of its cameras
) -> ElementColumns:
    """Return the predicted elements of many frames as columns, in the order of their images.

    The attribute and its confidence are those of ``TrafficDetections.openlane_attributes``. The
    order of an image's elements is kept.
    """
    merged = [
        (some, numbers[some.camera]) for some, numbers in zip(detections, images, strict=True)
    ]
    image = np.concatenate([np.zeros(0, np.int64), *(numbers for _, numbers in merged)])
    order = np.argsort(image, kind="stable")
    attributes = [some.openlane_attributes() for some in detections]
    is_light = _joined([some.category for some in detections], np.int64) == TRAFFIC_LIGHT
    colors = [
        some.color.argmax(axis=1) if len(some) else np.zeros(0, np.int64) for some in detections
    ]
    lamp_boxes = [
        np.zeros(len(some), np.bool_) if some.lamp_box is None else some.lamp_box
        for some in detections
    ]
    limits = [
        np.full(len(some), np.nan) if some.speed_limit_mps is None else some.speed_limit_mps
        for some in detections
    ]
    boxes = np.concatenate([np.zeros((0, 4)), *(some.boxes_px for some in detections)])
    positions = np.concatenate([np.zeros((0, 3)), *(some.position_m for some in detections)])
    return ElementColumns(
        image=image[order],
        boxes_px=boxes[order],
        category=_joined([some.category for some in detections], np.int64)[order],
        attribute=_joined([a for a, _ in attributes], np.int64)[order],
        color=np.where(is_light, _joined(colors, np.int64), NO_COLOR)[order],
        lamp_box=_joined(lamp_boxes, np.bool_)[order],
        distance_m=np.linalg.norm(positions, axis=1)[order],
        speed_limit_mps=_joined(limits, np.float64)[order],
        visibility=np.ones(len(image)),
        scores=_joined([c for _, c in attributes], np.float64)[order],
    )


def true_color(element: TrafficElement) -> int:
    """Return the index of a light's colour in LIGHT_COLORS, from its lamps or its attribute.

    ``NO_COLOR`` of a sign, of lamps that show no known colour or that the image does not show, and
    if only the attribute "unknown" is there.
    """
    if element.category != TRAFFIC_LIGHT or not element.shows_lamps:
        return NO_COLOR
    if element.lamps is not None:
        try:
            return LIGHT_COLORS.index(light_color(element.lamps))
        except ValueError:  # white or unknown lamps
            return NO_COLOR
    name = TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
    return LIGHT_COLORS.index(name) if name in LIGHT_COLORS else NO_COLOR


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])
