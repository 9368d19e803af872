"""Objects in pictures: masks shine through, and have outlines in their full colour."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.render.label_view import CITYSCAPES_COLORS, SEMANTIC_COLORS, label_colors
from bevstack.render.object_view import OPACITY, DrawnObject, draw_objects
from bevstack.vocabulary import SEMANTIC_CLASSES


def test_a_mask_is_translucent_and_its_outline_opaque() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[30:50, 20:60] = 1
    mask[38:42, 36:44] = 0  # a hole
    own = DrawnObject(box=(20, 30, 60, 50), text="car 0.9", color=(250, 10, 40), mask=mask)
    drawn = draw_objects(image, [own])
    blend = [round((1 - OPACITY) * 100 + OPACITY * value) for value in own.color]
    assert drawn[34, 30].tolist() == blend
    assert drawn[40, 40].tolist() == [100, 100, 100]  # in the hole
    assert drawn[40, 34].tolist() == blend and drawn[37, 40].tolist() == list(own.color)
    assert drawn[55, 70].tolist() == [100, 100, 100] and (image == 100).all()
    assert (drawn[:29] != 100).any()  # the name above


def test_objects_without_masks_are_boxes_and_other_sizes_are_refused() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    box = DrawnObject(box=(-5.5, 10, 20, 90), text="dog", color=(0, 255, 0))
    drawn = draw_objects(image, [box])
    assert drawn[25, 20, 1] > 100 and drawn[25, 10].tolist() == [0, 0, 0]
    assert (draw_objects(image, []) == image).all()
    wrong = box._replace(mask=np.ones((39, 40), np.uint8))
    with pytest.raises(ValueError, match=r"mask must be \(40, 40\) like the image; got \(39, 40\)"):
        draw_objects(image, [wrong])


def test_every_class_has_a_colour_of_its_own() -> None:
    assert label_colors(SEMANTIC_CLASSES) == SEMANTIC_COLORS
    many = label_colors([str(number) for number in range(171)])
    assert len(set(many)) == 171
    assert len(set(CITYSCAPES_COLORS)) == 19
