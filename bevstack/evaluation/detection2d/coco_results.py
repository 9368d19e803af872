"""Results in COCO's format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.coco_masks import encode_mask
from bevstack.types.pictures2d import Detections2D


def result_entries(
    found: Detections2D,
    masks: Iterable[NDArray[np.bool_]],  # D x (H, W)
    *,
    image_id: int,
    category_numbers: Sequence[int],  # of each label
) -> list[dict[str, Any]]:
    """Return one entry for each detection of a picture: box as x, y, width, height, and mask."""
    entries = []
    boxes = found.boxes.tolist()
    rows = zip(boxes, found.scores.tolist(), found.labels.tolist(), masks, strict=True)
    for (left, top, right, bottom), score, label, mask in rows:
        entries.append(
            {
                "image_id": image_id,
                "category_id": category_numbers[label],
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
                "segmentation": encode_mask(mask),
            }
        )
    return entries
