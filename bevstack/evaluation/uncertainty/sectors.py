"""Fit of the trust in sectors, and its error: predicted against measured recall.

Letters: M true objects, P places of a sector, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bevstack.evaluation.analysis.calibration import reliability
from bevstack.uncertainty.sectors import BLIND, KINDS, SEEN, SectorModel, sector_places

Floats = NDArray[np.float64]

PRIOR_STD = 2.0  # of each kind's offset around that of the best kind, and of the slope: weak
MIN_OBJECTS = 100
BINS = 10
_OBJECT_COLUMNS = ("kind", "bearing", "ring", "score", "label", "sample")


@dataclass(frozen=True)
class SectorObservations:
    """True objects in sectors, with the views of their sector and the box that found them."""

    kind: NDArray[np.int8]  # (M, P) of KINDS, at the places of the object's sector
    bearing: NDArray[np.int64]  # (M,)
    ring: NDArray[np.int64]  # (M,)
    score: Floats  # (M,) of the matched box; -1: none
    label: NDArray[np.str_]  # (M,) name of the fault in the object's drive, or "none"
    sample: NDArray[np.int64]  # (M,) number of the sample in its run
    box_score: Floats  # (N,) of all boxes
    box_matched: NDArray[np.bool_]  # (N,) boxes that found an object

    def __len__(self) -> int:
        """Return M."""
        return len(self.ring)

    def select(self, rows: NDArray[np.bool_]) -> SectorObservations:
        """Return some of the objects; the boxes stay."""
        own = {name: getattr(self, name)[rows] for name in _OBJECT_COLUMNS}
        return replace(self, **own)

    @staticmethod
    def concatenate(parts: Sequence[SectorObservations]) -> SectorObservations:
        """Return the observations of several runs."""
        names = [field.name for field in fields(SectorObservations)]
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return SectorObservations(**joined)


def best_score(score: Floats, matched: NDArray[np.bool_], num_objects: int) -> float:
    """Return the score from which on boxes have the greatest F1.

    Args:
        score: (N,) of all boxes.
        matched: (N,) boxes that found an object.
        num_objects: number of true objects.

    Raises:
        ValueError: no box found an object.
    """
    if not matched.any():
        raise ValueError(f"boxes must find an object; got none of {num_objects} by {len(score)}")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(matched[order])
    f1 = 2 * hits / (np.arange(len(score)) + 1 + num_objects)
    return float(score[order][int(np.argmax(f1))])


def fit_sectors(
    found: SectorObservations, fitted_on: Mapping[str, Any], *, memory_s: float
) -> SectorModel:
    """Return the model under which the found and missed objects are likeliest.

    Kinds of view without objects get the recall of the best kind, as far as the prior holds.

    Args:
        found: the objects.
        fitted_on: note on the scenes and faults.
        memory_s: time that the history of the observed model reaches back.

    Raises:
        ValueError: there are too few objects, or no box found one.
    """
    if len(found) < MIN_OBJECTS:
        raise ValueError(
            f"objects must be {MIN_OBJECTS} or more; got {len(found)}: fit on more scenes"
        )
    min_score = best_score(found.box_score, found.box_matched, len(found))
    is_found = found.score >= min_score
    places = sector_places()
    distance = np.linalg.norm(places[..., :2], axis=-1)[found.bearing, found.ring]
    kind = found.kind.astype(np.int64)

    def model(parameters: Floats) -> SectorModel:
        offset, slope = parameters[: len(KINDS)], np.full(len(KINDS), parameters[-1])
        slope[BLIND] = 0.0  # chance does not depend on the distance
        return SectorModel(
            offset=offset,
            slope=slope,
            min_score=min_score,
            memory_s=memory_s,
            fitted_on=dict(fitted_on),
        )

    def cost(parameters: Floats) -> float:
        recall = model(parameters).recall(kind, distance).mean(1).clip(1e-6, 1 - 1e-6)
        likelihood = np.where(is_found, np.log(recall), np.log(1 - recall)).sum()
        away = np.append(parameters[: len(KINDS)] - parameters[SEEN], parameters[-1]) / PRIOR_STD
        return float(0.5 * (away**2).sum() - likelihood)

    start = np.append(np.where(np.arange(len(KINDS)) == BLIND, -3.0, 0.5), -1.0)
    best = minimize(cost, start, method="L-BFGS-B", bounds=[(-12.0, 12.0)] * len(start))
    return model(np.asarray(best.x, dtype=np.float64))


def predicted_recall(model: SectorModel, found: SectorObservations) -> Floats:  # (M,)
    """Return the trust in the sector of each object."""
    places = sector_places(model.num_bearings, model.range_edges_m)
    distance = np.linalg.norm(places[..., :2], axis=-1)[found.bearing, found.ring]
    recall: Floats = model.recall(found.kind.astype(np.int64), distance).mean(-1)
    return recall


class SectorScores(NamedTuple):
    """Agreement of trust and recall over objects."""

    objects: int
    trust: float  # mean
    recall: float
    expected_calibration_error: float
    brier: float  # mean squared difference of trust and found


def score_sectors(
    trust: Floats,  # (M,)
    found: NDArray[np.bool_],  # (M,)
) -> SectorScores:
    """Return the agreement; NaN without an object."""
    if not len(found):
        return SectorScores(0, *[float("nan")] * 4)
    bins = reliability("all", trust, found, BINS)
    return SectorScores(
        len(found),
        float(trust.mean()),
        float(found.mean()),
        bins.expected_calibration_error,
        float(((trust - found) ** 2).mean()),
    )
