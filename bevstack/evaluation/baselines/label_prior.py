"""Baseline of segmentation that does not use the picture: the most frequent label of a place."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import IGNORED_LABEL


class LabelPrior:
    """Frequency of each label in each cell of a grid over the pictures, and in all of them.

    Args:
        num_classes: K.
        cells: rows and columns of the grid.
    """

    def __init__(self, num_classes: int, cells: tuple[int, int] = (45, 80)) -> None:
        self.cells = cells
        self.counts = np.zeros((*cells, num_classes), np.int64)

    def add(
        self,
        labels: NDArray[np.uint8],  # (H, W); 255: none
    ) -> None:
        """Count the labels of one picture: those at the centres of the cells.

        Raises:
            ValueError: a label is neither of a class nor 255.
        """
        flat = self.cells[::-1]
        small = np.asarray(
            cv2.resize(labels, flat, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
        )
        rows, columns = np.nonzero(small != IGNORED_LABEL)
        found = small[rows, columns]
        if found.size and int(found.max()) >= self.counts.shape[2]:
            raise ValueError(
                f"labels must be below {self.counts.shape[2]} or 255; got {int(found.max())}"
            )
        np.add.at(self.counts, (rows, columns, found), 1)

    def most_frequent(self) -> int:
        """Return the label that most cells of all pictures have."""
        return int(self.counts.sum((0, 1)).argmax())

    def label_map(self, size: tuple[int, int]) -> NDArray[np.uint8]:  # (H, W)
        """Return the most frequent label of each cell, at the size of a picture."""
        best = self.counts.argmax(2).astype(np.uint8)
        scaled = cv2.resize(best, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(scaled, np.uint8)
