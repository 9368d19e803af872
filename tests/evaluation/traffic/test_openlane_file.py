from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bevstack.evaluation.traffic.openlane_file import (
    read_openlane_frames,
    write_openlane_scores,
)
from bevstack.evaluation.traffic.openlane_score import score_openlane
from tests.fuzz.documents import openlane_frames

NAME = "val/0/315"
FRAME = rf"frame '{NAME}' of .*results\.json"


def read(folder: Path, content: Any, *, predicted: bool = True) -> Any:
    path = folder / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_openlane_frames(path, predicted=predicted)


def test_a_frame_is_read_as_arrays(tmp_path: Path) -> None:
    frame = read(tmp_path, openlane_frames(predicted=True))[NAME]
    assert [lane.shape for lane in frame.lanes_m] == [(3, 3), (2, 3)]
    assert frame.boxes_px.tolist() == [[10.5, 20.0, 14.0, 30.0]]
    assert (frame.category.tolist(), frame.attribute.tolist()) == ([1], [2])
    assert frame.confidence.tolist() == [0.75] and frame.lane_confidence.tolist() == [0.9, 0.4]
    assert frame.topology_ll.tolist() == [[0.0, 0.75], [0.25, 0.0]]
    assert frame.topology_lt.tolist() == [[0.5], [1.0]]


def test_the_truth_needs_no_confidences_and_its_scores_are_written(tmp_path: Path) -> None:
    truth = read(tmp_path, openlane_frames(predicted=False), predicted=False)
    assert truth[NAME].confidence.tolist() == [1.0]
    path = write_openlane_scores(tmp_path / "out", score_openlane(truth, truth))
    content = json.loads(path.read_text())
    assert path.name == "openlane_scores.json" and list(content) == ["scores", "AP_t"]
    assert content["scores"]["DET_l"] == 1.0 and len(content["AP_t"]) == 13


# (path of keys and indices, new value; DELETE removes; the message)
DELETE = object()
LANE, ELEMENT = ("lane_centerline", 1), ("traffic_element", 0)
FAULTS = [
    ((), [], rf"{FRAME} must be a JSON object; got \[\]"),
    (("lane_centerline",), DELETE, rf"{FRAME} must have the field 'lane_centerline'"),
    (("lane_centerline",), {}, rf"lane_centerline of {FRAME} must be a list"),
    (LANE, 3, rf"lane_centerline\[1\] of {FRAME} must be a JSON object; got 3"),
    ((*LANE, "id"), "a", rf"id of lane_centerline\[1\] of {FRAME} must be a whole number"),
    ((*LANE, "id"), 7, rf"id of traffic_element\[0\] of {FRAME} .* 7, that of lane_centerline\[1"),
    ((*LANE, "points"), [[0, 0]], rf"points of lane_centerline\[1\] of {FRAME}\[0\] must be 3"),
    ((*LANE, "points"), [], rf"points of lane_centerline\[1\] of {FRAME} must be at least 1"),
    ((*LANE, "points", 1, 2), None, rf"points of lane_centerline\[1\] of {FRAME}\[1\]\[2\] must"),
    ((*LANE, "points", 1, 2), float("nan"), rf"lane_centerline\[1\] of {FRAME}\[1\]\[2\] .*finite"),
    (
        (*LANE, "points", 0, 0),
        10**400,
        rf"lane_centerline\[1\] of {FRAME}\[0\]\[0\] must be finite",
    ),
    ((*LANE, "points", 0, 0), 1e12, rf"{FRAME}\[0\]\[0\] must be at most 1e\+09; got 1e\+12"),
    ((*LANE, "confidence"), DELETE, rf"lane_centerline\[1\] of {FRAME} must have .*'confidence'"),
    (
        (*LANE, "confidence"),
        "1",
        rf"confidence of lane_centerline\[1\] of {FRAME} must be a number",
    ),
    ((*ELEMENT, "confidence"), 1.5, rf"traffic_element\[0\] of {FRAME} must be from 0 to 1"),
    (
        (*ELEMENT, "category"),
        3,
        rf"category of traffic_element\[0\] of {FRAME} must be from 1 to 2",
    ),
    ((*ELEMENT, "attribute"), 13, rf"attribute of traffic_element\[0\] of {FRAME} .* 0 to 12"),
    ((*ELEMENT, "attribute"), True, rf"attribute of traffic_element\[0\] of {FRAME} .*whole"),
    (
        (*ELEMENT, "points"),
        [1, 2, 3, 4],
        rf"points of traffic_element\[0\] of {FRAME} must be 2 li",
    ),
    (
        (*ELEMENT, "points", 0, 0),
        True,
        rf"traffic_element\[0\] of {FRAME}\[0\]\[0\] must be a numb",
    ),
    (("topology_lclc",), [[0, 1]], rf"topology_lclc of {FRAME} must be 2 lists of 2 numbers"),
    (("topology_lclc", 1), [0], rf"topology_lclc of {FRAME}\[1\] must be 2 numbers"),
    (("topology_lclc", 1, 0), 2, rf"topology_lclc\[1\]\[0\] of {FRAME} must be from 0 to 1; got 2"),
    (("topology_lcte",), DELETE, rf"{FRAME} must have the field 'topology_lcte'"),
    (("topology_lcte", 0, 0), -0.5, rf"topology_lcte\[0\]\[0\] of {FRAME} must be from 0 to 1"),
]


@pytest.mark.parametrize(("place", "value", "message"), FAULTS)
def test_a_fault_is_named_with_frame_index_and_field(
    place: tuple[Any, ...], value: Any, message: str, tmp_path: Path
) -> None:
    content = copy.deepcopy(openlane_frames(predicted=True))
    *above, last = (NAME, *place)
    holder = content
    for key in above:
        holder = holder[key]
    if value is DELETE:
        del holder[last]
    else:
        holder[last] = value
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "results.json must be a JSON object"),
        ('{"a": ', "results file must be JSON; got .*cut off or damaged"),
        ('{"a": {}, "a": {}}', "the key 'a' twice"),
        ('{"": {}}', "name of a frame of .* must be 1 to 1024 printable characters"),
    ],
)
def test_other_content_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


def test_the_truth_needs_edges_of_0_or_1_and_lanes_of_two_points(tmp_path: Path) -> None:
    content = openlane_frames(predicted=False)
    content[NAME]["topology_lclc"][0][1] = 0.5
    with pytest.raises(ValueError, match=rf"topology_lclc\[0\]\[1\] of {FRAME} must be 0 or 1"):
        read(tmp_path, content, predicted=False)
    content = openlane_frames(predicted=False)
    content[NAME]["lane_centerline"][0]["points"] = [[0, 0, 0]]
    with pytest.raises(ValueError, match="must be at least 2 points; got 1"):
        read(tmp_path, content, predicted=False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="truth file must exist; got no file"):
        read_openlane_frames(tmp_path / "no.json", predicted=False)
