"""Paths of tracks and of the vehicle in a stream, and the trails that follow from them."""

from __future__ import annotations

from collections import deque

import numpy as np

from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, Floats, Trail
from bevstack.viewer.paths import TRAIL_S

OWN_TRAIL_S = 20.0
_BACK_S = 0.5  # time that goes back by more starts another drive


class StreamPaths:
    """Places in the world of the last seconds, added moment by moment.

    Args:
        source: name of the model.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._tracks: dict[int, deque[tuple[int, Floats]]] = {}  # microseconds, place
        self._own: deque[tuple[int, Floats]] = deque()
        self._last_us = 0

    def add(self, timestamp_us: int, boxes: BoxArrays, world_from_ego: Floats | None) -> None:
        """Add the boxes of the next moment; without a pose, all earlier places are forgotten."""
        back_s = (self._last_us - timestamp_us) * 1e-6
        if world_from_ego is None or back_s > _BACK_S:
            self._tracks.clear()
            self._own.clear()
        self._last_us = timestamp_us
        if world_from_ego is None:
            return
        self._own.append((timestamp_us, world_from_ego[:3, 3].copy()))
        places = boxes.center_m @ world_from_ego[:3, :3].T + world_from_ego[:3, 3]
        for identity, place in zip(boxes.identity.tolist(), places, strict=True):
            if identity != NO_IDENTITY:
                self._tracks.setdefault(identity, deque()).append((timestamp_us, place))
        _forget(self._own, timestamp_us, OWN_TRAIL_S)
        for path in self._tracks.values():
            _forget(path, timestamp_us, TRAIL_S)
        self._tracks = {identity: path for identity, path in self._tracks.items() if path}

    def trails(self, boxes: BoxArrays, world_from_ego: Floats | None) -> tuple[Trail, ...]:
        """Return the trail of each box of the last moment that was somewhere before."""
        if world_from_ego is None:
            return ()
        found = []
        for identity, label in zip(boxes.identity.tolist(), boxes.label.tolist(), strict=True):
            path = self._tracks.get(identity, ())
            if len(path) < 2:
                continue
            times_s = np.array([(time_us - self._last_us) * 1e-6 for time_us, _ in path])
            places = np.array([place for _, place in path])
            found.append(
                Trail(
                    identity=identity,
                    label=label,
                    points_m=_seen_from(places, world_from_ego),
                    times_s=times_s,
                    source=self._source,
                )
            )
        return tuple(found)

    def own_trail(self, world_from_ego: Floats | None) -> Floats | None:  # (P, 3)
        """Return the places of the vehicle in its present frame; None if it has just started."""
        if world_from_ego is None or len(self._own) < 2:
            return None
        return _seen_from(np.array([place for _, place in self._own]), world_from_ego)


def _forget(path: deque[tuple[int, Floats]], now_us: int, longest_s: float) -> None:
    while path and (now_us - path[0][0]) * 1e-6 > longest_s:
        path.popleft()


def _seen_from(places_m: Floats, world_from_ego: Floats) -> Floats:
    seen: Floats = (places_m - world_from_ego[:3, 3]) @ world_from_ego[:3, :3]
    return seen
