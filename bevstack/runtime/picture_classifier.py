"""Classification of single pictures, of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.classification.prepare import prepare_classified
from bevstack.models.classification.internimage_heads import InternImageClassifier

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


class ClassScore(NamedTuple):
    """A class and its probability."""

    label: int
    probability: float


@dataclass(frozen=True)
class PictureClassifier:
    """A classifier for pictures.

    It keeps no state: several threads may use it.
    """

    model: InternImageClassifier  # in evaluation mode
    side: int  # of the square at the network's input, pixels
    # Outputs that are classes, in label order; () for all. Of a model of ImageNet-22K, those of 1K
    outputs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        known = self.model.head.fc.out_features
        if any(not 0 <= output < known for output in self.outputs):
            raise ValueError(
                f"outputs must be below the {known} of the model; got {self.outputs[:5]}"
            )

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.outputs) or int(self.model.head.fc.out_features)

    @torch.no_grad()
    def logits(self, picture: Picture) -> NDArray[np.float32]:  # (K,)
        """Return the logit of each class.

        Raises:
            ValueError: the array is no RGB picture of uint8.
        """
        device = next(self.model.parameters()).device
        image = prepare_classified(picture, self.side)[None].to(device)
        values: NDArray[np.float32] = self.model(image)[0].float().cpu().numpy()
        return values[list(self.outputs)] if self.outputs else values

    def classify(
        self, pictures: Sequence[Picture], *, count: int = 5
    ) -> list[tuple[ClassScore, ...]]:
        """Return the most probable classes of each picture, best first.

        Each picture is computed by itself, so that results do not depend on its neighbours.

        Raises:
            ValueError: an array is no RGB picture of uint8, or the count is not positive.
        """
        if count < 1:
            raise ValueError(f"count must be positive; got {count}")
        return [self._classify(picture, count) for picture in pictures]

    def _classify(self, picture: Picture, count: int) -> tuple[ClassScore, ...]:
        logits = self.logits(picture).astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-logits, kind="stable")[:count]
        return tuple(ClassScore(int(label), float(shares[label])) for label in best)
