"""Scores of elements and cues on a small hand-made split: perfect, late and wrong predictions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.traffic.root_figures import compare_roots, match_root
from bevstack.evaluation.traffic.root_score import score_root, write_traffic_metrics
from bevstack.evaluation.traffic.root_truth import RootTruth
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, TrafficFrames
from bevstack.types.cues import EgoCue
from bevstack.types.traffic import EgoLane, ElementTimeline, Lamp, TrafficElement
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LIGHT_COLORS
from tests.evaluation.traffic import traffic_samples

# Two scenes of four keyframes, 0.5 s apart. Light "own" governs the ego's lane, "next" the lane
# beside it; they show different colours, and both change after 1 s.
STEP_US, CHANGE_US = 500_000, 1_000_000
COLORS = {"own": ("red", "green"), "next": ("green", "red")}
BOXES = {"own": (10.0, 10.0, 20.0, 40.0), "next": (60.0, 10.0, 70.0, 40.0)}
PLACES = {"own": (20.0, 0.0, 5.0), "next": (20.0, 15.0, 5.0)}


def color_at(light: str, number: int) -> str:
    return COLORS[light][number * STEP_US >= CHANGE_US]


def truth(scenes: str = "ab") -> RootTruth:
    tokens = [f"{scene}{number}" for scene in scenes for number in range(4)]
    timelines = {
        f"{light}-{scene}": ElementTimeline(
            f"{light}-{scene}",
            scene,
            np.array([0, CHANGE_US]),
            tuple((Lamp(color),) for color in COLORS[light]),
        )
        for light in COLORS
        for scene in scenes
    }
    elements = {
        token: [
            TrafficElement(
                token=f"{light}{token}",
                instance_token=f"{light}-{token[0]}",
                sample_token=token,
                category=1,
                attribute={"red": 1, "green": 2}[color_at(light, int(token[1]))],
                box_px=BOXES[light],
                camera="CAM_FRONT",
                position_m=PLACES[light],
                lane_token=f"lane-{light}",
            )
            for light in COLORS
        ]
        for token in tokens
    }
    return RootTruth(
        tokens=tuple(tokens),
        scene=np.repeat(np.arange(len(scenes)), 4),
        scene_tokens=tuple(scenes),
        ego_position_m=np.zeros((len(tokens), 3)),
        elements=elements,
        timelines=timelines,
        ego_lanes={token: EgoLane(token, "lane-own", "straight") for token in tokens},
    )


def frame(token: str) -> TrafficFrame:
    """Return the perfect prediction of a sample."""
    number, rng = int(token[1]), np.random.default_rng(0)
    names = [color_at(light, number) for light in COLORS]
    colors = np.array([[float(name == c) for c in LIGHT_COLORS] for name in names])
    elements = dataclasses.replace(
        traffic_samples.detections(rng, 2, with_optional=False),
        boxes_px=np.array(list(BOXES.values())),
        category=np.ones(2, np.int64),
        color=colors,
        position_m=np.array(list(PLACES.values())),
    )
    cues = tuple(
        dataclasses.replace(
            traffic_samples.cue(rng, number * STEP_US),
            id=f"{light} {token[0]}",
            state_name=name,
            box_px=BOXES[light],
            position_m=PLACES[light],
            applies_to_ego=float(light == "own"),
        )
        for light, name in zip(COLORS, names, strict=True)
    )
    ego = EgoCue(
        timestamp_us=number * STEP_US,
        manoeuvre="straight",
        advice="stop" if names[0] == "red" else "go",
        probability=1.0,
        elements=(),
        reason="a light",
        distance_m=None,
        last_seen_s=None,
    )
    return TrafficFrame(
        timestamp_us=number * STEP_US,
        cameras=("CAM_FRONT",),
        sample_token=token,
        elements=elements,
        cues=cues,
        ego_cues=(ego,),
    )


def frames(**changes: TrafficFrame) -> TrafficFrames:
    some = [changes.get(token, frame(token)) for token in truth().tokens]
    return TrafficFrames(frames=tuple(reversed(some)), meta={})


def test_perfect_predictions_have_perfect_scores(tmp_path: Path) -> None:
    scores = score_root(frames(), truth(), draws=20)
    assert scores.elements.det_t == 1.0 and scores.states is not None
    assert scores.states.accuracy == 1.0 and scores.states.false_green_per_red_s == 0.0
    # Four lights for 1.5 s each, of which red shows for 1 s or 0.5 s.
    assert scores.states.element_s == pytest.approx(6.0)
    assert scores.states.red_s == pytest.approx(3.0)
    assert scores.relevance is not None and scores.relevance.num_moments == 8
    assert scores.relevance.choice_accuracy == scores.relevance.decision_accuracy == 1.0
    assert scores.advice is not None and scores.advice.given_share == 1.0
    assert scores.advice.false_go_per_red_s == 0.0
    assert sum(error.count for error in scores.distances) == 16
    lowest = {i.name: i.low for i in scores.intervals}
    assert lowest["state accuracy"] == lowest["relevant light chosen"] == 1.0
    assert lowest["delay to red, median, s"] == lowest["delay to green, 95 %, s"] == 0.0
    assert not any(i.is_beyond_chance for i in scores.intervals)  # two scenes are too few
    content = json.loads(write_traffic_metrics(tmp_path, scores).read_text())
    assert content["DET_t"] == 1.0 and content["AP"]["red"] == {
        "AP": 1.0,
        "true": 8,
        "predicted": 8,
    }
    assert content["macro_AP_signs_from_10_px"] is None
    assert content["color_confusion"]["red"]["red"] == 8


def test_a_cue_that_is_held_over_a_lost_image_does_not_name_a_light() -> None:
    """A cue's box is of its own image: the vehicle has moved since then."""
    late = {}
    for token in ("a1", "a2", "a3"):
        cues = frame("a0").cues  # of 0 s, with the boxes of the lights swapped
        boxes = reversed([cue.box_px for cue in cues])
        held = [
            dataclasses.replace(cue, id=f"{cue.id} new", box_px=box)
            for cue, box in zip(cues, boxes, strict=True)
        ]
        late[token] = dataclasses.replace(frame(token), cues=tuple(held))
    scores = score_root(frames(**late), truth("a"), draws=0)
    assert scores.states is not None
    # 0.5 s of both lights are right; afterwards, no cue belongs to a light.
    assert scores.states.element_s == pytest.approx(3.0)
    assert scores.states.accuracy == pytest.approx(1.0 / 3.0)


