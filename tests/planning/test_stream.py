"""Streams of cues on simulated drives: advice, resets, lost cameras, signs, repetition."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bevstack.planning.stream import CueStream
from bevstack.types import Reset
from bevstack.types.cues import FrameCues
from bevstack.types.traffic_detections import TrafficDetections
from tests.planning.drives import Cycle, Noise, Post, detect, pose_at, sign, view_at

SPEED = 8.0


def drive(
    posts: list[Post],
    seconds: float,
    *,
    stream: CueStream | None = None,
    hz: float = 10,
    drop: float = 0.0,
    seed: int = 0,
    speed: float = SPEED,
    noise: Noise | None = None,
) -> list[tuple[float, FrameCues]]:
    """Drive straight along x and return the time and the cues of every frame."""
    stream, rng = stream or CueStream(), np.random.default_rng(seed)
    frames = []
    for k in range(round(seconds * hz)):
        time_s = k / hz
        if k and rng.random() < drop:
            continue
        view = view_at(pose_at(speed * time_s), time_s)
        frames.append((time_s, stream.step(view, detect(posts, view, time_s, rng, noise))))
    return frames


def test_a_red_light_ahead_gives_stop_with_its_reason() -> None:
    (_, *_, (_, last)) = drive([Post((60.0, 0.0, 5.5))], 2.0)
    cue = last.for_manoeuvre("straight")
    (light,) = last.elements
    assert cue.advice == "stop" and cue.elements == (light.id,)
    distance = 60 - SPEED * 1.9
    # 8 % bias of the housing's size and the filter's spread
    assert cue.distance_m == pytest.approx(distance, rel=0.15)
    assert cue.reason == (
        f"stop: the light for your lane is red, {cue.distance_m:.0f} m ahead, seen now, "
        f"{cue.probability:.2f}"
    )
    assert light.state[0].lamp.color == "red" and light.state[0].lamp.shape == "circle"
    assert light.camera == "CAM_FRONT" and light.applies_to_ego > 0.8


def test_green_needs_two_frames() -> None:
    quiet = Noise(dark=0, confused=0, missed=0, spread=0.1)
    frames = drive([Post((40.0, 0.0, 5.5), lambda _: "green")], 1.0, noise=quiet)
    advice = [cues.for_manoeuvre("straight").advice for _, cues in frames]
    assert advice[0] == "unknown"
    assert set(advice[3:]) == {"go"}


@pytest.mark.parametrize("second", [True, False])
def test_a_light_outside_all_images_for_long_counts_if_no_other_governs(second: bool) -> None:
    """The vehicle waits at the line, below the first light, and sees one behind the junction."""
    stream, rng = CueStream(), np.random.default_rng(0)
    quiet = Noise(bias=0, dark=0, confused=0, missed=0, spread=0.1)
    governs = (4.0, -4.0, -4.0, -4.0)
    posts = [Post((30.0, 0.0, 5.5), lambda t: "red" if t < 9 else "green", learned=governs)]
    if second:
        posts.append(Post((50.0, 0.0, 5.5), posts[0].state, learned=governs))
    advice = {}
    for k in range(110):
        time_s = k / 10
        view = view_at(pose_at(min(8 * time_s, 27.0)), time_s)
        cues = stream.step(view, detect(posts, view, time_s, rng, quiet))
        advice[k] = cues.for_manoeuvre("straight").advice
    assert advice[5] == "stop"
    assert advice[60] == advice[85] == ("stop" if second else "unknown")
    assert advice[105] == ("go" if second else "unknown")


@pytest.mark.parametrize(
    ("last", "place"),
    [
        ("red", (32.0, 3.5, 5.5)),
        ("red", (55.0, 0.0, 5.5)),
        ("red", (55.0, -3.5, 5.5)),
        ("yellow", (55.0, 0.0, 5.5)),
        ("green", (55.0, 0.0, 5.5)),
        ("off", (55.0, 0.0, 5.5)),
    ],
)
def test_a_green_light_does_not_overrule_the_light_above_the_waiting_vehicle(
    last: str, place: tuple[float, float, float]
) -> None:
    """The head takes a neighbouring lane's light, or one far behind, for the vehicle's."""
    stream, rng = CueStream(), np.random.default_rng(0)
    quiet = Noise(bias=0, dark=0, confused=0, missed=0, spread=0.1)
    governs = (4.0, -4.0, -4.0, -4.0)
    own = Post((30.0, 0.0, 5.5), lambda t: "red" if t < 1.5 else last, learned=governs)
    other = Post(place, lambda _: "green", learned=governs)
    stop_m = 27.0 if place[0] > 40.0 else 19.0  # from where an image shows the other light
    own = own if place[0] > 40.0 else replace(own, position_m=(22.0, 0.0, 5.5))
    advice = {}
    for k in range(120):
        time_s = k / 10
        view = view_at(pose_at(min(8 * time_s, stop_m)), time_s)
        cues = stream.step(view, detect([own, other], view, time_s, rng, quiet))
        advice[k] = cues.for_manoeuvre("straight").advice
    shown = [cue for cue in cues.elements if cue.visible_now]
    assert [cue.state_name for cue in shown] == ["green"] and shown[0].applies_to_ego > 0.8
    assert advice[5] == "stop"
    assert {advice[k] for k in range(90, 120)} == {"unknown"}


def test_a_light_that_was_not_seen_with_the_own_one_does_not_overrule_it() -> None:
    """A light behind the junction comes into sight when the own one is above the images."""
    stream, rng = CueStream(), np.random.default_rng(0)
    quiet = Noise(bias=0, dark=0, confused=0, missed=0, spread=0.1)
    governs = (4.0, -4.0, -4.0, -4.0)
    own = Post((30.0, 0.0, 5.5), learned=governs)
    late = Post(
        (50.0, 0.0, 5.5), lambda t: "red" if t < 9 else "green", hidden=(0, 4), learned=governs
    )
    advice = {}
    for k in range(120):
        time_s = k / 10
        view = view_at(pose_at(min(8 * time_s, 27.0)), time_s)
        cues = stream.step(view, detect([own, late], view, time_s, rng, quiet))
        advice[k] = cues.for_manoeuvre("straight").advice
    assert advice[85] == "stop"
    assert {advice[k] for k in range(92, 120)} == {"unknown"}


def test_no_light_gives_no_advice() -> None:
    ((_, cues),) = drive([], 0.1)
    assert [c.advice for c in cues.ego] == ["unknown"] * 4
    assert {c.reason for c in cues.ego} == {"unknown: no light seen"}


def test_a_lost_front_camera_gives_unknown() -> None:
    stream = CueStream()
    drive([Post((60.0, 0.0, 5.5))], 1.0, stream=stream)
    lost = view_at(pose_at(8.0), 1.0, lost=("CAM_FRONT",))
    cues = stream.step(lost, TrafficDetections.empty())
    assert {c.reason for c in cues.ego} == {"unknown: front camera lost"}
    back = view_at(pose_at(8.8), 1.1, lost=("CAM_BACK",))
    cues = stream.step(back, detect([Post((60.0, 0.0, 5.5))], back, 1.1, np.random.default_rng(1)))
    assert cues.for_manoeuvre("straight").advice == "stop"


@pytest.mark.parametrize(
    ("time_s", "x_m", "scene", "reset", "words"),
    [
        (0.5, 4.0, "scene", Reset.TIME, "time went back"),
        (9.0, 12.0, "scene", Reset.GAP, "images came after a gap"),
        (1.0, 400.0, "scene", Reset.JUMP, "the pose jumped"),
        (1.0, 8.0, "another", Reset.SCENE, "the scene changed"),
    ],
)
def test_jumps_clear_the_memory_and_are_named(
    time_s: float, x_m: float, scene: str, reset: Reset, words: str
) -> None:
    stream = CueStream()
    drive([Post((60.0, 0.0, 5.5), lambda _: "green")], 1.0, stream=stream)
    cues = stream.step(view_at(pose_at(x_m), time_s, scene=scene), TrafficDetections.empty())
    assert cues.reset == reset and not cues.elements
    assert cues.ego[0].reason == f"unknown: no light seen; memory cleared: {words}"


def test_a_light_keeps_its_identity_from_camera_to_camera_and_after_occlusion() -> None:
    post = Post((40.0, 6.0, 4.5), hidden=(2.0, 3.1))
    frames = drive([post], 5.5, noise=Noise(missed=0))
    identities = {cue.id for _, cues in frames for cue in cues.elements if cue.visible_now}
    sources = {camera for _, cues in frames for cue in cues.elements for camera in cue.sources}
    assert len(identities) == 1
    assert {"CAM_FRONT", "CAM_FRONT_LEFT"} <= sources
    hidden = [cues.for_manoeuvre("straight") for time_s, cues in frames if 2.95 < time_s < 3.1]
    assert hidden and all("last red" in cue.reason for cue in hidden)


def test_runs_repeat_bit_for_bit() -> None:
    posts = [Post((60.0, y, 5.5), Cycle(offset_s=o)) for y, o in ((0.0, 3.0), (3.5, 14.0))]
    first, second = (drive(posts, 3.0, drop=0.3, seed=4) for _ in range(2))
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a.ego == b.ego
        for left, right in zip(a.elements, b.elements, strict=True):
            np.testing.assert_array_equal(left.position_cov_m2, right.position_cov_m2)
            nothing = np.zeros(0)
            assert replace(left, position_cov_m2=nothing).id == right.id
            assert left.position_m == right.position_m


def test_a_tail_lamp_moves_and_is_not_relevant() -> None:
    lamp = Post((20.0, 0.5, 0.9), velocity_mps=(SPEED, 0.0))
    frames = drive([lamp], 3.0)
    advice = {cues.for_manoeuvre("straight").advice for _, cues in frames}
    assert advice == {"unknown"}


def test_a_speed_limit_stays_in_force_until_the_junction() -> None:
    light = Post((60.0, 0.0, 5.5), lambda _: "green")
    frames = drive([sign(30.0, -4.0, "speed_limit", 13.9), light], 9.0)
    values = {}
    for time_s, cues in frames:
        limits = [c for c in cues.elements if c.in_force and c.speed_limit_mps == 13.9]
        values[round(time_s * SPEED)] = len(limits)
    assert not any(values[x] for x in values if x < 28)
    assert all(values[x] == 1 for x in values if 34 < x < 58)
    assert not any(values[x] for x in values if x > 63)


def test_neighbouring_lanes_of_different_states_are_separated_by_place() -> None:
    own, turn = Cycle(offset_s=20), Cycle(offset_s=2)
    posts = [Post((80.0, 0.0, 5.5), own), Post((80.0, 3.5, 5.5), turn)]
    frames = drive(posts, 8.0, drop=0.3)
    for time_s, cues in itertools.islice(frames, 5, None):
        assert own(time_s) == "red" and turn(time_s) == "green"
        assert cues.for_manoeuvre("straight").advice == "stop", time_s


def test_an_unknown_manoeuvre_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"manoeuvre must be one of straight, .*; got 'back'"):
        CueStream().step(view_at(pose_at(0), 0), TrafficDetections.empty(), manoeuvre="back")


@pytest.mark.slow
def test_two_lanes_that_differ_over_many_drives() -> None:
    """10 Hz with 30 % of the frames dropped; beside lights, a tail lamp, a sign, a cross street."""
    advice: list[tuple[str, str]] = []
    relevance: list[bool] = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        own = int(rng.integers(2))
        plans = [
            Cycle(rng.uniform(8, 12), 3.5, rng.uniform(8, 12), rng.uniform(0, 25)) for _ in "ab"
        ]
        places = [3.5 * (own - lane) for lane in range(2)]
        posts = [Post((90.0, y, 5.5), plan) for y, plan in zip(places, plans, strict=True)]
        posts += [
            Post((98.0, -9.0, 5.0), plans[1], yaw_rad=np.pi / 2),
            Post((15.0, 0.4, 0.9), velocity_mps=(7.0, 0.0)),
            sign(40.0, -4.0, "speed_limit", 13.9),
        ]
        stream = CueStream()
        for k in range(150):
            time_s, x = 0.1 * k, min(0.7 * k, 68.0)
            if rng.random() < 0.3:
                continue
            view = view_at(pose_at(x), time_s)
            cues = stream.step(view, detect(posts, view, time_s, rng))
            wanted = {"red": "stop", "yellow": "caution", "green": "go"}[plans[own](time_s)]
            advice.append((wanted, cues.for_manoeuvre("straight").advice))
            if plans[0](time_s) == plans[1](time_s):
                continue
            for cue in cues.elements:
                near = [abs(cue.position_m[1] - y) < 1.2 for y in places]
                if cue.kind == "light" and abs(cue.position_m[0] + x - 90) < 6 and any(near):
                    relevance.append((cue.applies_to_ego >= 0.5) == near[own])
    assert not any(pair == ("stop", "go") for pair in advice)
    assert np.mean([wanted == given for wanted, given in advice]) >= 0.95
    known = [given for wanted, given in advice if wanted in ("go", "stop")]
    assert np.mean([given in ("go", "stop") for given in known]) >= 0.9
    assert len(relevance) > 500 and np.mean(relevance) >= 0.95
