"""Traffic lights and lanes of a map, in the world frame, whatever file they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import MANOEUVRES

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MapLight:
    """A traffic light of a map and the lanes that it governs.

    Raises:
        ValueError: a manoeuvre is not in ``vocabulary.MANOEUVRES``.
    """

    map_id: str
    position_m: tuple[float, float, float]  # centre, in the world frame
    height_known: bool = True  # False: z of the position is of no use
    lanes: tuple[str, ...] = ()  # ids of ``TrafficMap.lanes`` that it governs
    manoeuvres: tuple[str, ...] = ()  # that it governs; (): all
    stop_line_m: Points | None = None  # (P, 2), in the world frame

    def __post_init__(self) -> None:
        for name in self.manoeuvres:
            if name not in MANOEUVRES:
                raise ValueError(
                    f"MapLight.manoeuvres must hold names of {', '.join(MANOEUVRES)}; got {name!r}"
                )


@dataclass(frozen=True, kw_only=True)
class TrafficMap:
    """Traffic lights of a map and the centre lines of its lanes, in the world frame."""

    lights: tuple[MapLight, ...]
    lanes: dict[str, Points] = field(default_factory=dict)  # id: (K, 2) in driving direction
    successors: dict[str, tuple[str, ...]] = field(default_factory=dict)  # id: lanes that follow
