"""Figures of the traffic head on single images: precision of colours and signs, right colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.types.traffic import TrafficElement, attribute_of_lamps
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

LIGHT_HEIGHT_PX, SIGN_HEIGHT_PX = 6.0, 10.0  # lower true elements do not count
IOU = 0.25  # OpenLane-V2's
COLORS = ("red", "green", "yellow")


class Judged(NamedTuple):
    """Detections and true elements of one image."""

    detections: TrafficDetections
    truth: Sequence[TrafficElement]


def figures(judged: Sequence[Judged]) -> dict[str, float]:
    """Return average precision of colours and signs, their means, and errors of matched lights.

    The headline is the mean of the lights' and the signs' macro average precision over attributes
    that occur.
    """
    lights = {
        name: average_precision(judged, TRAFFIC_LIGHT, name, LIGHT_HEIGHT_PX) for name in COLORS
    }
    signs = {
        name: average_precision(judged, ROAD_SIGN, name, SIGN_HEIGHT_PX)
        for name in TRAFFIC_ELEMENT_ATTRIBUTES[4:]
    }
    light, sign = _mean(lights.values()), _mean(signs.values())
    found = {f"ap_{name}": value for name, value in lights.items() if not np.isnan(value)}
    return {
        "headline": _mean([light, sign]),
        "light_map": light,
        "sign_map": sign,
        **found,
        "light_ap": average_precision(judged, TRAFFIC_LIGHT, None, LIGHT_HEIGHT_PX),
        "sign_ap": average_precision(judged, ROAD_SIGN, None, SIGN_HEIGHT_PX),
        "color_accuracy": color_accuracy(judged),
    }


def average_precision(
    judged: Sequence[Judged], category: int, attribute: str | None, height_px: float
) -> float:
    """Return the area under the precision-recall curve; NaN without a true element.

    A detection is right if it overlaps an element that has no better detection. Detections of
    elements that are too low do not count. ``attribute`` None: every attribute is right.
    """
    scores: list[NDArray[np.float64]] = []
    right: list[NDArray[np.bool_]] = []
    count = 0
    for detections, truth in judged:
        own = detections[detections.category == category]
        attributes, confidence = own.openlane_attributes()
        index = None if attribute is None else TRAFFIC_ELEMENT_ATTRIBUTES.index(attribute)
        if index is not None:
            own, confidence = own[attributes == index], confidence[attributes == index]
        else:
            confidence = own.scores
        wanted = [
            element
            for element in truth
            if element.category == category and index in (None, _attribute(element))
        ]
        tall = np.array([_height(element) >= height_px for element in wanted], np.bool_)
        hit, counts = _match(own.boxes_px, confidence, wanted, tall)
        count += int(tall.sum())
        scores.append(confidence[counts])
        right.append(hit[counts])
    if not count:
        return float("nan")
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    recall = hits / count
    return float(np.sum(np.diff(np.concatenate(([0.0], recall))) * highest))


def color_accuracy(judged: Sequence[Judged]) -> float:
    """Return the share of matched lights of known colour whose colour is right; NaN without."""
    right, count = 0, 0
    for detections, truth in judged:
        own = detections[detections.category == TRAFFIC_LIGHT]
        attributes, _ = own.openlane_attributes()
        for element in truth:
            known = element.category == TRAFFIC_LIGHT and _attribute(element) > 0
            if not known or _height(element) < LIGHT_HEIGHT_PX or not len(own):
                continue
            overlap = _overlap(own.boxes_px, np.array(element.box_px))
            best = int(np.argmax(np.where(overlap > IOU, own.scores, -1)))
            if overlap[best] > IOU:
                count += 1
                right += int(attributes[best] == _attribute(element))
    return right / count if count else float("nan")


def _match(
    boxes: NDArray[np.float64],
    confidence: NDArray[np.float64],
    wanted: Sequence[TrafficElement],
    tall: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections are right, and which count, best first matched."""
    hit, counts = np.zeros(len(boxes), np.bool_), np.ones(len(boxes), np.bool_)
    taken = np.zeros(len(wanted), np.bool_)
    truth = np.array([element.box_px for element in wanted]).reshape(-1, 4)
    for row in np.argsort(-confidence, kind="stable"):
        overlap = _overlap(truth, boxes[row])
        best = int(np.argmax(overlap)) if len(overlap) else -1
        if best < 0 or overlap[best] <= IOU:
            continue
        if not tall[best]:
            counts[row] = False
        elif not taken[best]:
            hit[row] = taken[best] = True
    return hit, counts


def _overlap(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - inner
    return np.asarray(inner / np.maximum(union, 1e-9))


def _attribute(element: TrafficElement) -> int:
    if element.category == TRAFFIC_LIGHT and element.lamps is not None:
        return attribute_of_lamps(element.lamps)
    return element.attribute


def _height(element: TrafficElement) -> float:
    return element.box_px[3] - element.box_px[1]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else 0.0
