"""Pictures of label maps: classes as translucent colours with outlines, and depth as colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.config.published_segmentation import CITYSCAPES_CLASSES
from bevstack.render.canvas import Canvas, Image, Rect, fit_text
from bevstack.render.colors import BACKGROUND, RGB, WHITE
from bevstack.vocabulary import IGNORED_LABEL, SEMANTIC_CLASSES

# Of `vocabulary.SEMANTIC_CLASSES`, in their order.
SEMANTIC_COLORS: tuple[RGB, ...] = (
    (120, 170, 220),  # sky
    (110, 90, 140),  # road
    (230, 120, 210),  # sidewalk
    (190, 210, 120),  # terrain
    (50, 110, 255),  # vehicle
    (255, 60, 60),  # person
    (255, 150, 40),  # two_wheeler
    (0, 200, 190),  # other_object
    (150, 110, 80),  # building
    (40, 150, 50),  # vegetation
    (240, 240, 240),  # pole
    (255, 220, 0),  # traffic_light
    (160, 60, 255),  # traffic_sign
)
# Of Cityscapes' 19 scored classes in the order of their train ids: the data set's own colours.
CITYSCAPES_COLORS: tuple[RGB, ...] = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)
_GOLDEN = 0.61803398875  # turns from the hue of a generated colour to the next
_CAP_PX = 8.0  # height of capitals in a legend
_ROW_PX, _SWATCH_PX = 18, 12


def label_colors(class_names: Sequence[str]) -> tuple[RGB, ...]:
    """Return a colour for each class: the worlds' or Cityscapes' own, or spread over the hues."""
    names = tuple(class_names)
    if names == SEMANTIC_CLASSES:
        return SEMANTIC_COLORS
    if names == CITYSCAPES_CLASSES:
        return CITYSCAPES_COLORS
    colors = []
    for row in range(len(names)):
        saturation, value = 0.55 + 0.15 * (row % 4), 1.0 - 0.18 * (row // 4 % 4)
        red, green, blue = colorsys.hsv_to_rgb(row * _GOLDEN % 1, saturation, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)


def draw_labels(
    image: Image,  # (H, W, 3) RGB
    labels: NDArray[np.uint8],  # (H, W); 255: none
    colors: Sequence[RGB],
    *,
    opacity: float = 0.55,
) -> Image:  # (H, W, 3)
    """Draw classes over an image, translucent, with an outline where two of them meet.

    Pixels without a label keep the image's colour. Labels beyond the colours repeat them.

    Raises:
        ValueError: the sizes differ.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must be {image.shape[:2]} like the image; got {labels.shape}")
    table = np.zeros((256, 3), np.float32)
    table[:] = np.array(colors, np.float32)[np.arange(256) % len(colors)]
    weight = np.where(labels == IGNORED_LABEL, 0.0, opacity).astype(np.float32)[..., None]
    drawn = image * (1 - weight) + table[labels] * weight
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    drawn[edges] = 0.35 * drawn[edges]
    pixels: Image = drawn.round().astype(np.uint8)
    return pixels


def draw_depth(depth_m: NDArray[np.float32], *, far_m: float = 80.0) -> Image:  # (H, W, 3) RGB
    """Draw depth in colours by its logarithm: from 2 m (yellow) to `far_m` (dark); nan is black."""
    near = np.log(2.0)
    known = np.nan_to_num(depth_m, nan=far_m).clip(2.0, far_m)
    share = (np.log(known) - near) / (np.log(far_m) - near)
    levels = (255 * (1 - share)).astype(np.uint8)
    colors: Image = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.uint8)
    colors[np.isnan(depth_m)] = 0
    return colors


def draw_label_legend(names: Sequence[str], colors: Sequence[RGB], width_px: int) -> Image:
    """Draw the names of classes beside their colours, in as many columns as fit."""
    columns = max(1, width_px // 150)
    rows = -(-len(names) // columns)
    canvas = Canvas.filled(rows * _ROW_PX + 6, width_px, BACKGROUND)
    for index, name in enumerate(names):
        left = 6 + (index % columns) * (width_px // columns)
        top = 6 + (index // columns) * _ROW_PX
        canvas.fill(Rect(left, top, left + _SWATCH_PX, top + _SWATCH_PX), colors[index])
        text = fit_text(name.replace("_", " "), _CAP_PX, width_px // columns - _SWATCH_PX - 14)
        canvas.text(text, left + _SWATCH_PX + 6, top + 1, _CAP_PX, WHITE)
    return canvas.pixels
