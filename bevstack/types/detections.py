"""Boxes with a class: the detections of a model, and the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.types.boxes import Boxes3D


@dataclass(frozen=True)
class Detections:
    """Detected boxes of one frame, highest score first, by default in the ``bev`` frame.

    Raises:
        ValueError: scores or labels that are not one a box.
    """

    boxes: Boxes3D  # D boxes
    scores: Tensor  # (D,) 0 to 1
    labels: Tensor  # (D,) int64, index into the configuration's class names

    def __post_init__(self) -> None:
        expect_shape("scores", self.scores, (len(self.boxes),))
        expect_shape("labels", self.labels, (len(self.boxes),))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> Detections:
        return Detections(self.boxes[index], self.scores[index], self.labels[index])

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4)
    ) -> Detections:
        """Return the same detections in another upright frame."""
        return Detections(self.boxes.transformed(dst_from_src), self.scores, self.labels)

    def to(self, device: torch.device | str) -> Detections:
        """Return the detections on a device."""
        return Detections(self.boxes.to(device), self.scores.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Annotations:
    """Ground-truth boxes of one frame, by default in the ``bev`` frame.

    Raises:
        ValueError: labels or point counts that are not one a box.
    """

    boxes: Boxes3D  # A boxes
    labels: Tensor  # (A,) int64, index into the configuration's class names
    num_points: Tensor  # (A,) int64, lidar and radar points inside, -1 if not counted; 0: unscored

    def __post_init__(self) -> None:
        expect_shape("labels", self.labels, (len(self.boxes),))
        expect_shape("num_points", self.num_points, (len(self.boxes),))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> Annotations:
        return Annotations(self.boxes[index], self.labels[index], self.num_points[index])

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4)
    ) -> Annotations:
        """Return the same annotations in another upright frame."""
        return Annotations(self.boxes.transformed(dst_from_src), self.labels, self.num_points)

    def to(self, device: torch.device | str) -> Annotations:
        """Return the annotations on a device."""
        return Annotations(
            self.boxes.to(device), self.labels.to(device), self.num_points.to(device)
        )

    @staticmethod
    def empty() -> Annotations:
        """Return annotations without boxes."""
        none = torch.zeros(0, dtype=torch.int64)
        return Annotations(Boxes3D.empty(), none, none)