def test_a_state_counts_from_the_first_image_that_shows_the_lamps() -> None:
    whole = truth("a")
    hidden = {"a0", "a2"}  # of the light beside, before 0.5 s and after 1 s
    elements = {
        token: [
            dataclasses.replace(e, lamp_pixels=0.0)
            if token in hidden and e.instance_token.startswith("next")
            else e
            for e in some
        ]
        for token, some in whole.elements.items()
    }
    scores = score_root(frames(), dataclasses.replace(whole, elements=elements), draws=0)
    assert scores.states is not None
    # Hidden again at 1 s it is still known; 1.5 s of the own light and 1 s of the one beside
    assert scores.states.element_s == pytest.approx(2.5)
    assert scores.states.in_sight_s == pytest.approx(3.0)
    assert scores.states.accuracy == scores.states.accuracy_in_sight == 1.0


def test_a_wrong_frame_costs_what_it_holds() -> None:
    good = frame("a0")
    (own, next_lane), (ego,) = good.cues, good.ego_cues
    wrong = dataclasses.replace(
        good,
        elements=TrafficDetections.empty(),
        cues=(
            dataclasses.replace(own, state_name="green", applies_to_ego=0.2),
            dataclasses.replace(next_lane, state_name="unknown"),
        ),
        ego_cues=(dataclasses.replace(ego, advice="go"),),
    )
    scores = score_root(frames(a0=wrong), truth(), draws=0)
    assert scores.states is not None and scores.relevance is not None and scores.advice is not None
    assert scores.states.accuracy == pytest.approx((6.0 - 2 * 0.5) / 6.0)
    assert scores.states.false_green_per_red_s == pytest.approx(0.5 / 3.0)
    assert scores.advice.false_go_per_red_s == pytest.approx(0.5 / 2.0)
    assert scores.relevance.choice_accuracy == 1.0  # 0.2 is still the highest
    assert scores.relevance.decision_accuracy == pytest.approx(15 / 16)
    assert scores.elements.attributes[1].value == pytest.approx(9 / 11, abs=1e-6)  # recall 7/8
    assert scores.intervals == ()


def test_elements_without_cues_have_no_scores_over_time() -> None:
    bare = {t: dataclasses.replace(frame(t), cues=(), ego_cues=()) for t in truth().tokens}
    scores = score_root(frames(**bare), truth(), draws=0)
    assert scores.states is None and scores.elements.det_t == 1.0


def late(token: str) -> TrafficFrame:
    """Return a prediction that reports each change of the own light one frame late."""
    good = frame(token)
    own, beside = good.cues
    before = color_at("own", max(int(token[1]) - 1, 0))
    wrong = dataclasses.replace(own, state_name=before, applies_to_ego=0.2)
    return dataclasses.replace(good, cues=(wrong, dataclasses.replace(beside, applies_to_ego=0.3)))


@pytest.mark.parametrize(("scenes", "is_called"), [("abcdefghi", False), ("abcdefghij", True)])
def test_a_worse_file_is_called_worse_on_ten_scenes_alone(scenes: str, is_called: bool) -> None:
    own = truth(scenes)
    good = match_root(TrafficFrames(frames=tuple(map(frame, own.tokens)), meta={}), own)
    worse = match_root(TrafficFrames(frames=tuple(map(late, own.tokens)), meta={}), own)
    found = {i.name: i for i in compare_roots(good, worse, draws=20)}
    # The change comes at 1 s and is reported at 1.5 s, in every scene and draw.
    delay = found["delay to green, median, s"]
    assert (delay.value, delay.low, delay.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found["relevant light chosen"].value == -1.0
    assert found["relevance right for a light"].value == -0.5  # 0.2 of the own light is wrong
    assert found["macro AP"].value == 0.0 and not found["macro AP"].is_beyond_chance
    for name in ("delay to green, median, s", "relevant light chosen", "state accuracy"):
        assert found[name].is_beyond_chance == is_called, name
        assert found[name].num_scenes == len(scenes)
    back = {i.name: i.value for i in compare_roots(worse, good, draws=1)}
    assert back["delay to green, median, s"] == pytest.approx(-0.5)


def test_a_file_without_cues_is_compared_by_its_elements() -> None:
    own = truth()
    bare = [dataclasses.replace(frame(t), cues=(), ego_cues=()) for t in own.tokens]
    matches = [
        match_root(TrafficFrames(frames=tuple(some), meta={}), own)
        for some in (bare, list(map(frame, own.tokens)))
    ]
    names = [i.name for i in compare_roots(*matches, draws=2)]
    assert "macro AP" in names and not any("delay" in name for name in names)
    with pytest.raises(ValueError, match="draws must be at least 1 for a comparison; got 0"):
        compare_roots(*matches, draws=0)


def test_a_missing_sample_is_named() -> None:
    file = TrafficFrames(frames=frames().frames[:-1], meta={})
    with pytest.raises(ValueError, match="none for 1 of 8, the first 'a0'"):
        score_root(file, truth())
