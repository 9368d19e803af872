"""Boxes as columns: the input of the evaluator.

Boxes keep the conventions of the results format, because the metric is defined on them: size
(width, length, height), quaternions, world frame.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import shorten

NO_SAMPLE = -1  # for a box whose sample_token is not in the list of samples
NO_ATTRIBUTE = -1
UNKNOWN_POINTS = -1


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """Predicted or true boxes of many samples, in the order of their file."""

    sample_tokens: NDArray[np.str_]  # (S,)
    sample: NDArray[np.int32]  # (M,) row of sample_tokens: the sample whose list holds the box
    # (M,) row of the sample in the box's own sample_token field, or NO_SAMPLE. The box is matched
    # within this sample. In a valid file it equals ``sample``.
    named_sample: NDArray[np.int32]
    translation: NDArray[np.float64]  # (M, 3) metres in the world, centre of gravity
    size: NDArray[np.float64]  # (M, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (M, 4) quaternion wxyz, of world_from_box
    velocity: NDArray[np.float64]  # (M, 2) m/s along the world's (x, y), NaN if unknown
    label: NDArray[np.int8]  # (M,) index into DETECTION_CLASSES
    attribute: NDArray[np.int8]  # (M,) index into ATTRIBUTES, or NO_ATTRIBUTE
    score: NDArray[np.float64]  # (M,) confidence; -1 for true boxes
    num_points: NDArray[np.int32]  # (M,) lidar and radar points inside, or UNKNOWN_POINTS

    def __post_init__(self) -> None:
        count, problem = len(self.sample), None
        for field in fields(self)[1:]:
            column = getattr(self, field.name)
            width = WIDTHS.get(field.name)
            shape = (count,) if width is None else (count, width)
            if column.shape != shape:
                problem = problem or f"{field.name} of shape {column.shape} instead of {shape}"
        if problem:
            raise ValueError(f"box columns must have the same length; got {problem}")

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> BoxColumns:
        """Return the boxes of the given rows; the list of samples stays the same."""
        columns = {field.name: getattr(self, field.name)[rows] for field in fields(self)[1:]}
        return BoxColumns(sample_tokens=self.sample_tokens, **columns)

    def select_samples(self, tokens: NDArray[np.str_]) -> BoxColumns:
        """Return the boxes of the given samples, with sample rows that index the given list.

        The order of the boxes stays the same. Boxes in the list of another sample are left out. A
        box that stays but names another sample gets ``NO_SAMPLE`` as its ``named_sample``.
        """
        if np.array_equal(self.sample_tokens, tokens):
            return self
        row = {token: number for number, token in enumerate(tokens.tolist())}
        rows = [row.get(token, NO_SAMPLE) for token in self.sample_tokens.tolist()]
        new_row = np.array([*rows, NO_SAMPLE], dtype=np.int32)  # index -1 stays -1
        columns = {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "sample_tokens": tokens,
            "sample": new_row[self.sample],
            "named_sample": new_row[self.named_sample],
        }
        boxes = BoxColumns(**columns)
        inside = boxes.sample != NO_SAMPLE
        return boxes if inside.all() else boxes[inside]

    def describe(self, row: int) -> str:
        """Name one box for a message, by its number and its sample."""
        sample = self.sample[row]
        number = int(np.count_nonzero(self.sample[:row] == sample))
        return f"box {number} of sample {shorten(str(self.sample_tokens[sample]))}"


WIDTHS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


@dataclass(frozen=True, kw_only=True)
class BicycleRacks:
    """Bicycle racks; bicycles and motorcycles inside them are not scored."""

    sample: NDArray[np.int32]  # (R,) row of the truth's sample_tokens
    translation: NDArray[np.float64]  # (R, 3) metres in the world
    size: NDArray[np.float64]  # (R, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (R, 4) quaternion wxyz


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """True boxes of the scored samples, and the ego positions and bicycle racks for filtering."""

    boxes: BoxColumns
    ego_translation: NDArray[np.float64]  # (S, 3) metres in the world, of each sample
    racks: BicycleRacks
