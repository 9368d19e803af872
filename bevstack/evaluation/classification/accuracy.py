"""Accuracy of classifiers: the true class is the first, or among the first five."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP = 5


@dataclass
class AccuracyCounts:
    """Pictures whose true class is found, added picture by picture."""

    total: int = 0
    first: int = 0
    among: int = 0  # the first ``TOP``

    def add(
        self,
        logits: NDArray[np.float32],  # (K,)
        label: int,
    ) -> None:
        """Count one picture; of equal logits, the lower label comes first.

        Raises:
            ValueError: the label is of no class.
        """
        if not 0 <= label < len(logits):
            raise ValueError(f"label must be below {len(logits)}; got {label}")
        better = (logits > logits[label]) | (
            (logits == logits[label]) & (np.arange(len(logits)) < label)
        )
        rank = int(better.sum())
        self.total += 1
        self.first += rank < 1
        self.among += rank < TOP

    def figures(self) -> dict[str, float]:
        """Return the shares of pictures by name.

        Raises:
            ValueError: there is no picture.
        """
        if not self.total:
            raise ValueError("accuracy must be of at least one picture; got none")
        return {"top1": self.first / self.total, "top5": self.among / self.total}
