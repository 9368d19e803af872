"""Results in COCO's format."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.coco_masks import encode_mask
from bevstack.types.pictures2d import Detections2D


def result_entries(
    found: Detections2D,
    masks: Iterable[NDArray[np.bool_]] | None,  # D x (H, W); None: boxes alone
    *,
    image_id: int,
    category_numbers: Sequence[int],  # of each label
) -> list[dict[str, Any]]:
    """Return an entry for each detection of a picture: box as x, y, width, height; and mask."""
    entries = []
    boxes = found.boxes.tolist()
    own = itertools.repeat(None, len(boxes)) if masks is None else masks
    rows = zip(boxes, found.scores.tolist(), found.labels.tolist(), own, strict=True)
    for (left, top, right, bottom), score, label, mask in rows:
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": category_numbers[label],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        if mask is not None:
            entry["segmentation"] = encode_mask(mask)
        entries.append(entry)
    return entries
