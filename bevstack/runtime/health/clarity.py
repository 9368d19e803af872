"""Noisy and blurred cameras, by comparison with their own past and with the rest of the rig.

How sharp and how noisy a good picture is depends on the lens, the light, the weather and the size
of the picture. A camera is judged only if its measure differs from all that is known: from its own
running mean, and from the median of the other cameras in the same frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.pictures import PictureStatistics
from bevstack.types.health import CameraState

_MIN_REST = 2  # cameras that tell what the scene offers


@dataclass(frozen=True)
class Measured:
    """Statistics of one camera's picture."""

    statistics: PictureStatistics
    time_us: int


@dataclass(frozen=True)
class _Evidence:
    """Evidence for one state over successive pictures."""

    state: CameraState = CameraState.OK
    since_us: int = 0
    pictures: int = 0

    def followed_by(self, state: CameraState, time_us: int) -> _Evidence:
        """Return the evidence after the next picture."""
        if state is not self.state:
            return _Evidence(state, time_us, 1)
        return replace(self, pictures=self.pictures + 1)

    def lasts(self, time_us: int, config: HealthConfig) -> bool:
        """Return True if the evidence is long enough."""
        return (
            time_us - self.since_us >= 1e6 * config.lasting_s
            and self.pictures >= config.lasting_pictures
        )


@dataclass
class _Past:
    """Running means of one camera's clear pictures, and the evidence against it."""

    pictures: int = 0
    sharpness: float = 0.0
    noise: float = 0.0
    time_us: int = 0
    evidence: _Evidence = field(default_factory=_Evidence)

    def add(self, measured: Measured, config: HealthConfig) -> None:
        """Add a clear picture."""
        elapsed_s = 1e-6 * (measured.time_us - self.time_us)
        self.pictures += 1
        weight = max(1 / self.pictures, min(1.0, elapsed_s / config.reference_s))
        self.sharpness += weight * (measured.statistics.sharpness - self.sharpness)
        self.noise += weight * (measured.statistics.noise - self.noise)
        self.time_us = measured.time_us


class RigClarity:
    """Judge of sharpness and noise of the cameras of a rig.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._past: dict[str, _Past] = {}

    def judge(
        self,
        states: Sequence[CameraState],  # N
        measured: Mapping[int, Measured],  # by camera, of those with a usable picture
        labels: Sequence[str],  # N
    ) -> list[CameraState]:  # N
        """Return the states with those of noisy and blurred cameras filled in."""
        result = list(states)
        for index, own in measured.items():
            rest = [one.statistics for other, one in measured.items() if other != index]
            past = self._past.setdefault(labels[index], _Past())
            found = self._compare(own.statistics, past, rest)
            past.evidence = past.evidence.followed_by(found, own.time_us)
            if found is CameraState.OK:
                past.add(own, self._config)
            elif past.evidence.lasts(own.time_us, self._config):
                result[index] = found
        return result

    def _compare(
        self, own: PictureStatistics, past: _Past, rest: Sequence[PictureStatistics]
    ) -> CameraState:
        config = self._config
        if min(own.size) < config.min_side_px:
            return CameraState.OK
        noise, sharpness = [], []
        if past.pictures >= config.lasting_pictures:
            noise.append(past.noise)
            sharpness.append(past.sharpness)
        if len(rest) >= _MIN_REST:
            noise.append(float(np.median([one.noise for one in rest])))
            sharpness.append(float(np.median([one.sharpness for one in rest])))
        if not noise:
            return CameraState.OK
        if own.noise > max(config.noise_level, config.noise_ratio * max(noise)):
            return CameraState.NOISE
        is_soft = own.sharpness < min(config.min_sharpness, config.sharpness_ratio * min(sharpness))
        if is_soft and own.texture >= config.min_texture:
            return CameraState.BLURRED
        return CameraState.OK
