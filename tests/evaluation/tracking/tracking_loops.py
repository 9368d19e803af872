"""The tracking metric as plain loops over dictionaries, written from its definition."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns

Box = dict[str, Any]
Scenes = list[list[list[Box]]]  # scene -> sample -> boxes


def scenes_of(boxes: TrackColumns, frames: Frames) -> tuple[Scenes, list[list[int]]]:
    places, times, scenes = [], defaultdict(list), defaultdict(list)
    for scene, time in zip(frames.scene.tolist(), frames.timestamp_us.tolist(), strict=True):
        places.append((scene, len(times[scene])))
        times[scene].append(time)
        scenes[scene].append([])
    for n in range(len(boxes)):
        scene, k = places[boxes.frame[n]]
        x, y = boxes.center[n].tolist()
        box = {"id": int(boxes.track[n]), "label": int(boxes.label[n]), "xy": (x, y)}
        scenes[scene][k].append({**box, "score": float(boxes.score[n])})
    return list(scenes.values()), list(times.values())


def average_scores(scenes: Scenes) -> None:
    for scene in scenes:
        scores = defaultdict(list)
        for boxes in scene:
            for box in boxes:
                scores[box["id"]].append(box["score"])
        for boxes in scene:
            for box in boxes:
                box["score"] = float(np.mean(scores[box["id"]]))


def fill_holes(scenes: Scenes, all_times: list[list[int]]) -> None:
    for scene, times in zip(scenes, all_times, strict=True):
        history: dict[int, list[tuple[int, Box]]] = {}
        for k, boxes in enumerate(scene):
            for box in boxes:
                history.setdefault(box["id"], []).append((k, box))
        for k in range(len(scene)):
            for seen in history.values():
                before = [entry for entry in seen if entry[0] < k]
                after = [entry for entry in seen if entry[0] > k]
                if any(entry[0] == k for entry in seen) or not before or not after:
                    continue
                (i, left), (j, right) = before[-1], after[0]
                weight = (times[j] - times[k]) / (times[j] - times[i])  # the devkit's, reversed
                xy = [
                    (1 - weight) * a + weight * b
                    for a, b in zip(left["xy"], right["xy"], strict=True)
                ]
                score = (1 - weight) * left["score"] + weight * right["score"]
                scene[k].append({**right, "xy": tuple(xy), "score": score})


def follow(truth: Scenes, predicted: Scenes, label: int, threshold: float) -> dict[str, Any]:
    """Match one class at one threshold; return events by object and counts."""
    events: dict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    result = {"frames": 0, "fp": 0, "distance": 0.0, "events": events, "scores": []}
    for number, (true_scene, scene) in enumerate(zip(truth, predicted, strict=True)):
        memory: dict[int, int] = {}
        for true_boxes, boxes in zip(true_scene, scene, strict=True):
            rows = [box for box in true_boxes if box["label"] == label]
            cols = [b for b in boxes if b["label"] == label and b["score"] >= threshold]
            if not rows and not cols:
                continue
            frame = result["frames"]
            result["frames"] += 1
            far = [[_distance(a, b) for b in cols] for a in rows]
            pairs: dict[int, tuple[int, str]] = {}
            for i, row in enumerate(rows):
                used = {j for j, _ in pairs.values()}
                same = [j for j, c in enumerate(cols) if c["id"] == memory.get(row["id"])]
                same = [j for j in same if j not in used]
                if same and far[i][same[0]] < 2:
                    pairs[i] = same[0], "MATCH"
            for i, j in _rest(far, set(pairs), {j for j, _ in pairs.values()}):
                known = memory.get(rows[i]["id"])
                switched = known is not None and known != cols[j]["id"]
                pairs[i] = j, "SWITCH" if switched else "MATCH"
                memory[rows[i]["id"]] = cols[j]["id"]
            for i, row in enumerate(rows):
                kind = pairs[i][1] if i in pairs else "MISS"
                events[number, row["id"]].append((frame, kind))
            result["distance"] += sum(far[i][j] for i, (j, _) in pairs.items())
            result["fp"] += len(cols) - len(pairs)
            matched = {cols[j]["id"] for j, kind in pairs.values() if kind == "MATCH"}
            result["scores"] += [c["score"] for c in cols if c["id"] in matched]
    return result


def class_rows(truth: Scenes, predicted: Scenes, label: int) -> list[dict[str, float]]:
    """Return the 40 rows of a class, from recall 1 downwards."""
    count = sum(box["label"] == label for scene in truth for boxes in scene for box in boxes)
    nan = dict.fromkeys(
        [
            "recall",
            "motar",
            "gt",
            "mota",
            "motp",
            "mt",
            "ml",
            "faf",
            "tp",
            "fp",
            "fn",
            "ids",
            "frag",
            "tid",
            "lgd",
        ]
    )
    nan = dict.fromkeys(nan, math.nan)
    if not count:
        return [nan] * 40
    first = follow(truth, predicted, label, -math.inf)
    scores = sorted(first["scores"], reverse=True)
    if not scores:
        objects = len(first["events"])
        worst = {"recall": 0, "motar": 0, "mota": 0, "motp": 2, "mt": 0, "faf": 500, "tp": 0}
        worst |= {"gt": count, "ml": objects}
        return [{**nan, **worst, "fn": count, "tid": 20, "lgd": 20}] * 40
    recall = [(k + 1) / count for k in range(len(scores))]
    rows = []
    for level in np.linspace(0.1, 1.0, 40).round(12)[::-1].tolist():
        if level > recall[-1]:
            rows.append(nan)
        else:
            threshold = float(np.interp(level, recall, scores))
            rows.append(row_of(follow(truth, predicted, label, threshold)))
    return rows


def row_of(result: dict[str, Any]) -> dict[str, float]:
    histories = list(result["events"].values())
    kinds = [kind for history in histories for _, kind in history]
    m, s, miss = (kinds.count(kind) for kind in ("MATCH", "SWITCH", "MISS"))
    f, n = result["fp"], len(kinds)
    shares, delays, gaps, fragments = [], [], [], 0
    for history in histories:
        tracked = [frame for frame, kind in history if kind != "MISS"]
        shares.append(len(tracked) / len(history))
        if not tracked:
            continue
        delays.append(0.5 * (tracked[0] - history[0][0]))
        ends = [history[0][0] - 1, *tracked, history[-1][0] + 1]
        gaps.append(0.5 * max(b - a - 1 for a, b in pairwise(ends)))
        inner = [kind for frame, kind in history if tracked[0] <= frame <= tracked[-1]]
        fragments += sum(a != "MISS" and b == "MISS" for a, b in pairwise(inner))
    return {
        "recall": (m + s) / n,
        "motar": max(0, 1 - f / m) if m else math.nan,
        "gt": n,
        "mota": max(0, 1 - (miss + s + f) / n),
        "motp": result["distance"] / (m + s) if m + s else math.nan,
        "mt": sum(share >= 0.8 for share in shares),
        "ml": sum(share < 0.2 for share in shares),
        "faf": 100 * f / result["frames"],
        "tp": m,
        "fp": f,
        "fn": miss,
        "ids": s,
        "frag": fragments,
        "tid": sum(delays) / len(delays) if delays else math.nan,
        "lgd": sum(gaps) / len(gaps) if gaps else math.nan,
    }


def _distance(a: Box, b: Box) -> float:
    dx, dy = a["xy"][0] - b["xy"][0], a["xy"][1] - b["xy"][1]
    return math.sqrt(dx * dx + dy * dy)


def _rest(far: list[list[float]], rows: set[int], cols: set[int]) -> list[tuple[int, int]]:
    """Return the pairs of the best assignment of what is not in ``rows`` and ``cols``."""
    possible = {
        (i, j): d
        for i, line in enumerate(far)
        for j, d in enumerate(line)
        if d < 2 and i not in rows and j not in cols
    }
    if not possible:
        return []
    large = 2 * min(len(far), len(far[0])) * (max(possible.values()) + 1) + 1
    cost = np.full((len(far), len(far[0])), large)
    for place, d in possible.items():
        cost[place] = d
    chosen = zip(*(side.tolist() for side in linear_sum_assignment(cost)), strict=True)
    return [pair for pair in chosen if pair in possible]
