"""Streams with cues: with every composition, one state a vehicle, and unknown without evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bevstack.runtime.detector import Detector, build
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.stream_protocol import FrameDetector, Stream
from bevstack.runtime.tracked import TrackedDetector
from bevstack.runtime.with_cues import CueDetector, CuedStream, find_cue_source
from bevstack.types import Reset
from bevstack.vocabulary import MANOEUVRES
from tests.runtime.traffic_scenes import BoxDetector, KnowingPredictor, street_frame
from tests.small_world import CONFIG

TIMES_S = [0.1 * k for k in range(12)]


def advice(stream: Stream, manoeuvre: str = "straight") -> str:
    """Return the advice for a manoeuvre after the last step."""
    return {cue.manoeuvre: cue.advice for cue in stream.state.ego_cues}[manoeuvre]


def drive(stream: Stream, times_s=TIMES_S, **options) -> list[str]:
    """Step through a drive; return the advice after each step."""
    found = []
    for time_s in times_s:
        stream.step(street_frame(time_s, **options))
        found.append(advice(stream))
    return found


def test_a_red_light_over_the_own_lane_gives_stop_with_distance_and_reason() -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor("red")).stream()
    assert stream.state.ego_cues == () and stream.state.elements is None
    assert drive(stream)[-1] == "stop"
    state = stream.state
    assert [cue.manoeuvre for cue in state.ego_cues] == list(MANOEUVRES)
    (cue,) = state.cues
    assert cue.state_name == "red" and cue.visible_now and cue.camera == "CAM_FRONT"
    # 60 m less 8 m/s for 1.1 s; measured with the head's standard deviation of 2 m
    assert state.ego_cues[0].distance_m == pytest.approx(60 - 8.8, abs=2.0)
    assert "red" in state.ego_cues[0].reason and state.ego_cues[0].elements == (cue.id,)
    assert state.elements is not None and len(state.elements) == 1


def test_go_needs_more_than_one_look_and_follows_a_change() -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor("green", changes={0.5: "red"})).stream()
    found = drive(stream)
    assert found[0] == "unknown" and "go" in found[1:5]
    # red is reported within 0.2 s of the change at 0.5 s (specification, section 7)
    assert found[7] == "stop" and found[-1] == "stop"


def wrapped_detectors() -> dict[str, FrameDetector]:
    boxes, predictor = BoxDetector(), KnowingPredictor()
    inner = CueDetector(boxes, predictor)
    return {
        "tracked around": TrackedDetector(inner),
        "mirrored around": MirroredDetector(inner),
        "both around": TrackedDetector(MirroredDetector(inner)),
        "around tracked": CueDetector(TrackedDetector(boxes), predictor),
        "around mirrored": CueDetector(MirroredDetector(boxes), predictor),
        "twice": CueDetector(inner, predictor),
    }


@pytest.mark.parametrize("name", sorted(wrapped_detectors()))
def test_every_composition_gives_the_same_cues_and_predicts_each_frame_once(name: str) -> None:
    detector = wrapped_detectors()[name]
    plain = CueDetector(BoxDetector(), KnowingPredictor()).stream()
    stream = detector.stream()
    for time_s in TIMES_S[:4]:
        frame = street_frame(time_s)
        stream.step(frame)
        plain.step(frame)
        assert [c.advice for c in stream.state.ego_cues] == [c.advice for c in plain.state.ego_cues]
    assert [cue.id for cue in stream.state.cues] == [cue.id for cue in plain.state.cues]
    source = find_cue_source(detector)
    assert source is not None and isinstance(source.predictor, KnowingPredictor)
    assert len(source.predictor.frames) == 4  # the mirror image of a light is not looked at
    assert isinstance(stream, CuedStream)
    if "tracked" in name or "both" in name:
        assert len(stream.state.tracks.identity) and len(stream.tracks.identity)


def test_a_loaded_detector_with_both_tasks_gives_cues_with_no_further_step() -> None:
    predictor = KnowingPredictor()
    boxes = build(CONFIG)
    detector = Detector(boxes.model, CONFIG, further={"traffic": predictor})
    frames = [street_frame(time_s) for time_s in TIMES_S[:3]]
    stream, plain = detector.stream(), boxes.stream()
    for frame in frames:
        assert torch.equal(stream.step(frame).scores, plain.step(frame).scores)
    assert advice(stream) == "stop"
    assert plain.state.ego_cues == () and not isinstance(plain, CuedStream)
    together = [detector.stream(), detector.stream()]
    detector.step_together(together, frames[:2])
    assert [len(one.state.ego_cues) for one in together] == [len(MANOEUVRES)] * 2
    with pytest.raises(ValueError, match="streams must be of this detector; got 1"):
        boxes.step_together([CueDetector(BoxDetector(), predictor).stream()], frames[:1])


def test_vehicles_that_step_together_keep_their_own_lights() -> None:
    detector = CueDetector(BoxDetector(), KnowingPredictor("green"))
    near, far = detector.stream(), detector.stream()
    for time_s in TIMES_S[:5]:
        detector.step_together([near, far], [street_frame(time_s + 2), street_frame(time_s)])
    distances = [stream.state.ego_cues[0].distance_m for stream in (near, far)]
    assert distances[1] - distances[0] == pytest.approx(16.0, abs=1.0)  # 2 s at 8 m/s


def test_a_lost_front_camera_gives_unknown_and_the_reason() -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor("green")).stream()
    assert drive(stream)[-1] == "go"
    stream.step(street_frame(1.2, lost=["CAM_FRONT"]))
    assert {cue.advice for cue in stream.state.ego_cues} == {"unknown"}
    assert all("front camera lost" in cue.reason for cue in stream.state.ego_cues)


@pytest.mark.parametrize(
    ("time_s", "scene", "reset"),
    [(0.3, "street", Reset.TIME), (60.0, "street", Reset.GAP), (1.2, "elsewhere", Reset.SCENE)],
)
def test_times_that_jump_start_the_cues_again_and_the_state_states_it(
    time_s: float, scene: str, reset: Reset
) -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor("green")).stream()
    assert drive(stream)[-1] == "go"
    assert stream.state.cue_reset is Reset.NONE
    stream.step(street_frame(time_s, scene=scene, lost=["CAM_BACK"] if time_s > 7 else []))
    assert stream.state.cue_reset is reset
    assert advice(stream) == "unknown"  # one look at green is not enough again


def test_frames_without_a_pose_are_each_the_first_and_never_give_go() -> None:
    green = CueDetector(BoxDetector(), KnowingPredictor("green")).stream()
    assert set(drive(green, pose=False)) == {"unknown"}
    assert green.state.cue_reset is Reset.START
    red = CueDetector(BoxDetector(), KnowingPredictor("red")).stream()
    assert drive(red, TIMES_S[:2], pose=False) == ["stop", "stop"]


def test_a_refused_frame_leaves_boxes_and_cues_unchanged() -> None:
    detector = CueDetector(BoxDetector(), KnowingPredictor())
    stream, second = detector.stream(), detector.stream()
    drive(stream, TIMES_S[:3])
    before = stream.state
    with pytest.raises(ValueError, match="must not be refused"):
        stream.step(street_frame(0.3, scene="refused"))
    with pytest.raises(ValueError, match="must not be refused"):
        detector.step_together(
            [stream, second], [street_frame(0.3), street_frame(0.3, scene="refused")][::-1]
        )
    assert stream.state.ego_cues == before.ego_cues and stream.state.cues == before.cues
    assert second.state.ego_cues == ()


def test_looks_between_steps_update_cues_and_leave_boxes() -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor("green")).stream()
    assert isinstance(stream, CuedStream)
    stream.step(street_frame(0.0))
    for time_s in (0.1, 0.2, 0.3):
        cues = stream.look(street_frame(time_s, lost=["CAM_BACK"]))
    assert cues.ego[0].advice == advice(stream) == "go"
    assert cues.reset is Reset.NONE  # the rig stays, cameras are lost
    assert stream.boxes.steps == 1


def test_the_commanded_manoeuvre_reaches_the_cues() -> None:
    applies = {}
    for command in ("left", "right"):
        stream = CueDetector(BoxDetector(), KnowingPredictor("red", shape="left")).stream()
        for time_s in TIMES_S[:3]:
            stream.step(street_frame(time_s, manoeuvre=command))
        applies[command] = stream.state.cues[0].applies_to_ego
        assert advice(stream, "left") == "stop"  # every manoeuvre has its cue
    assert applies["left"] > 0.5 > applies["right"]
    with pytest.raises(ValueError, match="manoeuvre must be one of straight, left, right, u_turn"):
        street_frame(0.0, manoeuvre="back")


def test_arrays_of_the_state_are_those_of_the_frame() -> None:
    stream = CueDetector(BoxDetector(), KnowingPredictor()).stream()
    frame = street_frame(0.0)
    stream.step(frame)
    assert stream.state.elements is not None
    np.testing.assert_array_equal(stream.state.elements.camera, [0])


def test_the_own_motion_comes_from_the_frame_half_a_second_back() -> None:
    predictor = KnowingPredictor()
    stream = CueDetector(BoxDetector(), predictor).stream()
    drive(stream)
    stream.step(street_frame(1.2, scene="elsewhere"))
    ages = [
        None if before is None else round((now - before) * 1e-6, 3)
        for now, before in zip(predictor.frames, predictor.previous_us, strict=True)
    ]
    # none until one is 0.25 s old, then that nearest to 0.5 s; none of another scene
    assert ages == [None, None, None, 0.3, 0.4, *[0.5] * 7, None]
