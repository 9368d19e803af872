"""Turn rates of tracks, from their headings, and the paths that follow."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from bevstack.export.planning.scene import Floats, Ints, PlanningObjects
from bevstack.planning.paths import PredictedPaths, estimate_turn_rate, predict_paths

TURN_WINDOW_S = 2.0  # of the headings that give a track's turn rate


def paths_of_tracks(objects: PlanningObjects) -> PredictedPaths:
    """Return the paths of tracks; an unknown covariance counts as 0, and only grows from there."""
    count = len(objects)
    state = np.concatenate((objects.center[:, :2], np.nan_to_num(objects.velocity)), 1)
    unknown = np.zeros((count, 4, 4))
    rate, deviation = objects.turn_rate, objects.turn_rate_std
    assert rate is not None and deviation is not None  # of every track here
    covariance = unknown if objects.covariance is None else objects.covariance
    return predict_paths(state, covariance, objects.yaw, rate, deviation)


class TurnRates:
    """Headings of a scene's tracks in the last seconds, and the turn rates that follow."""

    def __init__(self) -> None:
        self._headings: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        self._now_s = 0.0

    def add(self, timestamp_us: int, identity: Ints, yaw: Floats) -> None:
        """Add the headings of a frame, in the world frame."""
        self._now_s = timestamp_us / 1e6
        for number, heading in zip(identity.tolist(), yaw.tolist(), strict=True):
            self._headings[number].append((self._now_s, heading))
        for number in list(self._headings):
            recent = self._recent(number)
            if recent:
                self._headings[number] = recent
            else:
                del self._headings[number]  # of a track that ended

    def estimate(self, identity: Ints) -> tuple[Floats, Floats]:
        """Return turn rates and deviations of tracks, in radians per second."""
        found = []
        for number in identity.tolist():
            entries = np.array(self._recent(number)).reshape(-1, 2)
            found.append(estimate_turn_rate(entries[:, 0], entries[:, 1]))
        rates = np.array(found).reshape(-1, 2)
        return rates[:, 0], rates[:, 1]

    def _recent(self, number: int) -> list[tuple[float, float]]:
        oldest_s = self._now_s - TURN_WINDOW_S
        headings = self._headings.get(number, [])
        return list(itertools.dropwhile(lambda entry: entry[0] < oldest_s, headings))
