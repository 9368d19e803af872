"""OpenLane-V2's scores as plain loops over JSON values, written from the formulas.

Recalls, precisions and overlaps are exact fractions, so nothing here depends on rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Frame = dict[str, Any]
EDGE = 0.5


def overlap_distance(true: Any, guess: Any) -> Fraction | None:
    """Return 1 - IoU; None if the union has no area."""
    (a, b), (c, d) = ([[Fraction(v) for v in p] for p in box["points"]] for box in (true, guess))
    width, height = (min(b[i], d[i]) - max(a[i], c[i]) for i in (0, 1))
    shared = max(width, Fraction(0)) * max(height, Fraction(0))
    union = (b[0] - a[0]) * (b[1] - a[1]) + (d[0] - c[0]) * (d[1] - c[1]) - shared
    return 1 - shared / union if union else None


def lane_distance(true: Any, guess: Any) -> float:
    first, second = true["points"], guess["points"]

    @functools.cache
    def leash(i: int, j: int) -> float:
        here = math.dist(first[i], second[j])
        steps = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        before = [leash(*step) for step in steps if min(step) >= 0]
        return max(here, min(before)) if before else here

    near = min(math.hypot(*point) for point in first)
    return leash(len(first) - 1, len(second) - 1) * max(0.5, 1 - 0.005 * near)


def match(
    true: Sequence[Any], guesses: Sequence[Any], distance: Callable[..., Any], threshold: float
) -> list[int | None]:
    """Return the index of the true one that each guess takes."""
    taken: dict[int, int] = {}
    for row in sorted(range(len(guesses)), key=lambda row: -guesses[row]["confidence"]):
        distances = [distance(one, guesses[row]) for one in true]
        if not distances or None in distances:
            continue
        nearest = min(range(len(true)), key=lambda i: distances[i])
        if distances[nearest] < threshold and nearest not in taken.values():
            taken[row] = nearest
    return [taken.get(row) for row in range(len(guesses))]


def eleven_points(guesses: Sequence[tuple[float, bool]], num_truth: int) -> Fraction:
    """Return the average precision of (confidence, right) pairs."""
    if not guesses and not num_truth:
        return Fraction(1)
    ranked = sorted(guesses, key=lambda guess: -guess[0])
    points = []
    for count in range(1, len(ranked) + 1):
        found = sum(right for _, right in ranked[:count])
        points.append((Fraction(found, num_truth or 1), Fraction(found, count)))
    levels = [Fraction(k, 10) for k in range(11)]
    best = [max((p for r, p in points if r >= level), default=Fraction(0)) for level in levels]
    return sum(best, Fraction(0)) / 11


def detection(
    frames: Sequence[tuple[Frame, Frame]], kind: str, distance: Callable[..., Any], threshold: float
) -> Fraction:
    guesses, count = [], 0
    for true, guess in frames:
        found = match(true[kind], guess[kind], distance, threshold)
        guesses += [
            (g["confidence"], f is not None) for g, f in zip(guess[kind], found, strict=False)
        ]
        count += len(true[kind])
    return eleven_points(guesses, count)


def with_attribute(frame: Frame, attribute: int) -> Frame:
    kept = [e for e in frame["traffic_element"] if e["attribute"] == attribute]
    return {"traffic_element": kept}


def vertex(true: Sequence[float], guess: Sequence[float]) -> Fraction:
    """Return the average precision of one vertex's edges."""
    edges = [i for i, value in enumerate(guess) if value > EDGE]
    ranked = sorted(edges, key=lambda i: -guess[i])
    wanted = {i for i, value in enumerate(true) if value}
    if not wanted or not ranked:
        return Fraction(not wanted and not ranked)
    total = Fraction(0)
    for rank, edge in enumerate(ranked, start=1):
        if edge in wanted:
            total += Fraction(len(wanted & set(ranked[:rank])), rank)
    return total / len(wanted)


def topology(
    true: Frame, guess: Frame, name: str, rows: list[int | None], columns: list[int | None]
) -> list[Fraction]:
    truth = true[name]
    edges = [[0.0 if there else 0.500001 for there in row] for row in truth]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if row is not None and column is not None:
                edges[row][column] = guess[name][i][j]
    pairs = [
        *zip(truth, edges, strict=False),
        *zip(zip(*truth, strict=False), zip(*edges, strict=False), strict=False),
    ]
    return [vertex(*pair) for pair in pairs]


def scores(truth: dict[str, Frame], results: dict[str, Frame]) -> dict[str, Any]:
    """Return the scores in the form of the stored reference results."""
    frames = [(true, results[name]) for name, true in truth.items()]
    lane_precisions, lanes_to_lanes, lanes_to_elements = [], [], []
    for threshold in (1.0, 2.0, 3.0):
        lane_precisions.append(detection(frames, "lane_centerline", lane_distance, threshold))
        for true, guess in frames:
            sides = (true["lane_centerline"], guess["lane_centerline"])
            rows = match(*sides, lane_distance, threshold)
            sides = (true["traffic_element"], guess["traffic_element"])
            columns = match(*sides, overlap_distance, 0.75)
            lanes_to_lanes += topology(true, guess, "topology_lclc", rows, rows)
            if true["traffic_element"]:
                lanes_to_elements += topology(true, guess, "topology_lcte", rows, columns)
    precisions = []
    for attribute in range(13):
        some = [tuple(with_attribute(f, attribute) for f in pair) for pair in frames]
        precisions.append(detection(some, "traffic_element", overlap_distance, 0.75))
    det_l, det_t = (float(sum(p) / len(p)) for p in (lane_precisions, precisions))
    top = [float(sum(v) / len(v)) if v else 0.0 for v in (lanes_to_lanes, lanes_to_elements)]
    total = (det_l + det_t + math.sqrt(top[0]) + math.sqrt(top[1])) / 4
    return {
        "scores": {
            "DET_l": det_l,
            "DET_t": det_t,
            "TOP_ll": top[0],
            "TOP_lt": top[1],
            "score": total,
        },
        "AP_t": [float(p) for p in precisions],
    }
