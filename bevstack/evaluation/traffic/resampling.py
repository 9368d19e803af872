"""Figures of lights and signs as functions of the scenes' weights, for bootstrap intervals.

``bevstack.evaluation.analysis.bootstrap.intervals`` draws the scenes; with fewer than its
``FEWEST_SCENES`` no difference is called beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.cue_scores import RELEVANT, RelevanceMoment
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
from bevstack.evaluation.traffic.state_scores import StateSums, delay_quantile
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


class DelayFigures:
    """Delays of the reports of red and green in some scenes; infinite where the change was missed.

    Args:
        sums: of each scene.
    """

    def __init__(self, sums: Sequence[StateSums]) -> None:
        self.num_scenes = len(sums)
        self._delays_s = [[s.red_delays_s for s in sums], [s.green_delays_s for s in sums]]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        ends = ("median, s", "95 %, s")
        return tuple(f"delay to {color}, {end}" for color in ("red", "green") for end in ends)

    def figures(self, weights: Ints) -> Floats:  # (4,)
        """Compute the figures listed in ``names``; NaN without a counted change."""
        values = []
        for scenes_s in self._delays_s:
            pairs = zip(scenes_s, weights.tolist(), strict=True)
            drawn = [delay for delays, weight in pairs for delay in delays * weight]
            values += [delay_quantile(drawn, 0.5), delay_quantile(drawn, 0.95)]
        return np.array(values, np.float64)


class RelevanceFigures:
    """Accuracy of relevance in some scenes, over moments in which neighbouring lanes differ.

    Args:
        moments: of each scene.
    """

    def __init__(self, moments: Sequence[Sequence[RelevanceMoment]]) -> None:
        self.num_scenes = len(moments)
        rows = [_relevance_sums([m for m in some if m.lanes_differ]) for some in moments]
        self._sums = np.array(rows, np.float64).reshape(-1, 4)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        return ("relevant light chosen", "relevance right for a light")

    def figures(self, weights: Ints) -> Floats:  # (2,)
        """Compute the figures listed in ``names``; NaN without such a moment."""
        chosen, moments, right, lights = weights @ self._sums
        return np.array(
            [chosen / moments if moments else np.nan, right / lights if lights else np.nan],
            np.float64,
        )


def _relevance_sums(moments: Sequence[RelevanceMoment]) -> tuple[int, int, int, int]:
    """Return the right choices, the moments, the right decisions and the lights."""
    return (
        sum(bool(m.governs[int(m.relevance.argmax())]) for m in moments),
        len(moments),
        sum(int(((m.relevance >= RELEVANT) == m.governs).sum()) for m in moments),
        sum(len(m.governs) for m in moments),
    )
