"""Small random frames of OpenLane-V2's task with ties, duplicates and degenerate boxes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

COORDINATES = st.integers(0, 6)
CONFIDENCES = st.sampled_from([0.25, 0.5, 0.5, 0.75, 0.9])
EDGES = st.sampled_from([0.0, 0.25, 0.5, 0.50001, 0.75, 0.75, 1.0])
# Whole metres: distances at the thresholds are exact.
POINTS = st.tuples(st.integers(0, 3), st.integers(-2, 2), st.just(0)).map(list)


@st.composite
def frames(draw: st.DrawFn, *, predicted: bool) -> dict[str, Any]:
    lanes, elements = (draw(st.integers(0, 4)) for _ in range(2))
    confidence = CONFIDENCES if predicted else st.none()
    edges = EDGES if predicted else st.sampled_from([0, 1])
    frame: dict[str, Any] = {
        "lane_centerline": [
            {
                "id": i,
                "points": draw(st.lists(POINTS, min_size=2, max_size=4)),
                "confidence": draw(confidence),
            }
            for i in range(lanes)
        ],
        "traffic_element": [
            {
                "id": 100 + i,
                "category": draw(st.integers(1, 2)),
                "attribute": draw(st.sampled_from([0, 1, 1, 2, 12])),
                "points": [[draw(COORDINATES) for _ in range(2)] for _ in range(2)],
                "confidence": draw(confidence),
            }
            for i in range(elements)
        ],
    }
    for name, columns in (("topology_lclc", lanes), ("topology_lcte", elements)):
        frame[name] = [[draw(edges) for _ in range(columns)] for _ in range(lanes)]
    return frame


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [f"val/0/{i}" for i in range(draw(st.integers(1, 3)))]
    sides = ({n: draw(frames(predicted=p)) for n in names} for p in (False, True))
    truth, results = sides
    return truth, results
