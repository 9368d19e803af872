"""The rule of colour blobs: lamps it must find, and its score on real pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from bevstack.datasets.images import read_image
from bevstack.datasets.traffic import read
from bevstack.evaluation.baselines.color_blobs import BlobRule, find_color_blobs
from bevstack.evaluation.traffic.openlane_frames import OpenLaneFrame
from bevstack.evaluation.traffic.openlane_score import attribute_precisions
from bevstack.types.labelled_images import LabelledImage
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES
from tests.conftest import shared_dir

COLORS = {"red": (230, 30, 20), "yellow": (240, 190, 30), "green": (30, 220, 170)}


def frame(image: LabelledImage) -> OpenLaneFrame:
    """Return a picture as a frame without lanes."""
    count = len(image.elements)
    boxes = np.array([element.box_px for element in image.elements], np.float32)
    return OpenLaneFrame(
        lanes_m=(),
        lane_confidence=np.zeros(0),
        boxes_px=boxes.reshape(count, 4),
        category=np.array([element.category for element in image.elements], np.int64),
        attribute=np.array([element.attribute for element in image.elements], np.int64),
        confidence=np.ones(count) if image.scores is None else np.array(image.scores, float),
        topology_ll=np.zeros((0, 0), np.float32),
        topology_lt=np.zeros((0, count), np.float32),
    )


def precisions(
    truth: Sequence[LabelledImage], predicted: Sequence[LabelledImage]
) -> dict[str, float]:
    """Return the average precision at an IoU over 0.25 of each attribute."""
    found = attribute_precisions([frame(t) for t in truth], [frame(p) for p in predicted])[0]
    return dict(zip(TRAFFIC_ELEMENT_ATTRIBUTES, found, strict=True))


@pytest.mark.parametrize("color", COLORS)
def test_a_lamp_of_each_colour_is_found_and_the_higher_one_is_first(color: str) -> None:
    image = np.full((120, 200, 3), 90, np.uint8)
    for x, y in ((60, 80), (140, 20)):
        cv2.circle(image, (x, y), 5, COLORS[color], -1)
    found = find_color_blobs(image, path="a.png", rule=BlobRule(grow=0.0))
    assert [element.box_px for element in found.elements] == [
        (135, 15, 146, 26),
        (55, 75, 66, 86),
    ]
    assert {TRAFFIC_ELEMENT_ATTRIBUTES[e.attribute] for e in found.elements} == {color}
    assert found.scores is not None and found.scores[0] > found.scores[1]


def test_a_housing_is_guessed_around_its_lamp() -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    cv2.circle(image, (100, 100), 5, COLORS["green"], -1)
    (element,) = find_color_blobs(image, path="a.png", box_convention="housing").elements
    left, top, right, bottom = element.box_px
    assert left < 95 and right > 106 and bottom - top > 2 * (right - left)
    assert 100 - top > bottom - 100  # green is the lowest of three lamps


def test_large_long_and_pale_regions_are_no_lamps() -> None:
    image = np.full((100, 100, 3), 90, np.uint8)
    image[10:50, 10:50] = COLORS["red"]  # 16 % of the image
    image[60:63, 10:60] = COLORS["red"]
    image[80:90, 80:90] = (140, 120, 120)
    assert find_color_blobs(image, path="a.png").elements == ()


# Measured; the rule is deterministic. Five of 100: another decoder's rounding may move a blob.
@pytest.mark.oracle("data_traffic_lights")
def test_the_rule_solves_red_and_green_lamps_of_a_small_real_set() -> None:
    shared = shared_dir()
    assert shared is not None
    root = shared / "data" / "traffic_lights" / "kr"
    images = read(root, "yolo", box_convention="lamp").images
    truth = [image for image in images if image.path.startswith("valid/")]
    found = [find_color_blobs(read_image(root / t.path), path=t.path) for t in truth]
    result = precisions(truth, found)
    assert result["red"] == pytest.approx(1.00, abs=0.05)
    assert result["green"] == pytest.approx(0.88, abs=0.05)
    assert result["turn_left"] == 0.0  # it knows no arrows
