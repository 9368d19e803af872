"""Detections of a picture in the form of the files of elements."""

from __future__ import annotations

import numpy as np

from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import HOUSING, LAMP, TrafficElement
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

# OpenLane-V2's attribute of an arrow lamp, in files that annotate arrows of lit lamps.
_ARROW_ATTRIBUTES = {
    "straight": "go_straight",
    "left": "turn_left",
    "right": "turn_right",
    "u_turn": "u_turn",
    "slight_left": "slight_left",
    "slight_right": "slight_right",
}


def labelled_image(path: str, size: tuple[int, ...], elements: TrafficDetections) -> LabelledImage:
    """Return predicted elements of one picture with OpenLane-V2's attributes, best first."""
    attributes, confidences = elements.openlane_attributes()
    arrows = np.array([_arrow(name) for name in LAMP_SHAPES])
    is_lamp = np.zeros(len(elements), bool) if elements.lamp_box is None else elements.lamp_box
    if len(elements):
        shape = elements.shape.argmax(axis=1)
        probability = elements.shape.max(axis=1)
        is_arrow = (elements.category == TRAFFIC_LIGHT) & is_lamp & (arrows[shape] >= 0)
        attributes = np.where(is_arrow, arrows[shape], attributes)
        confidences = np.where(is_arrow, elements.scores * probability, confidences)
    order = np.argsort(-confidences, kind="stable")
    height, width = size[:2]
    rows = []
    for number, row in enumerate(order.tolist()):
        left, top, right, bottom = elements.boxes_px[row].tolist()
        rows.append(
            TrafficElement(
                token=str(number),
                category=int(elements.category[row]),
                attribute=int(attributes[row]),
                box_px=(left, top, right, bottom),
                sample_data_token=path,
                box_convention=LAMP if is_lamp[row] else HOUSING,
            )
        )
    return LabelledImage(
        path=path,
        size=(int(height), int(width)),
        elements=tuple(rows),
        scores=tuple(confidences[order].tolist()),
    )


def _arrow(shape: str) -> int:
    """Return the attribute of an arrow lamp; -1 for a lamp that is no arrow."""
    name = _ARROW_ATTRIBUTES.get(shape)
    return -1 if name is None else TRAFFIC_ELEMENT_ATTRIBUTES.index(name)
