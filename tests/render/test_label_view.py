"""Pictures of label maps: colours, outlines, depth and the legend."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.label_view import (
    SEMANTIC_COLORS,
    draw_depth,
    draw_label_legend,
    draw_labels,
)
from bevstack.vocabulary import SEMANTIC_CLASSES


def test_labels_are_blended_outlined_and_left_out_where_there_is_none():
    image = np.full((6, 8, 3), 100, np.uint8)
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 4:], labels[5] = 1, 255
    drawn = draw_labels(image, labels, [(200, 0, 100), (0, 200, 100)], opacity=0.5)
    assert drawn[2, 1].tolist() == [150, 50, 100] and drawn[2, 6].tolist() == [50, 150, 100]
    assert (drawn[2, 4] < drawn[2, 6]).any()  # the outline is darker
    assert (drawn[5, 1] <= image[5, 1]).all()
    with pytest.raises(ValueError, match=r"labels must be \(6, 8\) like the image; got \(8, 6\)"):
        draw_labels(image, labels.T, SEMANTIC_COLORS)


def test_near_is_brighter_than_far_and_the_sky_is_black():
    depth = np.array([[1.0, 5.0, 40.0, 200.0, np.nan]], np.float32)
    brightness = draw_depth(depth).astype(int).sum(axis=2)[0]
    assert (np.diff(brightness) <= 0).all() and brightness[0] > brightness[2] > brightness[3]
    assert brightness[4] == 0


def test_classes_have_different_colours_and_a_legend_of_the_width():
    assert len(SEMANTIC_COLORS) == len(SEMANTIC_CLASSES)
    colors = np.array(SEMANTIC_COLORS).astype(int)
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(
        len(colors), dtype=int
    )
    assert distance.min() >= 90
    legend = draw_label_legend(SEMANTIC_CLASSES, SEMANTIC_COLORS, 480)
    assert legend.shape[1] == 480
    assert all((legend == color).all(axis=2).any() for color in SEMANTIC_COLORS)
