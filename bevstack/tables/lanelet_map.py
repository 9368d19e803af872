"""Traffic lights and lanes of a Lanelet2 map, an OpenStreetMap file (extra ``maps``).

F. Poggenhans et al., "Lanelet2: A high-definition map framework for the future of automated
driving", ITSC 2018. The right of a light is a regulatory element of the subtype ``traffic_light``:
it refers to the lines of the lights and to a stop line, and lanelets refer to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.types.traffic_map import MapLight, TrafficMap
from bevstack.vocabulary import MANOEUVRES

MAX_BYTES = 1 << 28
_DEFAULT_HEIGHT_M = 1.0  # of a housing without the tag `height`


def read_lanelet_map(path: Path, *, latitude_deg: float, longitude_deg: float) -> TrafficMap:
    """Read lights, stop lines and lanes of a Lanelet2 map.

    Args:
        path: the ``.osm`` file.
        latitude_deg: of the world frame's origin. Positions are UTM's (x east, y north) relative
            to that origin.
        longitude_deg: of the world frame's origin.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the package lanelet2 is not installed.
        ValueError: the file is too large, no Lanelet2 map, or damaged; names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the Lanelet2 map must be a file; got {path}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"the Lanelet2 map must have at most {MAX_BYTES:,} bytes; got "
            f"{path.stat().st_size:,} in {path}"
        )
    try:
        import lanelet2
    except ImportError as error:
        raise ImportError(
            "reading a Lanelet2 map needs lanelet2: pip install 'bevstack[maps]'"
        ) from error
    projector = lanelet2.projection.UtmProjector(lanelet2.io.Origin(latitude_deg, longitude_deg))
    try:
        content, errors = lanelet2.io.loadRobust(str(path), projector)
    except RuntimeError as error:  # of the C++ library: no XML, or a place outside UTM
        raise ValueError(f"the Lanelet2 map must be readable; got {error} in {path}") from error
    problems = list(errors)
    if problems:
        raise ValueError(
            f"the Lanelet2 map must be without errors; got {len(problems)} in {path}, first: "
            f"{str(problems[0])[:160]}: mend it with a map editor such as JOSM"
        )
    lanelets = sorted(content.laneletLayer, key=lambda lanelet: lanelet.id)
    return TrafficMap(
        lights=_lights(lanelets),
        lanes={str(lanelet.id): _points(lanelet.centerline)[:, :2] for lanelet in lanelets},
        successors=_successors(lanelets),
    )


def _lights(lanelets: list[Any]) -> tuple[MapLight, ...]:
    """Return one light for each line that a regulatory element refers to."""
    places: dict[int, tuple[float, float, float]] = {}
    stop_lines: dict[int, NDArray[np.float64] | None] = {}
    lanes: dict[int, list[str]] = {}
    turns: dict[int, set[str]] = {}
    for lanelet in lanelets:
        for rule in lanelet.trafficLights():
            for line in rule.trafficLights:
                x, y, z = _points(line).mean(0)
                places[line.id] = (float(x), float(y), float(z) + _height_m(line) / 2)
                stop_line = rule.stopLine
                stop_lines[line.id] = None if stop_line is None else _points(stop_line)[:, :2]
                lanes.setdefault(line.id, []).append(str(lanelet.id))
                turns.setdefault(line.id, set()).add(_tag(lanelet, "turn_direction"))
    return tuple(
        MapLight(
            map_id=str(light),
            position_m=places[light],
            lanes=tuple(dict.fromkeys(lanes[light])),
            # A lane without the tag may lead anywhere.
            manoeuvres=tuple(m for m in MANOEUVRES if m in turns[light])
            if turns[light] <= set(MANOEUVRES)
            else (),
            stop_line_m=stop_lines[light],
        )
        for light in sorted(places)
    )


def _successors(lanelets: list[Any]) -> dict[str, tuple[str, ...]]:
    """Return the lanes that start with the two points at which a lane ends."""
    starts: dict[tuple[int, int], list[str]] = {}
    for lanelet in lanelets:
        ends = (lanelet.leftBound[0].id, lanelet.rightBound[0].id)
        starts.setdefault(ends, []).append(str(lanelet.id))
    return {
        str(lanelet.id): tuple(
            starts.get((lanelet.leftBound[-1].id, lanelet.rightBound[-1].id), ())
        )
        for lanelet in lanelets
    }


def _points(line: Any) -> NDArray[np.float64]:  # (P, 3)
    return np.array([(point.x, point.y, point.z) for point in line], np.float64).reshape(-1, 3)


def _tag(item: Any, name: str) -> str:
    return str(item.attributes[name]) if name in item.attributes else ""


def _height_m(line: Any) -> float:
    """Return the height of a housing above its line, which is its lower edge in Autoware's maps."""
    try:
        height = float(_tag(line, "height"))
    except ValueError:
        return _DEFAULT_HEIGHT_M
    return height if 0 < height < 10 else _DEFAULT_HEIGHT_M
