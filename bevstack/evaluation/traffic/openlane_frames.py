"""Frames of OpenLane-V2's task: lanes, traffic elements and the edges between them, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class OpenLaneFrame:
    """The L lanes and E elements of one frame, true or predicted.

    Raises:
        ValueError: a shape does not fit the number of lanes or elements.
    """

    lanes_m: tuple[NDArray[np.float32], ...]  # L of (K, 3) points in the ego frame
    lane_confidence: Floats  # (L,); ones if true
    boxes_px: NDArray[np.float32]  # (E, 4) left, top, right, bottom in the front image
    category: Ints  # (E,) TRAFFIC_LIGHT or ROAD_SIGN
    attribute: Ints  # (E,) index into TRAFFIC_ELEMENT_ATTRIBUTES
    confidence: Floats  # (E,); ones if true
    topology_ll: NDArray[np.float32]  # (L, L) row's lane continues in column's; 0 or 1 if true
    topology_lt: NDArray[np.float32]  # (L, E) the element governs the lane; 0 or 1 if true

    def __post_init__(self) -> None:
        lanes, elements = len(self.lanes_m), len(self.boxes_px)
        shapes = {
            "lane_confidence": (lanes,),
            "boxes_px": (elements, 4),
            "category": (elements,),
            "attribute": (elements,),
            "confidence": (elements,),
            "topology_ll": (lanes, lanes),
            "topology_lt": (lanes, elements),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"OpenLaneFrame.{name} must have shape {shape}; got {getattr(self, name).shape}"
                )


OpenLaneFrames = Mapping[str, OpenLaneFrame]  # by the name of the frame


def expect_same_frames(truth: OpenLaneFrames, predictions: OpenLaneFrames) -> None:
    """Check that both sides hold the same frames.

    Raises:
        ValueError: a frame is on one side only (names the first one), or there is no frame.
    """
    if not truth:
        raise ValueError("truth must hold at least one frame; got none")
    missing = [name for name in truth if name not in predictions]
    additional = [name for name in predictions if name not in truth]
    if missing or additional:
        raise ValueError(
            "results must hold the frames of the truth; got "
            f"{len(missing)} frames of the truth without results and {len(additional)} results "
            f"without truth, the first {(missing or additional)[0]!r}"
        )
