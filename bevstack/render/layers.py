"""Layers of boxes to draw: predicted boxes solid in their class's colour, true boxes dashed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.render.colors import RGB, WHITE, class_color
from bevstack.shapes import expect_shape
from bevstack.types import Annotations, Boxes3D, Detections


@dataclass(frozen=True, kw_only=True)
class BoxStyle:
    """Drawing style of the boxes of one layer."""

    name: str  # in the legend
    color: RGB | None = None  # None: the colour of each box's class
    dashed: bool = False
    thickness: float = 1.0  # factor on the picture's line width
    fill_opacity: float = 0.0  # of the front face in images, of the outline from above
    arrows: bool = False  # draw velocities in images; the bird's-eye view always does
    labelled: bool = False  # write class, and score if there is one, beside the box in images


PREDICTED = BoxStyle(name="predicted", fill_opacity=0.2, thickness=1.4, arrows=True, labelled=True)
TRUE = BoxStyle(name="true", color=WHITE, dashed=True)
TRUE_ALONE = BoxStyle(name="true", fill_opacity=0.2, thickness=1.4, arrows=True, labelled=True)


@dataclass(frozen=True)
class BoxLayer:
    """Boxes from one source, in the ``bev`` frame, with the style they are drawn in.

    Raises:
        ValueError: A box is not finite, or the number of labels or scores is not that of boxes.
    """

    boxes: Boxes3D  # D boxes
    labels: Tensor  # (D,) int64
    scores: Tensor | None  # (D,); None for true boxes
    style: BoxStyle

    def __post_init__(self) -> None:
        expect_shape("labels", self.labels, (len(self.boxes),))
        if self.scores is not None:
            expect_shape("scores", self.scores, (len(self.boxes),))
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
        return BoxLayer(boxes, self.labels, self.scores, self.style)

    def corners(self) -> NDArray[np.float64]:  # (D, 8, 3)
        """Return the corners in metres, in the order of `bevstack.types.boxes.CORNER_SIGNS`."""
        return as_array(self.boxes.to(torch.float64).corners())

    def color(self, index: int, class_names: tuple[str, ...]) -> RGB:
        """Return the colour of one box."""
        return self.style.color or class_color(class_names, int(self.labels[index]))

    def caption(self, index: int, class_names: tuple[str, ...]) -> str:
        """Return the class of one box, followed by its score if there is one."""
        name = class_names[int(self.labels[index])].replace("_", " ")
        return name if self.scores is None else f"{name} {float(self.scores[index]):.2f}"


def make_layers(
    detections: Detections | None,
    annotations: Annotations | None,
) -> tuple[BoxLayer, ...]:
    """Return layers in the order of drawing: true boxes, then predicted boxes over them.

    Without detections, true boxes are drawn like predicted ones, in the colours of their classes.
    """
    layers = []
    if annotations is not None:
        style = TRUE_ALONE if detections is None else TRUE
        layers.append(BoxLayer(annotations.boxes, annotations.labels, None, style))
    if detections is not None:
        layers.append(BoxLayer(detections.boxes, detections.labels, detections.scores, PREDICTED))
    return tuple(layers)


def select_detections(
    detections: Detections, *, min_score: float = 0.2, max_boxes: int = 60
) -> Detections:
    """Return at most ``max_boxes`` detections with a score of ``min_score`` or more, best first.

    The limits keep a picture readable.
    """
    order = torch.argsort(detections.scores, descending=True, stable=True)
    order = order[detections.scores[order] >= min_score]
    return detections[order[:max_boxes]]


def as_array(tensor: Tensor) -> NDArray[np.float64]:
    """Return a detached tensor of any device as a float64 array."""
    array: NDArray[np.float64] = tensor.detach().cpu().to(torch.float64).numpy()
    return array
