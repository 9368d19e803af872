"""The decision table, row by row, and its properties on random lights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.config.cues import CueConfig
from bevstack.planning.advice import RelevantLight, advise
from bevstack.planning.lights import STATE_NAMES
from bevstack.types import Reset
from bevstack.types.cues import EgoCue, TrafficCue

CONFIG = CueConfig()


def light(state: str, probability: float = 0.95, **changes: Any) -> RelevantLight:
    values: dict[str, Any] = {
        "id": changes.pop("id", "a"),
        "kind": "light",
        "timestamp_us": 10,
        "state": (),
        "state_name": state,
        "state_probability": 0.9,
        "last_state_name": "red",
        "meaning": None,
        "speed_limit_mps": None,
        "confidence": 0.9,
        "position_m": (31.0, 0.0, 5.0),
        "position_cov_m2": np.eye(3),
        "yaw_rad": 3.1,
        "camera": None,
        "box_px": None,
        "visible_now": True,
        "last_seen_s": 0.0,
        "state_since_s": 1.0,
        "flashing_observable": True,
        "applies_to_ego": probability,
        "applies_to": ("straight",),
        "distance_along_path_m": 31.0,
        "distance_std_m": 2.0,
        "stop_line_s_m": None,
        "sources": ("CAM_FRONT",),
        "map_id": None,
    }
    return RelevantLight(TrafficCue(**{**values, **changes}), probability)


def decide(lights: list[RelevantLight], front_lost: bool = False) -> EgoCue:
    return advise(
        lights,
        manoeuvre="straight",
        timestamp_us=10,
        front_lost=front_lost,
        reset=Reset.NONE,
        config=CONFIG,
    )


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("red", "stop"),
        ("red_yellow", "stop"),
        ("flashing_red", "stop"),
        ("yellow", "caution"),
        ("flashing_yellow", "caution"),
        ("off", "caution"),
        ("flashing_green", "caution"),
        ("green", "go"),
        ("unknown", "unknown"),
    ],
)
def test_every_state_has_its_advice(state: str, advice: str) -> None:
    assert decide([light(state)]).advice == advice


@pytest.mark.parametrize(
    ("lights", "reason"),
    [
        ([light("red")], "stop: the light for your lane is red, 31 m ahead, seen now, 0.85"),
        (
            [light("unknown", visible_now=False, last_seen_s=1.4)],
            "unknown: the light for your lane is unknown, last red, 31 m ahead, "
            "not seen for 1.4 s, 0.85",
        ),
        (
            [light("red_yellow", stop_line_s_m=20.4)],
            "stop: the light for your lane is red and yellow, 20 m ahead, seen now, 0.85",
        ),
        (
            [light("green", 0.7)],
            "unknown: a green light may be for another lane, 31 m ahead, seen now, 0.63",
        ),
        ([light("green", 0.3)], "unknown: no light for this manoeuvre"),
        ([], "unknown: no light seen"),
    ],
)
def test_reasons_are_rendered_from_the_cues(lights: list[RelevantLight], reason: str) -> None:
    assert decide(lights).reason == reason


def test_a_relevant_contradiction_forbids_go() -> None:
    for state, advice in (("red", "stop"), ("yellow", "caution"), ("unknown", "unknown")):
        assert decide([light("green"), light(state, 0.5, id="b")]).advice == advice
        assert decide([light("green"), light(state, 0.49, id="b")]).advice == "go"


LIGHTS = st.lists(
    st.builds(
        lambda state, p, name: light(state, p, id=name),
        st.sampled_from(STATE_NAMES),
        st.floats(0, 1),
        st.uuids().map(str),
    ),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(LIGHTS, st.randoms())
def test_go_needs_green_alone_and_no_order(lights: list[RelevantLight], random: Any) -> None:
    cue = decide(lights)
    relevant = {item.cue.state_name for item in lights if item.probability >= CONFIG.relevant}
    if cue.advice == "go":
        assert relevant == {"green"}
        assert max(item.probability for item in lights) >= CONFIG.relevant_go
    if relevant & {"red", "red_yellow", "flashing_red"}:
        assert cue.advice == "stop"
    random.shuffle(lights)
    assert decide(lights) == cue
    assert decide(lights, front_lost=True).reason == "unknown: front camera lost"
