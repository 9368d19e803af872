"""A small data set in COCO's format, with every kind of entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]


def annotation(number: int, picture: int, box: list[float], **changes: Any) -> dict[str, Any]:
    x, y, width, height = box
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    entry = {
        "id": number,
        "image_id": picture,
        "category_id": 3,
        "bbox": box,
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [corners],
    }
    return entry | changes


def usual() -> list[dict[str, Any]]:
    """Return annotations of two pictures of 48 x 64: three objects, and entries to drop."""
    return [
        annotation(1, 7, [10, 12, 20, 16]),
        annotation(2, 7, [40, 4, 16, 30], category_id=1),
        annotation(3, 9, [8, 8, 24, 24]),
        annotation(4, 9, [0, 0, 30, 30], iscrowd=1),
        annotation(5, 9, [0, 0, 30, 30], ignore=1),
        annotation(6, 9, [5, 5, 0, 10]),
        annotation(7, 9, [70, 5, 10, 10]),
        annotation(8, 9, [5, 5, 10, 10], area=0),
    ]


def write_coco(
    root: Path, annotations: list[dict[str, Any]] | None = None, *, split: str = "train"
) -> Path:
    """Write a data set of two pictures with white objects, and a third without any."""
    entries = usual() if annotations is None else annotations
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    pictures = []
    for number in (7, 9, 11):
        picture = np.full((48, 64, 3), 40, np.uint8)
        for entry in entries:
            if entry["image_id"] == number and not entry.get("iscrowd"):
                x, y, width, height = (int(v) for v in entry["bbox"])
                color = (255, 255, 255) if entry["category_id"] == 3 else (0, 200, 0)
                picture[y : y + height, x : x + width] = color
        cv2.imwrite(str(folder / f"{number:012d}.png"), picture)
        pictures.append(
            {"id": number, "file_name": f"{number:012d}.png", "height": 48, "width": 64}
        )
    content = {"images": pictures, "annotations": entries, "categories": CATEGORIES}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
