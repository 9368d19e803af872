"""Stream of cues: detections of successive frames in, cues for a planner out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import CueConfig
from bevstack.planning.advice import RelevantLight, advise
from bevstack.planning.cues import surroundings, traffic_cues
from bevstack.planning.element_memory import ElementMemory, update_memory
from bevstack.planning.map_match import match_map
from bevstack.planning.relevance import weigh_evidence
from bevstack.planning.sign_memory import SignInForce, update_signs_in_force
from bevstack.types.cues import FrameCues, TrafficCue
from bevstack.types.frame import Frame
from bevstack.types.memory import Reset
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.types.traffic_map import TrafficMap
from bevstack.vocabulary import MANOEUVRES

Floats = NDArray[np.float64]

_CURVATURE_HALF_LIFE_M = 3.0  # way after which half of the curvature is that of the new poses
_TURN_RAD = 1.0  # a turn of the vehicle by this angle is a junction
_TURN_FORGOTTEN_M = 30.0  # way after which half of a turn is forgotten: bends are no junctions
_STEP_M = 0.05  # shortest way from which a curvature follows
_SHORTEST_S = 0.02  # between two poses, for the test of a jump


@dataclass(frozen=True)
class CueMemory:
    """Knowledge of a stream after a frame: the input of the next frame's update."""

    elements: ElementMemory
    view: RigView
    curvature_per_m: float
    cues: tuple[TrafficCue, ...]  # of the frame
    signs: tuple[SignInForce, ...]
    turned_rad: float  # of the vehicle since the last sign or junction


def update_cues(
    memory: CueMemory | None,
    view: RigView,
    detections: TrafficDetections,
    *,
    config: CueConfig,
    traffic_map: TrafficMap | None = None,
    manoeuvre: str | None = None,
) -> tuple[FrameCues, CueMemory]:
    """Return the cues of a frame and the memory for the next one.

    Args:
        memory: of the frame before; None to start. It is dropped, and the reason given, if the
            scene changes, time goes back, the pause is too long, the pose jumps or the rig changes.
        view: cameras and pose of the frame.
        detections: of the frame, in its ego frame.
        config: of all stages.
        traffic_map: lights and lanes in the world frame, optional.
        manoeuvre: that the navigation commands, of ``vocabulary.MANOEUVRES``; None: straight.

    Raises:
        ValueError: the manoeuvre is unknown.
    """
    if manoeuvre is not None and manoeuvre not in MANOEUVRES:
        raise ValueError(f"manoeuvre must be one of {', '.join(MANOEUVRES)}; got {manoeuvre!r}")
    reset = find_reset(memory, view, config)
    previous = memory if reset == Reset.NONE else None
    elements = update_memory(
        None if previous is None else previous.elements, detections, view, config
    )
    step_m, turn_rad = _motion(previous, view)
    curvature = _curvature(previous, step_m, turn_rad)
    match = match_map(traffic_map, elements.scene.elements, view.world_from_ego, config.relevance)
    around = surroundings(elements, view, match, curvature)
    relevance = weigh_evidence(around, config.relevance).probabilities(config.relevance)
    cues = traffic_cues(
        elements,
        around,
        relevance[:, MANOEUVRES.index(manoeuvre or MANOEUVRES[0])],
        relevance >= 0.5,
        view=view,
        detections=detections,
        map_ids=match.map_ids,
        stop_lines_m=match.stop_line_m,
        config=config.lights,
    )
    shown = [row for row, cue in enumerate(cues) if cue.confidence >= config.min_confidence]
    lights = [row for row in shown if cues[row].kind == "light"]
    front = view.front_cameras(config.front_half_angle_rad)
    outside_s = (view.timestamp_us - elements.scene.elements.last_inside_us) * 1e-6
    speaks_for = elements.pairs.speaks_for(config)
    ego = tuple(
        advise(
            [
                RelevantLight(cues[row], float(relevance[row, column]))
                for row in _counted(lights, relevance[:, column], outside_s, speaks_for, config)
            ],
            manoeuvre=name,
            timestamp_us=view.timestamp_us,
            front_lost=not bool((front & view.camera_mask).any()),
            reset=reset,
            config=config,
        )
        for column, name in enumerate(MANOEUVRES)
    )
    signs, turned = _update_signs(previous, cues, around.position_m[:, 0], step_m, turn_rad, config)
    frame = FrameCues(
        timestamp_us=view.timestamp_us,
        elements=(*_nearest_first([cues[row] for row in shown], signs), *_in_force(signs, view)),
        ego=ego,
        reset=reset,
    )
    return frame, CueMemory(elements, view, curvature, cues, signs, turned)


def _counted(
    lights: list[int],  # rows
    relevance: Floats,  # (E,) of a manoeuvre
    outside_s: Floats,  # (E,) seconds since an image should have shown the element
    speaks_for: NDArray[np.bool_],  # (E, E) of ``LightPairs``
    config: CueConfig,
) -> list[int]:
    """Return the lights that count for a manoeuvre.

    One that left all images long ago, such as above the vehicle at the stop line, is left out only
    for a light inside them that governs, too, and showed the same state while both were seen. Any
    other light may be of a lane that has green while the own one has red.
    """
    inside = [row for row in lights if outside_s[row] <= config.outside_after_s]
    governing = [row for row in inside if relevance[row] >= config.relevant]
    return [row for row in lights if row in inside or not speaks_for[governing, row].any()]


