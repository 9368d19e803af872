"""OpenLane-V2's scores of topology: the edges between lanes, and from lanes to elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.average_precision import NO_MATCH

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EDGE = 0.5  # an edge exists if its confidence is greater
WRONG_EDGE = EDGE + float(np.finfo(np.float32).eps)


def predicted_edges(
    truth: NDArray[np.float32],  # (R, C) 0 or 1
    predicted: NDArray[np.float32],  # (P, Q) confidences
    row_matches: Ints,  # (P,) true row of each predicted one, or NO_MATCH
    column_matches: Ints,  # (Q,)
) -> Floats:  # (R, C)
    """Return the confidences of edges between the true vertices.

    An edge at a vertex that no prediction matches gets the wrong answer: a false edge of the least
    confidence that counts, or none where there is one.
    """
    edges = (1.0 - truth.astype(np.float64)) * WRONG_EDGE
    rows = np.flatnonzero(row_matches != NO_MATCH)
    columns = np.flatnonzero(column_matches != NO_MATCH)
    edges[np.ix_(row_matches[rows], column_matches[columns])] = predicted[np.ix_(rows, columns)]
    return edges


def vertex_precisions(
    truth: NDArray[np.float32],  # (R, C) 0 or 1
    confidences: Floats,  # (R, C)
) -> Floats:  # (R,)
    """Return the average precision of the edges of each row's vertex.

    The edges are ranked by confidence, equal ones by column; the precisions at true edges are
    summed and divided by the number of true edges. The value is 1 without true and predicted edges,
    and 0 with either alone.
    """
    order = np.argsort(-confidences, axis=1, kind="stable")
    predicted = np.take_along_axis(confidences, order, 1) > EDGE
    hits = predicted & (np.take_along_axis(truth, order, 1) > 0)
    rank = np.maximum(np.cumsum(predicted, axis=1), 1)
    precision = (np.cumsum(hits, axis=1) / rank).astype(np.float32)
    count = (truth > 0).sum(axis=1)
    values = np.where(hits, precision, np.float32(0)).sum(axis=1, dtype=np.float64)
    values = values / np.maximum(count, 1)
    return np.where(count > 0, values, np.where(predicted.any(axis=1), 0.0, 1.0))


def topology_precisions(truth: NDArray[np.float32], confidences: Floats) -> Floats:
    """Return the average precisions of all vertices: of the rows, then of the columns."""
    return np.concatenate(
        (vertex_precisions(truth, confidences), vertex_precisions(truth.T, confidences.T))
    )


def mean_precision(parts: Sequence[Floats]) -> float:
    """Return the mean over all vertices, frames and thresholds; 0 if there are none."""
    return float(np.concatenate(parts).mean()) if parts else 0.0
