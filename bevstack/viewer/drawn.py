"""A moment as primitives to draw: solids, lines, points and texts in the ego frame.

The browser, the window and the saved pictures draw the same primitives. Layers that are switched
off give none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bevstack.render.bev_view import EGO_LENGTH_M, EGO_REAR_OVERHANG_M, EGO_WIDTH_M
from bevstack.render.colors import LANE, MUTED, RGB, RULE, TRAIL
from bevstack.types.sectors import SectorTrust
from bevstack.viewer import wires
from bevstack.viewer.coloring import identity_color
from bevstack.viewer.drawn_boxes import draw_picked, draw_predicted, draw_true
from bevstack.viewer.moment import Floats, Moment
from bevstack.viewer.primitives import Drawing, Lines, Points, Solids, Text
from bevstack.viewer.traffic_shapes import traffic_lines, traffic_solids, traffic_texts
from bevstack.viewer.view_state import BY_IDENTITY, ViewState

GROUND_M = -0.02  # height of lines on the ground
RINGS_M = (10.0, 20.0, 30.0, 40.0, 50.0)
GRID_REACH_M, GRID_STEP_M = 60.0, 10.0
_ARC_STEPS, _ARC_SHARE, _ARC_INSIDE_M = 12, 0.92, 0.6  # of a sector's arc
_NO_TRUST, _FULL_TRUST = np.array((255.0, 84, 84)), np.array((60.0, 205, 160))
EGO_COLOR: RGB = (196, 204, 216)
EGO_HEIGHT_M = 1.5


def draw(moment: Moment, state: ViewState) -> Drawing:
    """Return the primitives of a moment in the given state of the view."""
    solids: list[Solids] = [ego_solid()]
    lines: list[Lines] = []
    points: list[Points] = []
    if "grid" in state.layers:
        lines += _grid()
    if "ground" in state.layers:
        lines += _ground_lines(moment)
    if "sectors" in state.layers and moment.sectors is not None:
        lines.append(_sectors(moment.sectors))
    if "lidar" in state.layers and moment.lidar_m is not None:
        points.append(_lidar(moment.lidar_m))
    if "trails" in state.layers:
        lines += _trails(moment, state)
    if "true" in state.layers and moment.true is not None:
        boxes, groups = draw_true(moment, state)
        solids += boxes
        lines += groups
    if "predicted" in state.layers:
        for model in range(len(moment.predicted)):
            boxes, groups = draw_predicted(moment, model, state)
            solids += boxes
            lines += groups
    lines += list(draw_picked(moment, state))
    texts: list[Text] = []
    if "traffic" in state.layers and moment.traffic is not None:
        solids.append(Solids(name="traffic", **traffic_solids(moment.traffic.marks)._asdict()))
        lines.append(Lines(name="traffic", **traffic_lines(moment.traffic.marks)._asdict()))
        texts += [
            Text(name=f"traffic/{number}", text=text, place_m=place)
            for number, (text, place) in enumerate(traffic_texts(moment.traffic.marks))
        ]
    return Drawing(
        solids=tuple(group for group in solids if len(group.center_m)),
        lines=tuple(group for group in lines if len(group.segments_m)),
        points=tuple(group for group in points if len(group.points_m)),
        texts=tuple(texts),
    )


def ego_solid() -> Solids:
    """Return the outline of the vehicle."""
    forward = EGO_LENGTH_M / 2 - EGO_REAR_OVERHANG_M
    return Solids(
        name="ego",
        center_m=np.array([[forward, 0.0, EGO_HEIGHT_M / 2]]),
        size_m=np.array([[EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M]]),
        yaw_rad=np.zeros(1),
        color=np.array([EGO_COLOR], np.uint8),
    )


def _grid() -> Iterator[Lines]:
    lines = wires.grid(GRID_REACH_M, GRID_STEP_M, GROUND_M)
    yield _lines("grid", lines, (52, 58, 68), 1.0)
    rings = np.concatenate([wires.ring(radius, GROUND_M) for radius in RINGS_M])
    yield _lines("rings", rings, RULE, 1.5)


def _ground_lines(moment: Moment) -> Iterator[Lines]:
    around = moment.surroundings
    lanes = [wires.chain(wires.flat(lane[:, :2], GROUND_M)) for lane in around.lanes]
    borders = [
        wires.chain(wires.flat(np.concatenate((ring, ring[:1])), GROUND_M))
        for ring in around.drivable
        if len(ring)
    ]
    yield _lines("lanes", _joined(lanes), _lighter(LANE), 1.5)
    yield _lines("road", _joined(borders), _lighter(RULE), 1.0)
    if around.trail is not None and len(around.trail) > 1:
        trail = wires.chain(wires.flat(around.trail[:, :2], 0.02))
        yield _lines("own_trail", trail, TRAIL, 2.0)


def _sectors(sectors: SectorTrust) -> Lines:
    """Return an arc at the outer edge of each sector, red without trust and green with full."""
    bearings, rings = sectors.trust.shape
    half, step = np.pi / bearings, np.linspace(-1.0, 1.0, _ARC_STEPS + 1)
    segments, colors = [], []
    for bearing in range(bearings):
        angle = 2 * half * bearing + half * _ARC_SHARE * step
        for ring in range(rings):
            radius = sectors.range_edges_m[ring + 1] - _ARC_INSIDE_M
            arc = np.column_stack((radius * np.cos(angle), radius * np.sin(angle)))
            part = wires.chain(wires.flat(arc, 0.0))
            trust = float(sectors.trust[bearing, ring])
            color = np.rint(_NO_TRUST + trust * (_FULL_TRUST - _NO_TRUST)).astype(np.uint8)
            segments.append(part)
            colors.append(np.tile(color, (len(part), 1)))
    return Lines(
        name="sectors",
        segments_m=np.concatenate(segments),
        color=np.concatenate(colors),
        width_px=5.0,
    )


def _lidar(points_m: Floats) -> Points:
    """Return lidar points, lighter the higher they are."""
    share = np.clip((points_m[:, 2] + 0.5) / 4.0, 0, 1)[:, None]
    low, high = np.array((58, 72, 96.0)), np.array((128, 150, 184.0))
    color = np.rint(low + share * (high - low)).astype(np.uint8)
    return Points(name="lidar", points_m=points_m, color=color, size_m=0.045)


def _trails(moment: Moment, state: ViewState) -> Iterator[Lines]:
    sources = {p.name for p in moment.predicted} if moment.predicted else {""}
    segments: list[Floats] = []
    colors: list[NDArray[np.uint8]] = []
    for trail in moment.trails:
        if trail.source not in sources or trail.label not in state.labels:
            continue
        part = wires.chain(trail.points_m)
        by_identity = state.color_by == BY_IDENTITY
        color = identity_color(trail.identity) if by_identity else MUTED
        segments.append(part)
        colors.append(np.tile(np.array(color, np.uint8), (len(part), 1)))
    if segments:
        yield Lines(
            name="trails",
            segments_m=np.concatenate(segments),
            color=np.concatenate(colors),
            width_px=2.0,
        )


def _lines(name: str, segments_m: Floats, color: RGB, width_px: float) -> Lines:
    colors = np.tile(np.array(color, np.uint8), (len(segments_m), 1))
    return Lines(name=name, segments_m=segments_m, color=colors, width_px=width_px)


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros((0, 2, 3))


def _lighter(color: RGB) -> RGB:
    red, green, blue = (min(round(1.25 * channel), 255) for channel in color)
    return red, green, blue