def find_reset(memory: CueMemory | None, view: RigView, config: CueConfig) -> Reset:
    """Return the reason why a memory cannot be used for a frame, or ``Reset.NONE``."""
    if memory is None:
        return Reset.START
    last = memory.view
    seconds = (view.timestamp_us - last.timestamp_us) * 1e-6
    way_m = float(np.linalg.norm(view.world_from_ego[:3, 3] - last.world_from_ego[:3, 3]))
    if view.scene_token != last.scene_token:
        return Reset.SCENE
    if seconds < 0:
        return Reset.TIME
    if seconds > config.max_gap_s:
        return Reset.GAP
    if way_m > config.max_speed_mps * max(seconds, _SHORTEST_S):
        return Reset.JUMP
    return Reset.RIG if view.camera_names != last.camera_names else Reset.NONE


def _motion(previous: CueMemory | None, view: RigView) -> tuple[float, float]:
    """Return the way forward and the turn since the last frame."""
    if previous is None:
        return 0.0, 0.0
    moved = np.linalg.inv(previous.view.world_from_ego) @ view.world_from_ego
    return float(moved[0, 3]), float(np.arctan2(moved[1, 0], moved[0, 0]))


def _curvature(previous: CueMemory | None, step_m: float, turn_rad: float) -> float:
    if previous is None or step_m < _STEP_M:
        return 0.0 if previous is None else previous.curvature_per_m
    weight = float(1 - 0.5 ** (step_m / _CURVATURE_HALF_LIFE_M))
    return previous.curvature_per_m + weight * (turn_rad / step_m - previous.curvature_per_m)


def _update_signs(
    previous: CueMemory | None,
    cues: tuple[TrafficCue, ...],
    ahead_m: Floats,  # (E,) of the cues
    step_m: float,
    turn_rad: float,
    config: CueConfig,
) -> tuple[tuple[SignInForce, ...], float]:
    """Return the signs in force, and the turn of the vehicle since they could last have ended."""
    if previous is None:
        return (), 0.0
    behind = {cue.id for cue, x in zip(cues, ahead_m, strict=True) if x <= 0}
    passed = tuple(
        cue
        for cue in previous.cues
        if cue.id in behind
        and cue.distance_along_path_m is not None
        and cue.applies_to_ego >= config.relevant
        and cue.confidence >= config.min_confidence
    )
    turned = previous.turned_rad + turn_rad
    junction = any(cue.kind == "light" for cue in passed) or abs(turned) >= _TURN_RAD
    signs = update_signs_in_force(
        previous.signs,
        tuple(cue for cue in passed if cue.kind == "sign"),
        step_m=abs(step_m),
        junction_passed=junction,
        limit_m=config.sign_memory_m,
    )
    return signs, 0.0 if junction else turned * 0.5 ** (abs(step_m) / _TURN_FORGOTTEN_M)


def _nearest_first(cues: list[TrafficCue], signs: tuple[SignInForce, ...]) -> list[TrafficCue]:
    """Return the cues by distance, without the signs in force."""
    ended = {sign.cue.id for sign in signs}
    left = [cue for cue in cues if cue.id not in ended]
    return sorted(left, key=lambda cue: (float(np.hypot(*cue.position_m[:2])), cue.id))


def _in_force(signs: tuple[SignInForce, ...], view: RigView) -> list[TrafficCue]:
    """Return the cues of signs in force, as they were when they were passed."""
    result = []
    for sign in signs:
        seen_us = sign.cue.timestamp_us - sign.cue.last_seen_s * 1e6
        x, y, z = sign.cue.position_m
        result.append(
            replace(
                sign.cue,
                timestamp_us=view.timestamp_us,
                position_m=(x - sign.driven_m, y, z),
                camera=None,
                box_px=None,
                visible_now=False,
                last_seen_s=(view.timestamp_us - seen_us) * 1e-6,
                distance_along_path_m=None,
                distance_std_m=None,
                in_force=True,
            )
        )
    return result


class CueStream:
    """Stream of one vehicle's cues; ``update_cues`` with its memory.

    Args:
        config: of all stages.
        traffic_map: lights and lanes in the world frame, optional.

    Example:
        >>> stream = CueStream()
        >>> cues = stream.step(frame, detections, manoeuvre="left")
        >>> cues.for_manoeuvre("left").reason
        'stop: the light for your lane is red, 31 m ahead, seen now, 0.97'
    """

    def __init__(
        self, config: CueConfig | None = None, *, traffic_map: TrafficMap | None = None
    ) -> None:
        self.config = config or CueConfig()
        self.traffic_map = traffic_map
        self._memory: CueMemory | None = None

    @property
    def memory(self) -> CueMemory | None:
        """Return the knowledge after the last step; None before the first."""
        return self._memory

    def step(
        self, frame: Frame | RigView, detections: TrafficDetections, *, manoeuvre: str | None = None
    ) -> FrameCues:
        """Return the cues of the next frame.

        Args:
            frame: the frame, with a pose.
            detections: of the frame, in its ego frame.
            manoeuvre: that the navigation commands, of ``vocabulary.MANOEUVRES``; None: straight.

        Raises:
            ValueError: the frame has no pose, or the manoeuvre is unknown. The stream is then
                unchanged.
        """
        view = frame if isinstance(frame, RigView) else RigView.from_frame(frame)
        cues, self._memory = update_cues(
            self._memory,
            view,
            detections,
            config=self.config,
            traffic_map=self.traffic_map,
            manoeuvre=manoeuvre,
        )
        return cues
