"""Knowledge of tracked elements over frames: place, state, meaning, the head's relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.config.cues import CueConfig
from bevstack.planning import light_filter
from bevstack.planning.light_pairs import LightPairs
from bevstack.planning.lights import LightLooks, LightMemory, update_lights
from bevstack.planning.sign_memory import meaning_evidence
from bevstack.tracking.element_tracks import ElementScene
from bevstack.tracking.elements import update_elements
from bevstack.types.rig_view import RigView
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LOOKS = 10.0  # over which the head's relevance and pedestrian probability are averaged


@dataclass(frozen=True)
class Impressions:
    """Averages of the head's output for E elements, beside the states of lights."""

    looks: Floats  # (E,) number of looks
    learned: Floats  # (E, M) mean log-odds of relevance
    pedestrian: Floats  # (E,) mean probability of a light for pedestrians
    meaning: Floats  # (E, len(SIGN_MEANINGS)) summed log-likelihoods
    speed_limit_mps: Floats  # (E,) last number that was read, NaN: none

    @staticmethod
    def start(count: int) -> Impressions:
        """Return the impressions of elements that no image has shown."""
        return Impressions(
            np.zeros(count),
            np.zeros((count, len(MANOEUVRES))),
            np.zeros(count),
            np.zeros((count, len(SIGN_MEANINGS))),
            np.full(count, np.nan),
        )

    def __getitem__(self, rows: Integers | slice) -> Impressions:
        """Return some of the elements."""
        return Impressions(*(getattr(self, item.name)[rows] for item in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Impressions]) -> Impressions:
        """Concatenate the elements of several parts."""
        return Impressions(
            *(
                np.concatenate([getattr(part, item.name) for part in parts])
                for item in fields(Impressions)
            )
        )


@dataclass(frozen=True)
class ElementMemory:
    """All that is known of the elements of a stream; rows of all parts agree."""

    scene: ElementScene
    lights: LightMemory  # rows of signs are of no use
    impressions: Impressions
    pairs: LightPairs  # those with signs are of no use


def update_memory(
    memory: ElementMemory | None,
    detections: TrafficDetections,
    view: RigView,
    config: CueConfig,
) -> ElementMemory:
    """Update the elements with a frame's detections.

    Raises:
        ValueError: the frame lies before the previous one.
    """
    scene = update_elements(
        None if memory is None else memory.scene, detections, view, config.tracking
    )
    names = scene.elements.identity.tolist()
    known = {} if memory is None else _rows(memory.scene.elements.identity.tolist())
    lights = LightMemory.start(len(names), view.timestamp_us, config.lights)
    impressions, pairs = Impressions.start(len(names)), LightPairs.start(len(names))
    seconds = 0.0
    if memory is not None:
        # New elements take a row behind the known ones.
        order = np.array(
            [known.get(name, len(known) + row) for row, name in enumerate(names)], np.int64
        )
        lights = LightMemory.concatenate([memory.lights, lights])[order]
        impressions = Impressions.concatenate([memory.impressions, impressions])[order]
        pairs = memory.pairs.reordered(order)
        seconds = (view.timestamp_us - memory.scene.timestamp_us) * 1e-6
    best = best_rows(scene, detections)
    lights = update_lights(
        lights, _looks(scene, detections, best), view.timestamp_us, config.lights
    )
    pairs = pairs.after_look(best >= 0, lights.named, seconds)
    return ElementMemory(scene, lights, _impress(impressions, detections, best), pairs)


def best_rows(scene: ElementScene, detections: TrafficDetections) -> Integers:  # (E,)
    """Return the row of each element's box with the highest score in all cameras, -1: none."""
    scores = np.append(detections.scores, -np.inf)[scene.rows]  # (E, N)
    if not scene.rows.size:
        return np.full(len(scene.elements), -1, np.int64)
    best = scores.argmax(1)
    return np.asarray(scene.rows[np.arange(len(best)), best])


def _rows(names: list[str]) -> dict[str, int]:
    return {name: row for row, name in enumerate(names)}


def _looks(scene: ElementScene, detections: TrafficDetections, best: Integers) -> LightLooks:
    seen = best >= 0
    color = np.full((len(best), len(LIGHT_COLORS)), 1 / len(LIGHT_COLORS))
    shape = np.full((len(best), len(LAMP_SHAPES)), 1 / len(LAMP_SHAPES))
    color[seen] = light_filter.normalised(detections.color[best[seen]])
    shape[seen] = light_filter.normalised(detections.shape[best[seen]])
    scores = np.zeros(len(best))
    # A box at the place of a known element shows that element more surely than its score alone.
    doubt = 1 - np.clip(detections.scores[best[seen]], 0, 1)
    scores[seen] = 1 - doubt * (1 - scene.elements.confidence[seen])
    missed = np.where(scene.missed, scene.elements.confidence, 0.0)
    return LightLooks(seen, color, shape, scores, missed)


def _impress(old: Impressions, detections: TrafficDetections, best: Integers) -> Impressions:
    seen = np.flatnonzero(best >= 0)
    found = detections[best[seen]]
    count = np.minimum(old.looks[seen] + 1, _LOOKS)
    learned, pedestrian = old.learned.copy(), old.pedestrian.copy()
    meaning, speed = old.meaning.copy(), old.speed_limit_mps.copy()
    relevance = np.clip(np.nan_to_num(found.relevance, nan=0.0), -20, 20)
    learned[seen] += (relevance - learned[seen]) / count[:, None]
    if found.pedestrian is not None:
        share = np.clip(np.nan_to_num(found.pedestrian, nan=0.0), 0, 1)
        pedestrian[seen] += (share - pedestrian[seen]) / count
    meaning[seen] += meaning_evidence(light_filter.normalised(found.meaning), found.scores)
    meaning[seen] -= meaning[seen].max(1, keepdims=True, initial=-np.inf)
    meaning[seen] = np.maximum(meaning[seen], -20.0)  # so that a wrong start can be mended
    if found.speed_limit_mps is not None:
        read = np.isfinite(found.speed_limit_mps) & (found.speed_limit_mps > 0)
        speed[seen[read]] = found.speed_limit_mps[read]
    looks = old.looks.copy()
    looks[seen] += 1
    return replace(
        old,
        looks=looks,
        learned=learned,
        pedestrian=pedestrian,
        meaning=meaning,
        speed_limit_mps=speed,
    )
