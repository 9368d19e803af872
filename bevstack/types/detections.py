"""Boxes with a class: the detections of a model, and the ground truth."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevstack.files import write_text_atomically
from bevstack.shapes import expect_shape
from bevstack.types.boxes import Boxes3D
from bevstack.types.sectors import SectorTrust
from bevstack.types.uncertainty import BoxUncertainty

DETECTIONS_FORMAT = "bevstack-detections-1"


@dataclass(frozen=True)
class Detections:
    """Detected boxes of one frame, highest score first, by default in the ``bev`` frame.

    Raises:
        ValueError: scores or labels that are not one a box.
    """

    boxes: Boxes3D  # D boxes
    scores: Tensor  # (D,) 0 to 1
    labels: Tensor  # (D,) int64, index into the configuration's class names
    class_names: tuple[str, ...] = ()  # of the labels; empty if they are not known
    # In the frame of the boxes; None: the weights have no calibration for this kind of stream.
    uncertainty: BoxUncertainty | None = None

    def __post_init__(self) -> None:
        expect_shape("scores", self.scores, (len(self.boxes),))
        expect_shape("labels", self.labels, (len(self.boxes),))
        if self.uncertainty is not None:
            expect_shape("uncertainty.state", self.uncertainty.state, (len(self.boxes), 4, 4))

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        """Return the number of boxes of each class and the range of the scores."""
        if not len(self):
            return "Detections(0 boxes)"
        names = self._names()
        counts = ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())
        low, high = float(self.scores.min()), float(self.scores.max())
        plural = "box" if len(self) == 1 else "boxes"
        return f"Detections({len(self)} {plural}: {counts}; scores {high:.2f} to {low:.2f})"

    def __getitem__(self, index: Tensor | slice) -> Detections:
        boxes, scores, labels = self.boxes[index], self.scores[index], self.labels[index]
        known = None if self.uncertainty is None else self.uncertainty[index]
        return replace(self, boxes=boxes, scores=scores, labels=labels, uncertainty=known)

    def to_dict(
        self, timestamp_us: int | None = None, sectors: SectorTrust | None = None
    ) -> dict[str, Any]:
        """Return plain numbers and texts, as ``save`` writes them.

        The boxes must be in the ego frame, as those of a ``Frame`` without ``bev_from_ego`` are.

        Args:
            timestamp_us: the frame's time in microseconds.
            sectors: trust in the sectors around the vehicle; None leaves out the key "sectors".

        Returns:
            ``{"format", "frame": "ego", "timestamp_us", "detections": [{"class", "score",
            "center_m", "size_m" (length, width, height), "yaw_rad", "velocity_mps"}]}``, best
            first. An unknown velocity is None. Without class names, "class" is "label 3". With a
            calibration, each box has the key "uncertainty" too: see ``BoxUncertainty.to_entries``.
        """
        columns = {
            "score": self.scores.tolist(),
            "center_m": self.boxes.center.tolist(),
            "size_m": self.boxes.size.tolist(),
            "yaw_rad": self.boxes.yaw.tolist(),
            "velocity_mps": [
                [None if math.isnan(value) else value for value in pair]
                for pair in self.boxes.velocity.tolist()
            ],
        }
        entries = [
            {"class": name, **{field: column[row] for field, column in columns.items()}}
            for row, name in enumerate(self._names())
        ]
        if self.uncertainty is not None:
            known = self.uncertainty.to_entries()
            entries = [
                {**entry, "uncertainty": own} for entry, own in zip(entries, known, strict=True)
            ]
        return {
            "format": DETECTIONS_FORMAT,
            "frame": "ego",
            "timestamp_us": timestamp_us,
            **({} if sectors is None else {"sectors": sectors.to_entry()}),
            "detections": entries,
        }

    def save(
        self,
        path: Path | str,
        timestamp_us: int | None = None,
        *,
        sectors: SectorTrust | None = None,
    ) -> None:
        """Write ``to_dict`` as JSON, which ``bevstack show --results`` draws.

        Raises:
            OSError: the file cannot be written.
            ValueError: a score, centre, size or heading is not finite.
        """
        try:
            text = json.dumps(self.to_dict(timestamp_us, sectors), indent=1, allow_nan=False)
        except ValueError:
            raise ValueError(
                f"boxes of {path} must be finite; got infinite or undefined values: check the "
                "model's weights and its input"
            ) from None
        write_text_atomically(path, text)

    def _names(self) -> list[str]:
        """Return the class of every box."""
        known = self.class_names
        return [known[i] if known else f"label {i}" for i in self.labels.tolist()]

    def transformed(
        self,
        dst_from_src: Tensor,  # (4, 4)
    ) -> Detections:
        """Return the same detections in another upright frame."""
        known = None if self.uncertainty is None else self.uncertainty.transformed(dst_from_src)
        return replace(self, boxes=self.boxes.transformed(dst_from_src), uncertainty=known)

    def to(self, device: torch.device | str) -> Detections:
        """Return the detections on a device."""
        boxes, scores, labels = self.boxes, self.scores, self.labels
        known = None if self.uncertainty is None else self.uncertainty.to(device)
        return replace(
            self,
            boxes=boxes.to(device),
            scores=scores.to(device),
            labels=labels.to(device),
            uncertainty=known,
        )


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
