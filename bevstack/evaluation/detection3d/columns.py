"""Boxes to be scored, as columns: what the evaluator works on.

The results format's (width, length, height), quaternions and world frame are kept as they are: the
metric is defined on them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

NO_SAMPLE = -1  # of a box that names a sample which is not there
NO_ATTRIBUTE = -1
UNKNOWN_POINTS = -1


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """Predicted or true boxes of many samples, in the order of their file."""

    sample_tokens: NDArray[np.str_]  # (S,)
    sample: NDArray[np.int32]  # (M,) row of sample_tokens: whose list the box stands in
    # (M,) row of the sample that the box itself names, within which it is matched; the same for
    # any sane file
    named_sample: NDArray[np.int32]
    translation: NDArray[np.float64]  # (M, 3) metres in the world, centre of gravity
    size: NDArray[np.float64]  # (M, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (M, 4) quaternion wxyz, of world_from_box
    velocity: NDArray[np.float64]  # (M, 2) m/s along the world's (x, y), NaN where unknown
    label: NDArray[np.int8]  # (M,) index into DETECTION_CLASSES
    attribute: NDArray[np.int8]  # (M,) index into ATTRIBUTES, NO_ATTRIBUTE for none
    score: NDArray[np.float64]  # (M,) higher is surer; -1 for true boxes
    num_points: NDArray[np.int32]  # (M,) lidar and radar points inside, UNKNOWN_POINTS

    def __post_init__(self) -> None:
        count, problem = len(self.sample), None
        for field in fields(self)[1:]:
            column = getattr(self, field.name)
            wide = WIDTHS.get(field.name)
            shape = (count,) if wide is None else (count, wide)
            if column.shape != shape:
                problem = problem or f"{field.name} of shape {column.shape}, not {shape}"
        if problem:
            raise ValueError(f"box columns must be of one length; got {problem}")

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> BoxColumns:
        """Some of the boxes, of the same samples."""
        chosen = {field.name: getattr(self, field.name)[rows] for field in fields(self)[1:]}
        return BoxColumns(sample_tokens=self.sample_tokens, **chosen)

    def of_samples(self, tokens: NDArray[np.str_]) -> BoxColumns:
        """The boxes of other samples' list of tokens, rows renumbered, in the order they stand.

        Boxes of samples that are not among ``tokens`` are left out; a box that only names such a
        sample stays, and belongs to none.
        """
        if np.array_equal(self.sample_tokens, tokens):
            return self
        row = {token: number for number, token in enumerate(tokens.tolist())}
        rows = [row.get(token, NO_SAMPLE) for token in self.sample_tokens.tolist()]
        new_row = np.array([*rows, NO_SAMPLE], dtype=np.int32)  # the last is found by NO_SAMPLE
        moved = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "sample_tokens": tokens,
            "sample": new_row[self.sample],
            "named_sample": new_row[self.named_sample],
        }
        boxes = BoxColumns(**moved)
        inside = boxes.sample != NO_SAMPLE
        return boxes if inside.all() else boxes[inside]

    def place(self, row: int) -> str:
        """Names one box in a message."""
        sample = self.sample[row]
        number = int(np.count_nonzero(self.sample[:row] == sample))
        return f"box {number} of sample {str(self.sample_tokens[sample])!r}"


WIDTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


@dataclass(frozen=True, kw_only=True)
class BicycleRacks:
    """Racks, in which bicycles and motorcycles are not scored."""

    sample: NDArray[np.int32]  # (R,) row of the truth's sample_tokens
    translation: NDArray[np.float64]  # (R, 3) metres in the world
    size: NDArray[np.float64]  # (R, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (R, 4) quaternion wxyz


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What predictions are scored against."""

    boxes: BoxColumns
    ego_translation: NDArray[np.float64]  # (S, 3) metres in the world, of each sample
    racks: BicycleRacks
