"""Layers of boxes to draw: predicted boxes in their class's colour, true boxes in white."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.render.colors import RGB, WHITE, class_color
from bevstack.shapes import expect_shape
from bevstack.types import Annotations, Boxes3D, Detections

MIN_DISTANCE_M = 0.5  # between the centres of two drawn predictions


@dataclass(frozen=True, kw_only=True)
class BoxStyle:
    """Drawing style of the boxes of one layer."""

    name: str  # in the legend
    color: RGB | None = None  # None: the colour of each box's class
    ground_only: bool = False  # draw in images only the outline on the ground
    thickness: float = 1.0  # factor on the picture's line width
    fill_opacity: float = 0.0  # of the front face in images, of the outline from above
    arrows: bool = False  # draw velocities in images; the bird's-eye view always does
    labelled: bool = False  # write class, identity and score beside the box in images


PREDICTED = BoxStyle(name="predicted", fill_opacity=0.2, thickness=1.4, arrows=True, labelled=True)
TRUE = BoxStyle(name="true", color=WHITE, ground_only=True)
TRUE_ALONE = BoxStyle(name="true", fill_opacity=0.2, thickness=1.4, arrows=True, labelled=True)


@dataclass(frozen=True)
class BoxLayer:
    """Boxes from one source, in the ``bev`` frame, with the style they are drawn in.

    Raises:
        ValueError: A box is not finite, or the number of labels, scores or identities is not that
            of boxes.
    """

    boxes: Boxes3D  # D boxes
    labels: Tensor  # (D,) int64
    scores: Tensor | None  # (D,); None for true boxes
    style: BoxStyle
    identities: Tensor | None = None  # (D,) int64, the number of each box's track

    def __post_init__(self) -> None:
        expect_shape("labels", self.labels, (len(self.boxes),))
        if self.scores is not None:
            expect_shape("scores", self.scores, (len(self.boxes),))
        if self.identities is not None:
            expect_shape("identities", self.identities, (len(self.boxes),))
        finite = torch.isfinite(self.boxes.corners()).flatten(1).all(1)
        if not bool(finite.all()):
            index = int((~finite).nonzero()[0])
            raise ValueError(f"{self.style.name} boxes must be finite; got a NaN in box {index}")

    def __len__(self) -> int:
        return len(self.boxes)

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4)
    ) -> BoxLayer:
        """Return the layer in another frame whose z axis points up."""
        boxes = self.boxes.transformed(dst_from_src)
        return replace(self, boxes=boxes)

    def corners(self) -> NDArray[np.float64]:  # (D, 8, 3)
        """Return the corners in metres, in the order of `bevstack.types.boxes.CORNER_SIGNS`."""
        return as_array(self.boxes.to(torch.float64).corners())

    def color(self, index: int, class_names: tuple[str, ...]) -> RGB:
        """Return the colour of one box."""
        return self.style.color or class_color(class_names, int(self.labels[index]))

    def caption(self, index: int, class_names: tuple[str, ...]) -> str:
        """Return the class of one box, its track and its score, as far as they are known."""
        parts = [class_names[int(self.labels[index])].replace("_", " ")]
        if self.identities is not None:
            parts.append(f"#{int(self.identities[index])}")
        if self.scores is not None:
            parts.append(f"{float(self.scores[index]):.2f}")
        return " ".join(parts)


def make_layers(
    detections: Detections | None,
    annotations: Annotations | None,
    identities: Tensor | None = None,  # (D,) int64, tracks of the detections
) -> tuple[BoxLayer, ...]:
    """Return layers in the order of drawing: true boxes, then predicted boxes over them.

    Without detections, true boxes are drawn like predicted ones, in the colours of their classes.

    Raises:
        ValueError: A box is not finite, or the number of identities is not that of detections.
    """
    layers = []
    if annotations is not None:
        style = TRUE_ALONE if detections is None else TRUE
        layers.append(BoxLayer(annotations.boxes, annotations.labels, None, style))
    if detections is not None:
        scores = detections.scores
        layer = BoxLayer(detections.boxes, detections.labels, scores, PREDICTED, identities)
        layers.append(layer)
    return tuple(layers)


class Selection(NamedTuple):
    """Detections to draw, and what was left out."""

    rows: Tensor  # int64 rows of the detections to draw, best first
    duplicates: int  # number of detections that reach the score, but repeat a better one


def choose_detections(
    detections: Detections, *, min_score: float = 0.2, max_boxes: int = 60
) -> Selection:
    """Choose at most ``max_boxes`` distinct detections with a score of ``min_score`` or more.

    Detections are taken in the order of their scores. One whose centre lies near that of a better
    one is left out as a duplicate, whatever its class: two objects cannot stand in one place. Near
    is half the mean side of the two boxes on the ground, 1.6 m for two cars and 3.5 m for two
    buses, and at least ``MIN_DISTANCE_M``. This keeps a picture readable; scores are computed from
    all detections.
    """
    order = torch.argsort(detections.scores, descending=True, stable=True)
    order = order[detections.scores[order] >= min_score]
    centers = as_array(detections.boxes.center[order])[:, :2]
    sides = as_array(detections.boxes.size[order])[:, :2].mean(1)
    kept: list[int] = []
    duplicates = 0
    for row in range(len(order)):
        if len(kept) == max_boxes:
            break
        distance = np.linalg.norm(centers[kept] - centers[row], axis=1)
        reach = np.maximum((sides[kept] + sides[row]) / 4, MIN_DISTANCE_M)
        if (distance < reach).any():
            duplicates += 1
        else:
            kept.append(row)
    return Selection(order[torch.tensor(kept, dtype=torch.int64)], duplicates)


def select_detections(
    detections: Detections, *, min_score: float = 0.2, max_boxes: int = 60
) -> Detections:
    """Return the detections that ``choose_detections`` chooses, best first."""
    chosen = choose_detections(detections, min_score=min_score, max_boxes=max_boxes)
    return detections[chosen.rows]


def as_array(tensor: Tensor) -> NDArray[np.float64]:
    """Return a detached tensor of any device as a float64 array."""
    array: NDArray[np.float64] = tensor.detach().cpu().to(torch.float64).numpy()
    return array
