"""What is drawn of lights: of the own lane in the truth, and of the frame in a file of cues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, write_traffic_frames
from bevstack.render import TrafficLayer
from bevstack.runtime.stream_protocol import StreamState
from bevstack.runtime.traffic_pictures import (
    TrueTraffic,
    find_predicted_traffic,
    state_layer,
    traffic_layer,
)
from bevstack.types import Frame, Reset
from bevstack.types.traffic_detections import TrafficDetections
from tests.render.traffic_marks import make_cue, make_ego_cues
from tests.runtime.traffic_scenes import street_frame


def element(token: str, lane: str, *, color: str, manoeuvres: list[str]) -> dict[str, object]:
    """Return a row of a light 40 m ahead of the origin."""
    return {
        "token": token,
        "sample_token": "street 0.00",
        "sample_data_token": "picture",
        "instance_token": f"light {token}",
        "camera": "CAM_FRONT",
        "category": 1,
        "attribute": {"red": 1, "green": 2}[color],
        "points": [[70.0, 20.0], [76.0, 40.0]],
        "translation": [40.0, 1.0, 5.0],
        "size": [0.3, 0.3, 1.0],
        "rotation": [0.0, 0.0, 0.0, 1.0],
        "visibility": 1.0,
        "lane_token": lane,
        "lane_tokens": [lane],
        "lamps": [{"color": color, "shape": "circle", "status": "on"}],
        "manoeuvres": manoeuvres,
        "road_user": "vehicle",
    }


def lane(token: str, successors: list[str]) -> dict[str, object]:
    """Return a row of a straight lane."""
    return {
        "token": token,
        "scene_token": "street",
        "centerline": [[0.0, 0.0], [30.0, 0.0]],
        "successors": successors,
        "stop_line_s_m": [],
        "manoeuvres": ["straight", "left"],
    }


@pytest.fixture
def truth(tmp_path: Path) -> TrueTraffic:
    """Return a road whose lane continues in one lane, which splits; a second lane beside it."""
    tables = {
        "traffic_element": [
            element("a", "next", color="red", manoeuvres=["straight"]),
            element("b", "next", color="green", manoeuvres=["left"]),
            element("c", "beside", color="green", manoeuvres=[]),
            element("d", "after", color="green", manoeuvres=[]),
        ],
        "lane": [
            lane("own", ["next"]),
            lane("next", ["after", "turn"]),
            lane("after", []),
            lane("turn", []),
            lane("beside", []),
        ],
        "ego_lane": [
            {
                "sample_token": "street 0.00",
                "lane_token": "own",
                "manoeuvre": "straight",
                "stop_line_m": 28.0,
            }
        ],
    }
    for name, rows in tables.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return TrueTraffic(tmp_path)


def test_true_lights_of_the_own_lane_and_manoeuvre_govern(truth: TrueTraffic) -> None:
    layer = traffic_layer(street_frame(0.0), None, truth)
    assert layer is not None and layer.predicted is None and layer.marks == layer.true
    assert [mark.governs for mark in layer.true] == [True, False, False, False]
    assert (layer.true_state, layer.manoeuvre) == ("red", "straight")
    np.testing.assert_allclose(layer.true[0].lanes[0], [[0, 0], [30, 0]])


def test_samples_without_elements_and_roots_without_lanes_are_drawn(truth: TrueTraffic) -> None:
    later = traffic_layer(street_frame(0.5), None, truth)
    assert later == TrafficLayer()
    for name in ("lane", "ego_lane"):
        (truth.folder / f"{name}.json").unlink()
    layer = traffic_layer(street_frame(0.0), None, TrueTraffic(truth.folder))
    assert layer is not None and not any(mark.governs for mark in layer.true)
    assert traffic_layer(street_frame(0.0)) is None


def written(path: Path, frame: Frame, *, token: str) -> None:
    """Write a file of cues of one frame."""
    entry = TrafficFrame(
        timestamp_us=frame.timestamp_us,
        cameras=("CAM_FRONT",),
        sample_token=token,
        cues=(make_cue(),),
        ego_cues=make_ego_cues(),
    )
    write_traffic_frames(path, [entry], {})


@pytest.mark.parametrize("token", ["street 0.00", ""])
def test_cues_are_found_by_sample_or_by_time_beside_the_results(
    token: str, truth: TrueTraffic, tmp_path: Path
) -> None:
    frame = street_frame(0.0)
    results = tmp_path / "results.json"
    assert find_predicted_traffic(results) is None
    written(tmp_path / "results_cues.json", frame, token=token)
    predicted = find_predicted_traffic(results)
    layer = traffic_layer(frame, predicted, truth, manoeuvre="left")
    assert layer is not None and layer.predicted is not None and len(layer.predicted) == 1
    assert layer.manoeuvre == "left" and len(layer.ego_cues) == 4 and len(layer.true) == 4
    assert not layer.predicted[0].governs  # its light is for going straight
    other = traffic_layer(street_frame(0.5), predicted)
    assert other is not None and other.predicted == () and other.ego_cues == ()


def test_a_stream_without_the_task_has_nothing_to_draw(truth: TrueTraffic) -> None:
    frame = street_frame(0.0)
    assert state_layer(frame, StreamState(reset=Reset.NONE), truth) is None
    state = StreamState(reset=Reset.NONE, cues=(make_cue(),), elements=TrafficDetections.empty())
    layer = state_layer(frame, state, truth)
    assert layer is not None and layer.predicted is not None and layer.true_state == "red"
