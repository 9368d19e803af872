"""The class colours differ for normal and for three kinds of colour-blind vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from bevstack.render.colors import CLASS_COLORS, PANEL, WHITE, class_color, text_color
from bevstack.vocabulary import DETECTION_CLASSES

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ_FROM_RGB = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab(color: tuple[int, int, int], sight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CIE Lab (D65) of an sRGB colour under a kind of colour vision."""
    encoded = np.array(color) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = XYZ_FROM_RGB @ np.clip(sight @ linear, 0, 1) / (0.95047, 1.0, 1.08883)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_class_colours_and_white_differ_visibly(sight: str) -> None:
    colors = {**CLASS_COLORS, "true boxes": WHITE}
    for (first, a), (second, b) in combinations(colors.items(), 2):
        distance = np.linalg.norm(lab(a, SIGHT[sight]) - lab(b, SIGHT[sight]))
        assert distance > 18, (first, second, distance)


def test_text_in_every_class_colour_is_readable_on_dark_ground() -> None:
    def luminance(color: tuple[int, int, int]) -> float:
        encoded = np.array(color) / 255
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for name, color in CLASS_COLORS.items():
        shown = text_color(color)
        contrast = (luminance(shown) + 0.05) / (luminance(PANEL) + 0.05)
        assert contrast >= 7.0, (name, contrast)  # WCAG 2, level AAA
    assert text_color(CLASS_COLORS["car"]) == CLASS_COLORS["car"]  # bright colours stay
    assert text_color(WHITE) == WHITE


def test_every_detection_class_has_a_colour() -> None:
    assert set(CLASS_COLORS) == set(DETECTION_CLASSES)


def test_classes_of_other_data_sets_get_colours_too() -> None:
    names = ("tram", "car", "cyclist", *(f"thing {i}" for i in range(12)))
    assert class_color(names, 1) == CLASS_COLORS["car"]
    assert class_color(names, 0) != class_color(names, 2)
    assert class_color(names, 14) in CLASS_COLORS.values()
    with pytest.raises(ValueError, match="got -1"):
        class_color(names, -1)
