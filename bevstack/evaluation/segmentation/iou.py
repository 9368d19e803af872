"""Mean intersection over union of label maps, as the released code counts it.

Pixels are counted over all pictures. Pixels whose true label is 255 count nowhere, whatever is
predicted there. A class that is neither true nor predicted has no IoU and is left out of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import IGNORED_LABEL


@dataclass(frozen=True)
class LabelScores:
    """Scores over a set of pictures."""

    iou: NDArray[np.float64]  # (K,) of each class; nan: neither true nor predicted
    accuracy: NDArray[np.float64]  # (K,) share of a class's true pixels with its label; nan: none
    mean_iou: float
    mean_accuracy: float
    pixel_accuracy: float  # share of the labelled pixels with their label


class LabelCounts:
    """Pixels of each class, added picture by picture.

    Args:
        num_classes: K, the number of scored classes. Predicted labels from K on are of no class:
            they miss the true class and add to no other.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORED_LABEL:
            raise ValueError(f"num_classes must be 1 to {IGNORED_LABEL}; got {num_classes}")
        self.num_classes = num_classes
        self.right = np.zeros(num_classes, np.int64)
        self.predicted = np.zeros(num_classes, np.int64)
        self.true = np.zeros(num_classes, np.int64)

    def add(
        self,
        predicted: NDArray[np.uint8],  # (H, W)
        true: NDArray[np.uint8],  # (H, W); 255: no label
    ) -> None:
        """Count the pixels of one picture.

        Raises:
            ValueError: the sizes differ, or a true label is neither of a class nor 255.
        """
        if predicted.shape != true.shape:
            raise ValueError(f"labels must have the size {true.shape}; got {predicted.shape}")
        labelled = true != IGNORED_LABEL
        wanted, got = true[labelled], predicted[labelled]
        if wanted.size and int(wanted.max()) >= self.num_classes:
            raise ValueError(
                f"true labels must be below {self.num_classes} or {IGNORED_LABEL}; "
                f"got {int(wanted.max())}"
            )
        for counts, labels in (
            (self.right, wanted[wanted == got]),
            (self.predicted, got),
            (self.true, wanted),
        ):
            counts += np.bincount(labels, minlength=256)[: self.num_classes]

    def scores(self) -> LabelScores:
        """Return the scores of all pictures.

        Raises:
            ValueError: no pixel has a label.
        """
        if not self.true.sum():
            raise ValueError("true labels must hold a labelled pixel; got none")
        union = self.predicted + self.true - self.right
        with np.errstate(invalid="ignore"):
            iou, accuracy = self.right / union, self.right / self.true
        return LabelScores(
            iou=iou,
            accuracy=accuracy,
            mean_iou=float(np.nanmean(iou)),
            mean_accuracy=float(np.nanmean(accuracy)),
            pixel_accuracy=float(self.right.sum() / self.true.sum()),
        )
