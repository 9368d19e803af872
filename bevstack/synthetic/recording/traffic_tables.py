"""Rows of the traffic tables in the preset `lights`: lanes, ego lanes, states and elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.rich_control import RichLight, RichSign
from bevstack.synthetic.population.routes import place_on_route
from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.population.traffic_control import TrafficControl
from bevstack.synthetic.recording.labels import Row
from bevstack.synthetic.scene import SAMPLE_PERIOD_S, RouteMap, Scene
from bevstack.synthetic.streets.lane_graph import Key, piece_at, piece_key
from bevstack.synthetic.streets.rich_layout import junction_of
from bevstack.tables.writer import make_token
from bevstack.types.traffic import MIN_LAMP_PIXELS, Lamp
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

_UNKNOWN = TRAFFIC_ELEMENT_ATTRIBUTES.index("unknown")


def rich_lane_rows(scene: Scene, lanes: RouteMap) -> list[Row]:
    """Return the rows of all lanes between junctions and of all connections through them."""
    rows: list[Row] = []
    for key, piece in lanes.graph.items():
        x, y = scene.placement.to_world(piece.points_m[:, 0], piece.points_m[:, 1])
        stop = [] if piece.stop_line_s_m is None else [round(piece.stop_line_s_m, 2)]
        rows.append(
            {
                "token": _lane_token(scene, key),
                "scene_token": make_token("scene", scene.name),
                "log_token": make_token("log", scene.name),
                "centerline": np.stack([x, y], axis=1).round(2).tolist(),
                "speed_limit_mps": round(scene.layout.lanes[piece.lane].speed_limit_mps, 2),
                "successors": [_lane_token(scene, next_key) for next_key in piece.successors],
                "stop_line_s_m": stop,
                "manoeuvres": list(piece.manoeuvres),
            }
        )
    return rows


def _lane_token(scene: Scene, key: Key) -> str:
    return make_token("lane", scene.name, *key)


def ego_lane_rows(scene: Scene, lanes: RouteMap) -> list[Row]:
    """Return the ego's lane, intended manoeuvre and distance to its stop line in each sample."""
    rows: list[Row] = []
    for sample in range(scene.samples):
        x, y, _ = sample_tracks(scene.ego.pose[None], sample * SAMPLE_PERIOD_S)[0]
        place = place_on_route(lanes.graph, lanes.route, float(x), float(y))
        distance = None if place.stop_line_m is None else round(place.stop_line_m, 2)
        rows.append(
            {
                "sample_token": make_token("sample", scene.name, sample),
                "lane_token": _lane_token(scene, place.key),
                "manoeuvre": place.manoeuvre,
                "stop_line_m": distance,
            }
        )
    return rows


def state_rows(scene: Scene) -> list[Row]:
    """Return the timelines of all traffic lights of a scene."""
    rows: list[Row] = []
    for index, control in enumerate(scene.controls):
        if not isinstance(control, RichLight):
            continue
        line = control.states.timeline(control.shape, scene.start_us)
        rows.append(
            {
                "instance_token": make_token("traffic_element", scene.name, index),
                "scene_token": make_token("scene", scene.name),
                "timestamp_us": line.timestamp_us.tolist(),
                "lamps": [_lamp_rows(lamps) for lamps in line.lamps],
                "flash_hz": line.flash_hz,
                "flash_offset_us": line.flash_offset_us,
            }
        )
    return rows


def _lamp_rows(lamps: tuple[Lamp, ...]) -> list[Row]:
    return [{"color": lamp.color, "shape": lamp.shape, "status": lamp.status} for lamp in lamps]


def element_fields(
    scene: Scene,
    control: TrafficControl,
    time_s: float,
    lamp_pixels: NDArray[np.float64],  # (3,)
) -> Row:
    """Return the additional fields of an element's row, and its lanes between junctions.

    Args:
        scene: of the element.
        control: the element.
        time_s: of the image, after the first sample.
        lamp_pixels: pixels that show the red, yellow and green lamp.
    """
    if isinstance(control, RichLight):
        return _light_fields(scene, control, time_s, control.lamp_pixels(time_s, lamp_pixels))
    if isinstance(control, RichSign):
        return _sign_fields(scene, control)
    return {}


def _light_fields(scene: Scene, light: RichLight, time_s: float, lamp_pixels: float) -> Row:
    keys = []
    for lane in light.lanes:
        count = len(scene.layout.lanes[lane].stop_lines)
        number = next(
            n for n in range(count) if junction_of(scene.layout, lane, n) == light.junction
        )
        keys.append(_lane_token(scene, piece_key(lane, number)))
    fields: Row = {
        "lane_token": keys[0] if keys else "",
        "lane_tokens": keys,
        "lamps": _lamp_rows(light.lit(time_s)),
        "manoeuvres": list(light.manoeuvres),
        "road_user": light.road_user,
        "orientation": "vertical" if light.size_m[2] > light.size_m[1] else "horizontal",
        "is_dark": light.is_dark(time_s),
        "lamp_pixels": round(lamp_pixels, 3),
    }
    if lamp_pixels < MIN_LAMP_PIXELS:
        fields["attribute"] = _UNKNOWN
    return fields


def _sign_fields(scene: Scene, sign: RichSign) -> Row:
    lane = scene.layout.lanes[sign.lane]
    key = piece_at(scene.layout, sign.lane, lane.path.nearest_s(*sign.centre_m[:2]))
    fields: Row = {
        "lane_token": _lane_token(scene, key),
        "lane_tokens": [_lane_token(scene, key)],
        "meaning": sign.name,
    }
    if sign.speed_limit_kmh:
        fields["speed_limit_mps"] = round(sign.speed_limit_kmh / 3.6, 4)
    return fields
