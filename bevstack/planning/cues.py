"""Cues of all tracked elements in a frame."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import LightConfig
from bevstack.planning.element_memory import ElementMemory, best_rows
from bevstack.planning.lights import STATE_NAMES
from bevstack.planning.map_match import MapMatch
from bevstack.planning.relevance import Surroundings
from bevstack.planning.sign_memory import meaning_probabilities
from bevstack.types.cues import LampBelief, TrafficCue
from bevstack.types.rig_view import RigView
from bevstack.types.traffic import Lamp
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, MANOEUVRES, SIGN_MEANINGS, TRAFFIC_LIGHT

Floats = NDArray[np.float64]


def surroundings(
    memory: ElementMemory, view: RigView, match: MapMatch, curvature_per_m: float
) -> Surroundings:
    """Return the elements in the ego frame of a view."""
    elements = memory.scene.elements
    ego_from_world = view.ego_from_world()
    rotation, shift = ego_from_world[:3, :3], ego_from_world[:3, 3]
    ego_yaw = np.arctan2(view.world_from_ego[1, 0], view.world_from_ego[0, 0])
    yaw = (elements.yaw_rad - ego_yaw + np.pi) % (2 * np.pi) - np.pi
    return Surroundings(
        is_light=elements.category == TRAFFIC_LIGHT,
        position_m=elements.position_m @ rotation.T + shift,
        covariance_m2=rotation @ elements.covariance_m2 @ rotation.T,
        yaw_rad=yaw,
        yaw_variance=elements.yaw_variance,
        moving_log_odds=elements.moving_log_odds,
        shape=memory.lights.shape_probabilities(),
        pedestrian=memory.impressions.pedestrian,
        state=memory.lights.named,
        learned=memory.impressions.learned,
        map_governs=match.governs,
        curvature_per_m=curvature_per_m,
    )


def traffic_cues(
    memory: ElementMemory,
    around: Surroundings,
    applies_to_ego: Floats,  # (E,)
    governs: NDArray[np.bool_],  # (E, M)
    *,
    view: RigView,
    detections: TrafficDetections,
    map_ids: tuple[str | None, ...],  # E
    stop_lines_m: Floats,  # (E,) NaN: none
    config: LightConfig,
) -> tuple[TrafficCue, ...]:
    """Return one cue for each element, in the order of ``memory``."""
    best = best_rows(memory.scene, detections)
    observable = memory.lights.flashing_observable(view.timestamp_us, config)
    elements = memory.scene.elements
    cues = []
    for row in range(len(elements)):
        state = _light(memory, row) if around.is_light[row] else _sign(memory, row)
        camera, box = _box(view, detections, int(best[row]))
        ahead = float(around.position_m[row, 0])
        seen_us = int(elements.last_seen_us[row])
        stop_line = float(stop_lines_m[row])
        cues.append(
            TrafficCue(
                id=str(elements.identity[row]),
                kind="light" if around.is_light[row] else "sign",
                timestamp_us=view.timestamp_us,
                state=state.lamps,
                state_name=state.name,
                state_probability=state.probability,
                last_state_name=state.last,
                meaning=state.meaning,
                speed_limit_mps=state.speed_limit_mps,
                confidence=float(elements.confidence[row]),
                position_m=_triple(around.position_m[row]),
                position_cov_m2=around.covariance_m2[row],
                yaw_rad=float(around.yaw_rad[row]),
                camera=camera,
                box_px=box,
                visible_now=box is not None,
                last_seen_s=(view.timestamp_us - seen_us) * 1e-6,
                state_since_s=(view.timestamp_us - state.since_us) * 1e-6,
                flashing_observable=bool(around.is_light[row] and observable[row]),
                applies_to_ego=float(applies_to_ego[row]),
                applies_to=tuple(m for m, g in zip(MANOEUVRES, governs[row], strict=True) if g),
                distance_along_path_m=ahead if ahead > 0 else None,
                distance_std_m=_std(around.covariance_m2[row]) if ahead > 0 else None,
                stop_line_s_m=stop_line if math.isfinite(stop_line) else None,
                sources=_sources(view, int(elements.cameras[row])),
                map_id=map_ids[row],
            )
        )
    return tuple(cues)


class _State(NamedTuple):
    """State of a light or meaning of a sign."""

    name: str
    probability: float
    last: str
    since_us: int
    lamps: tuple[LampBelief, ...] = ()
    meaning: str | None = None
    speed_limit_mps: float | None = None


def _light(memory: ElementMemory, row: int) -> _State:
    lights = memory.lights
    name = STATE_NAMES[int(lights.named[row])]
    probability = float(np.clip(lights.named_probability[row], 0, 1))
    return _State(
        name,
        probability,
        STATE_NAMES[int(lights.last_known[row])],
        int(lights.named_since_us[row]),
        lamps=lit_lamps(name, probability, lights.shape_probabilities()[row]),
    )


def _sign(memory: ElementMemory, row: int) -> _State:
    meanings = meaning_probabilities(memory.impressions.meaning[row : row + 1])[0]
    meaning = SIGN_MEANINGS[int(meanings.argmax())]
    number = float(memory.impressions.speed_limit_mps[row])
    return _State(
        "unknown",
        float(meanings.max()),
        "unknown",
        int(memory.scene.elements.first_seen_us[row]),
        meaning=meaning,
        speed_limit_mps=number if meaning == "speed_limit" and math.isfinite(number) else None,
    )


def lit_lamps(
    name: str,
    probability: float,
    shape: Floats,  # (S,) probabilities of the lit lamp's shape
) -> tuple[LampBelief, ...]:
    """Return the lamps of a named state, with the most probable shape; none if off or unknown."""
    if name in ("off", "unknown"):
        return ()
    flashes = name.startswith("flashing_")
    colors = ("red", "yellow") if name == "red_yellow" else (name.removeprefix("flashing_"),)
    best = int(shape.argmax())
    status = "flashing" if flashes else "on"
    belief = float(np.clip(probability * shape[best], 0, 1))
    return tuple(LampBelief(Lamp(color, LAMP_SHAPES[best], status), belief) for color in colors)


def _box(
    view: RigView, detections: TrafficDetections, row: int
) -> tuple[str | None, tuple[float, float, float, float] | None]:
    if row < 0:
        return None, None
    left, top, right, bottom = (float(value) for value in detections.boxes_px[row])
    return view.camera_names[int(detections.camera[row])], (left, top, right, bottom)


def _std(covariance_m2: Floats) -> float:
    return math.sqrt(max(float(covariance_m2[0, 0]), 0.0))


def _sources(view: RigView, bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in enumerate(view.camera_names) if bits >> bit & 1)


def _triple(values: Floats) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
