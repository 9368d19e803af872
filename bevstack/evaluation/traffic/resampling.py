"""Figures of lights and signs as functions of the scenes' weights, for bootstrap intervals.

``bevstack.evaluation.analysis.bootstrap.intervals`` draws the scenes; with fewer than its
``FEWEST_SCENES`` no difference is called beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.element_scores import (
    ALL_ATTRIBUTES,
    LIGHT_ATTRIBUTES,
    LIGHT_HEIGHT_PX,
    SIGN_ATTRIBUTES,
    SIGN_HEIGHT_PX,
    MatchedElements,
    Range,
    color_accuracy,
    macro,
)
from bevstack.evaluation.traffic.state_scores import StateSums
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ElementFigures:
    """The main figures of matched elements.

    Args:
        matched: the elements.
        scene: (I,) index of each image's scene.
        num_scenes: number of scenes.
    """

    def __init__(self, matched: MatchedElements, *, scene: Ints, num_scenes: int) -> None:
        self._matched, self._scene = matched, scene
        self.num_scenes = num_scenes

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        lights = (f"AP {TRAFFIC_ELEMENT_ATTRIBUTES[a]} >=6 px" for a in LIGHT_ATTRIBUTES)
        return ("macro AP", *lights, "macro AP signs >=10 px", "colour given a match")

    def figures(self, weights: Ints) -> Floats:  # (F,)
        """Compute the figures listed in ``names``; NaN without true elements."""
        images = weights[self._scene]
        precision = self._matched.precision
        lights = Range(quantity="height_px", low=LIGHT_HEIGHT_PX)
        signs = Range(quantity="height_px", low=SIGN_HEIGHT_PX)
        return np.array(
            [
                macro([precision(a, weights=images) for a in ALL_ATTRIBUTES]),
                *(
                    precision(a, lights, is_minimum=True, weights=images).value
                    for a in LIGHT_ATTRIBUTES
                ),
                macro(
                    [precision(a, signs, is_minimum=True, weights=images) for a in SIGN_ATTRIBUTES]
                ),
                color_accuracy(self._matched.color_confusion(weights=images)),
            ]
        )


class StateFigures:
    """State accuracy and false greens of the lights of some scenes.

    Args:
        sums: of each scene.
    """

    def __init__(self, sums: Sequence[StateSums]) -> None:
        self.num_scenes = len(sums)
        rows = [(s.correct_s, s.element_s, s.false_green_s, s.red_s) for s in sums]
        self._sums = np.array(rows, np.float64).reshape(-1, 4)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        return ("state accuracy", "false green per red second")

    def figures(self, weights: Ints) -> Floats:  # (2,)
        """Compute the figures listed in ``names``; NaN without counted seconds."""
        correct, total, false, red = weights @ self._sums
        return np.array(
            [correct / total if total else np.nan, false / red if red else np.nan], np.float64
        )
