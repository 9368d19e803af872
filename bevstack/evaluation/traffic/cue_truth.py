"""Cues of a drive beside the truth: which light each cue is, and what it should have reported.

A cue's identity belongs to the true light whose box overlaps its own best (IoU > 0.25) in most
keyframes. A light is in sight from the first to the last keyframe in which one of its boxes is at
least 6 px high and 0.3 visible in a camera of the frame. Its state can be known from the first of
these keyframes on that shows its lamps (``TrafficElement.shows_lamps``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.average_precision import box_distance
from bevstack.evaluation.traffic.cue_scores import AdviceTimes, RelevanceMoment
from bevstack.evaluation.traffic.element_scores import LIGHT_HEIGHT_PX, MIN_VISIBILITY
from bevstack.evaluation.traffic.openlane_score import BOX_THRESHOLD
from bevstack.evaluation.traffic.root_truth import RootTruth
from bevstack.evaluation.traffic.state_scores import ReportedStates, true_state_name
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame
from bevstack.types.cues import UNKNOWN, TrafficCue
from bevstack.types.traffic import EgoLane, TrafficElement
from bevstack.vocabulary import TRAFFIC_LIGHT

Floats = NDArray[np.float64]
_NEVER_US = np.iinfo(np.int64).max
_VEHICLES = ("vehicle", "unknown")  # road users whose lights may govern the own lane


@dataclass(frozen=True, kw_only=True)
class SceneCues:
    """The frames of one scene in order of time, with the light of each cue."""

    frames: tuple[TrafficFrame, ...]
    truth: RootTruth
    light_of_cue: Mapping[str, str]  # instance token by cue id

    @property
    def keyframes(self) -> Iterator[TrafficFrame]:
        """Yield the frames of samples of the split."""
        return (f for f in self.frames if f.sample_token in self.truth.elements)

    def lights_in_sight(self, frame: TrafficFrame) -> dict[str, TrafficElement]:
        """Return the lights for vehicles that are in sight in a keyframe, by instance."""
        return {
            element.instance_token: element
            for element in self.truth.elements[frame.sample_token]
            if element.category == TRAFFIC_LIGHT
            and element.camera in frame.cameras
            and element.road_user in _VEHICLES
            and element.visibility >= MIN_VISIBILITY
            and element.box_px[3] - element.box_px[1] >= LIGHT_HEIGHT_PX
        }

    def cues_of(self, frame: TrafficFrame) -> dict[str, TrafficCue]:
        """Return the cue of each true light in a frame: the surest one of several."""
        cues: dict[str, TrafficCue] = {}
        for cue in sorted(frame.cues, key=lambda cue: cue.confidence):
            if cue.id in self.light_of_cue:
                cues[self.light_of_cue[cue.id]] = cue
        return cues


def scenes_with_cues(frames: Sequence[TrafficFrame], truth: RootTruth) -> list[SceneCues]:
    """Return the frames of each scene of the truth, in the order of ``truth.scene_tokens``."""
    scene_of_sample = {
        token: truth.scene_tokens[scene]
        for token, scene in zip(truth.tokens, truth.scene.tolist(), strict=True)
    }
    groups: dict[str, list[TrafficFrame]] = {token: [] for token in truth.scene_tokens}
    for frame in frames:
        scene = scene_of_sample.get(frame.sample_token, frame.scene_token)
        if scene in groups:
            groups[scene].append(frame)
    scenes = []
    for group in groups.values():
        ordered = {f.timestamp_us: f for f in sorted(group, key=lambda f: f.timestamp_us)}
        some = tuple(ordered.values())
        scenes.append(
            SceneCues(frames=some, truth=truth, light_of_cue=_lights_of_cues(some, truth))
        )
    return scenes


def reported_states(scene: SceneCues) -> list[ReportedStates]:
    """Return the reports about every light with a timeline that comes into sight."""
    times: dict[str, list[int]] = defaultdict(list)
    first_shown: dict[str, int] = {}
    for frame in scene.keyframes:
        for instance, light in scene.lights_in_sight(frame).items():
            times[instance].append(frame.timestamp_us)
            if light.shows_lamps:
                first_shown.setdefault(instance, frame.timestamp_us)
    stamps = np.array([frame.timestamp_us for frame in scene.frames], np.int64)
    cues = [scene.cues_of(frame) for frame in scene.frames]
    reports = []
    for instance, seen in times.items():
        if instance not in scene.truth.timelines:
            continue
        own = [some.get(instance) for some in cues]
        observable = any(cue.flashing_observable for cue in own if cue is not None)
        reports.append(
            ReportedStates(
                timeline=scene.truth.timelines[instance],
                timestamp_us=stamps,
                names=tuple(UNKNOWN if cue is None else cue.state_name for cue in own),
                counted=(stamps >= seen[0]) & (stamps < seen[-1]),
                observable=np.array(
                    [observable if cue is None else cue.flashing_observable for cue in own]
                ),
                knowable=stamps >= first_shown.get(instance, _NEVER_US),
            )
        )
    return reports


def relevance_moments(scene: SceneCues) -> list[RelevanceMoment]:
    """Return the lights in sight in every keyframe whose ego lane is known.

    A light without a cue has the relevance 0.
    """
    moments = []
    for frame in scene.keyframes:
        lane = scene.truth.ego_lanes.get(frame.sample_token)
        lights = scene.lights_in_sight(frame)
        if lane is None or not lights:
            continue
        cues = scene.cues_of(frame)
        moments.append(
            RelevanceMoment(
                relevance=np.array(
                    [cues[i].applies_to_ego if i in cues else 0.0 for i in lights], np.float64
                ),
                governs=np.array([governs(light, lane) for light in lights.values()]),
                states=tuple(_state(scene.truth, i, frame.timestamp_us) for i in lights),
            )
        )
    return moments


def advice_times(scene: SceneCues) -> AdviceTimes:
    """Return the advice for the intended manoeuvre beside the state of the lights that govern.

    The ego's lane and the lights in sight are those of the last keyframe. The state is unknown if
    no governing light is in sight, or if several show different states.
    """
    names, advice = [], []
    lane: EgoLane | None = None
    own: list[str] = []
    for frame in scene.frames:
        if frame.sample_token in scene.truth.elements:
            lane = scene.truth.ego_lanes.get(frame.sample_token)
            lights = scene.lights_in_sight(frame)
            own = [] if lane is None else [i for i, e in lights.items() if governs(e, lane)]
        states = {_state(scene.truth, instance, frame.timestamp_us) for instance in own}
        names.append(states.pop() if len(states) == 1 else UNKNOWN)
        wanted = "" if lane is None else lane.manoeuvre
        given = [cue.advice for cue in frame.ego_cues if cue.manoeuvre == wanted]
        advice.append(given[0] if given else UNKNOWN)
    return AdviceTimes(
        timestamp_us=np.array([frame.timestamp_us for frame in scene.frames], np.int64),
        advice=tuple(advice),
        states=tuple(names),
    )


def distance_pairs(scene: SceneCues) -> Floats:  # (N, 2) true and predicted metres
    """Return the straight distances of the lights whose cue is visible in a keyframe."""
    rows = {token: row for row, token in enumerate(scene.truth.tokens)}
    pairs = []
    for frame in scene.keyframes:
        ego = scene.truth.ego_position_m[rows[frame.sample_token]]
        cues = scene.cues_of(frame)
        for instance, light in scene.lights_in_sight(frame).items():
            if instance in cues and cues[instance].visible_now and light.position_m is not None:
                true = float(np.linalg.norm(np.array(light.position_m) - ego))
                pairs.append((true, float(np.linalg.norm(cues[instance].position_m))))
    return np.array(pairs, np.float64).reshape(-1, 2)


def governs(light: TrafficElement, lane: EgoLane) -> bool:
    """Return True if a light governs a lane for the intended manoeuvre."""
    lanes = light.lane_tokens or (light.lane_token,)
    return lane.lane_token in lanes and (not light.manoeuvres or lane.manoeuvre in light.manoeuvres)


def _state(truth: RootTruth, instance: str, timestamp_us: int) -> str:
    timeline = truth.timelines.get(instance)
    return UNKNOWN if timeline is None else true_state_name(timeline.state_at(timestamp_us))


def _lights_of_cues(frames: Sequence[TrafficFrame], truth: RootTruth) -> dict[str, str]:
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for frame in frames:
        elements = [
            e for e in truth.elements.get(frame.sample_token, ()) if e.category == TRAFFIC_LIGHT
        ]
        for cue in frame.cues:
            near = [e for e in elements if e.camera == cue.camera]
            held = cue.timestamp_us != frame.timestamp_us  # its box is of an earlier image
            if cue.box_px is None or cue.kind != "light" or held or not near:
                continue
            boxes = np.array([e.box_px for e in near])
            distance = box_distance(boxes, np.broadcast_to(cue.box_px, boxes.shape))
            best = int(np.nan_to_num(distance, nan=np.inf).argmin())
            if distance[best] < BOX_THRESHOLD:
                votes[cue.id][near[best].instance_token] += 1
    return {cue: counter.most_common(1)[0][0] for cue, counter in votes.items()}
