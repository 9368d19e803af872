"""Average precision of lights and signs in single pictures, beside a rule without learning.

A prediction matches a true element of its attribute as in OpenLane-V2: IoU above 0.25. Only
predictions with the box convention of the true elements count, as a lamp's box is no housing's.
Intervals draw groups of pictures of one photo or place. Letters: I pictures, C groups.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.bootstrap import Interval, difference_intervals, intervals
from bevstack.evaluation.traffic.average_precision import (
    NO_MATCH,
    box_distance,
    find_nearest,
    interpolated_precision,
    match_nearest,
    pairs_within_groups,
)
from bevstack.evaluation.traffic.openlane_score import BOX_THRESHOLD
from bevstack.files import write_text_atomically
from bevstack.types.labelled_images import LabelledImage
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
METRICS_NAME = "picture_metrics.json"


@dataclass(frozen=True, kw_only=True)
class AttributeScore:
    """The average precision of one attribute, with intervals."""

    attribute: str  # of TRAFFIC_ELEMENT_ATTRIBUTES, or "mean" over those with true elements
    num_truth: int
    num_groups: int  # with a true element of the attribute
    model: Interval
    rule: Interval
    difference: Interval  # model minus rule


class _Matches(NamedTuple):
    """Predictions of one attribute, best first."""

    hits: NDArray[np.bool_]  # (P,)
    image: Ints  # (P,)
    truth_image: Ints  # (T,)


class PictureFigures:
    """Average precision of every attribute present, and their mean, as a function of weights.

    Args:
        truth: the true elements of each picture.
        predicted: the predicted elements of the same pictures, in the same order.
        group: (I,) index of each picture's group.
        attributes: the attributes to score.
    """

    def __init__(
        self,
        truth: Sequence[LabelledImage],
        predicted: Sequence[LabelledImage],
        *,
        group: Ints,
        attributes: Sequence[int],
    ) -> None:
        self.num_scenes = int(group.max()) + 1
        self.attributes = tuple(attributes)
        self._group = group
        self._matches = [_match(truth, predicted, attribute) for attribute in attributes]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        return (*(TRAFFIC_ELEMENT_ATTRIBUTES[a] for a in self.attributes), "mean")

    def figures(self, weights: Ints) -> Floats:  # (F,)
        """Compute average precisions; NaN for an attribute without a true element."""
        images = weights[self._group]
        found = []
        for hits, image, truth_image in self._matches:
            count = int(images[truth_image].sum())
            value = interpolated_precision(hits, count, images[image]) if count else np.nan
            found.append(value)
        known = [value for value in found if not np.isnan(value)]
        return np.array([*found, float(np.mean(known)) if known else np.nan])


def score_pictures(
    truth: Sequence[LabelledImage],
    predicted: Sequence[LabelledImage],
    rule: Sequence[LabelledImage],
    groups: Sequence[str],
    *,
    draws: int,
) -> tuple[AttributeScore, ...]:
    """Score predictions and a rule on the same pictures, attribute by attribute.

    Args:
        truth: annotated pictures.
        predicted: predictions of the pictures, in any order; further pictures are ignored.
        rule: predictions of the rule.
        groups: the group of each annotated picture.
        draws: number of random draws of groups for each interval.

    Raises:
        ValueError: there is no true element, or a picture has no predictions.
    """
    attributes = sorted({e.attribute for image in truth for e in image.elements})
    if not attributes:
        raise ValueError(f"pictures must have a true element; got none in {len(truth)} pictures")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    group = np.array([numbers[name] for name in groups], np.int64)
    model, other = (
        PictureFigures(truth, _same_pictures(truth, some), group=group, attributes=attributes)
        for some in (predicted, rule)
    )
    parts = (
        intervals(model, draws=draws),
        intervals(other, draws=draws),
        difference_intervals(other, model, draws=draws),
    )
    rows = [*([a] for a in attributes), attributes]
    counts = [_count(truth, groups, chosen) for chosen in rows]
    return tuple(
        AttributeScore(
            attribute=own.name,
            num_truth=count,
            num_groups=held,
            model=own,
            rule=remaining,
            difference=difference,
        )
        for own, remaining, difference, (count, held) in zip(*parts, counts, strict=True)
    )


def write_picture_metrics(path: Path, scores: Sequence[AttributeScore], name: str) -> Path:
    """Write scores as JSON into a folder and return the file's path; NaN becomes null.

    Raises:
        OSError: the file cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    file = path / METRICS_NAME
    content = {"pictures": name, "attributes": [dataclasses.asdict(score) for score in scores]}
    text = json.dumps(_defined(content), indent=1, allow_nan=False)
    write_text_atomically(file, text + "\n")
    return file


def _defined(value: object) -> object:
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _same_pictures(
    truth: Sequence[LabelledImage], predicted: Sequence[LabelledImage]
) -> list[LabelledImage]:
    by_path = {image.path: image for image in predicted}
    missing = [image.path for image in truth if image.path not in by_path]
    if missing:
        raise ValueError(
            f"predictions must hold every picture; got none of {missing[0]} and "
            f"{len(missing) - 1} more: predict the folder that the labels lie in"
        )
    return [by_path[image.path] for image in truth]


def _match(
    truth: Sequence[LabelledImage], predicted: Sequence[LabelledImage], attribute: int
) -> _Matches:
    conventions = {e.box_convention for image in truth for e in image.elements}
    true = [
        (row, e.box_px)
        for row, image in enumerate(truth)
        for e in image.elements
        if e.attribute == attribute
    ]
    own = [
        (row, e.box_px, score)
        for row, image in enumerate(predicted)
        for e, score in zip(image.elements, image.scores or (), strict=True)
        if e.attribute == attribute and e.box_convention in conventions
    ]
    scores = np.array([score for _, _, score in own], np.float64)
    truth_image = np.array([row for row, _ in true], np.int64)
    image = np.array([row for row, _, _ in own], np.int64)
    pairs = pairs_within_groups(truth_image, image)
    true_px = np.array([box for _, box in true], np.float64).reshape(-1, 4)
    own_px = np.array([box for _, box, _ in own], np.float64).reshape(-1, 4)
    distance = box_distance(true_px[pairs.truth], own_px[pairs.prediction])
    matches = match_nearest(find_nearest(pairs, distance, len(own)), scores, BOX_THRESHOLD)
    order = np.argsort(-scores, kind="stable")
    return _Matches(matches[order] != NO_MATCH, image[order], truth_image)


def _count(
    truth: Sequence[LabelledImage], groups: Sequence[str], attributes: Sequence[int]
) -> tuple[int, int]:
    counts = [sum(e.attribute in attributes for e in image.elements) for image in truth]
    held = {group for group, count in zip(groups, counts, strict=True) if count}
    return sum(counts), len(held)
