"""All scores of lights, signs and cues on a split of a root, and their file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.evaluation.analysis.bootstrap import DRAWS, FEWEST_SCENES, Interval, intervals
from bevstack.evaluation.traffic.cue_scores import (
    AdviceScores,
    DistanceError,
    RelevanceScores,
    distance_errors,
    score_advice,
    score_relevance,
)
from bevstack.evaluation.traffic.cue_truth import advice_times, distance_pairs
from bevstack.evaluation.traffic.element_scores import (
    ElementScores,
    Precision,
    color_accuracy,
    macro,
    score_elements,
)
from bevstack.evaluation.traffic.root_figures import RootMatches, match_root
from bevstack.evaluation.traffic.root_truth import RootTruth
from bevstack.evaluation.traffic.state_scores import StateScores, StateSums, score_states
from bevstack.evaluation.traffic.traffic_frames import TrafficFrames
from bevstack.files import write_text_atomically
from bevstack.vocabulary import LIGHT_COLORS, TRAFFIC_ELEMENT_ATTRIBUTES

METRICS_NAME = "traffic_metrics.json"


@dataclass(frozen=True, kw_only=True)
class TrafficScores:
    """Scores of a file on a split; those of cues are None if the file has no cues."""

    num_samples: int
    num_scenes: int
    elements: ElementScores
    states: StateScores | None
    relevance: RelevanceScores | None
    advice: AdviceScores | None
    distances: tuple[DistanceError, ...]
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, kw_only=True)
class TrafficComparison:
    """The figures of another file minus those of the scored one."""

    file: str  # name of the other file
    differences: tuple[Interval, ...]  # over draws of scenes that both share


def score_root(file: TrafficFrames, truth: RootTruth, *, draws: int = DRAWS) -> TrafficScores:
    """Score the elements and cues of a file.

    Args:
        file: the predicted frames, one for every sample of the truth; frames between samples add to
            the scores over time.
        truth: the truth of a split.
        draws: random draws of scenes for each interval; 0: no intervals.

    Raises:
        ValueError: a sample of the split has no frame.
    """
    return score_matches(match_root(file, truth), len(truth.tokens), draws=draws)


def score_matches(matches: RootMatches, num_samples: int, *, draws: int = DRAWS) -> TrafficScores:
    """Score the matched elements and cues of a file.

    Args:
        matches: of ``match_root``.
        num_samples: number of samples of the truth.
        draws: random draws of scenes for each interval; 0: no intervals.
    """
    scenes, has_cues = matches.scenes, matches.has_cues
    pairs = np.concatenate([np.zeros((0, 2)), *(distance_pairs(scene) for scene in scenes)])
    moments = [moment for some in matches.moments for moment in some]
    found = [i for f in matches.figures() for i in intervals(f, draws=draws)] if draws else []
    return TrafficScores(
        num_samples=num_samples,
        num_scenes=matches.num_scenes,
        elements=score_elements(matches.elements),
        states=score_states(sum(matches.sums, start=StateSums())) if has_cues else None,
        relevance=score_relevance(moments) if has_cues else None,
        advice=score_advice([advice_times(scene) for scene in scenes]) if has_cues else None,
        distances=distance_errors(pairs[:, 0], pairs[:, 1]) if has_cues else (),
        intervals=tuple(found),
    )


def write_traffic_metrics(
    folder: Path, scores: TrafficScores, comparison: TrafficComparison | None = None
) -> Path:
    """Write ``traffic_metrics.json`` and return its path.

    Args:
        folder: created if needed.
        scores: of the file.
        comparison: with another file, under the key "against"; None: no such key.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / METRICS_NAME
    content = metrics_to_json(scores)
    if comparison is not None:
        content["against"] = _defined(dataclasses.asdict(comparison))
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def metrics_to_json(scores: TrafficScores) -> dict[str, Any]:
    """Return all scores as JSON values; undefined figures are null, infinite ones "inf"."""
    elements = scores.elements
    content = {
        "samples": scores.num_samples,
        "scenes": scores.num_scenes,
        "fewest_scenes": FEWEST_SCENES,
        "DET_t": elements.det_t,
        "macro_AP": macro(list(elements.attributes)),
        "AP": _by_name(elements.attributes),
        "AP_lights_from_6_px": _by_name(elements.lights),
        "AP_signs_from_10_px": _by_name(elements.signs),
        "macro_AP_signs_from_10_px": macro(list(elements.signs)),
        "AP_by_height_px": {bounds.name: _by_name(p) for bounds, p in elements.by_height},
        "AP_by_distance_m": {bounds.name: _by_name(p) for bounds, p in elements.by_distance},
        "AP_by_box_convention": {name: _by_name(p) for name, p in elements.by_convention},
        "color_given_match": color_accuracy(elements.confusion),
        "speed_limit_given_match_from_16_px": {
            "accuracy": elements.numbers.accuracy,
            "true": elements.numbers.total,
        },
        "color_confusion": {
            true: dict(zip(LIGHT_COLORS, row, strict=True))
            for true, row in zip(LIGHT_COLORS, elements.confusion.tolist(), strict=True)
        },
        "states": _fields(scores.states),
        "relevance": _fields(scores.relevance),
        "advice": _fields(scores.advice),
        "distances": [_fields(error) for error in scores.distances],
        "intervals": [_fields(interval) for interval in scores.intervals],
    }
    cleaned: dict[str, Any] = _defined(content)
    return cleaned


def _by_name(precisions: Sequence[Precision]) -> dict[str, Any]:
    return {
        TRAFFIC_ELEMENT_ATTRIBUTES[p.attribute]: {
            "AP": p.value,
            "true": p.num_truth,
            "predicted": p.num_predictions,
        }
        for p in precisions
        if p.num_truth or p.num_predictions
    }


def _fields(value: Any) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)


def _defined(value: Any) -> Any:
    """Replace NaN by null and infinity by a text, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_defined(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if value != value else "inf"
    return value
