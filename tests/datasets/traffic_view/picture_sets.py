"""Small data sets of labelled pictures: a coloured rectangle on grey stands for each light."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (96, 128)
COLORS = {"red": (230, 20, 20), "green": (20, 230, 20), "yellow": (230, 200, 20)}
ARROW = (20, 20, 230)  # painted for a class that names no colour
LAMP_CLASSES = ("green", "left", "red", "yellow")
HOUSING_CLASSES = ("green", "red", "yellow")


def write_pictures(root: Path, names: tuple[str, ...], pictures: dict[str, list]) -> Path:
    """Write pictures of (class, left, top, right, bottom) as a YOLO data set."""
    (root / "valid" / "images").mkdir(parents=True)
    (root / "valid" / "labels").mkdir()
    listed = "".join(f"- {name}\n" for name in names)
    (root / "data.yaml").write_text(f"names:\n{listed}nc: {len(names)}\n", encoding="utf-8")
    height, width = SIZE
    for number, (stem, lights) in enumerate(pictures.items()):
        draw = np.random.default_rng(number)
        image = np.repeat(draw.integers(90, 140, (*SIZE, 1), np.uint8), 3, 2)
        lines = []
        for name, left, top, right, bottom in lights:
            image[top:bottom, left:right] = COLORS.get(name, ARROW)
            numbers = (left + right) / 2 / width, (top + bottom) / 2 / height
            sides = (right - left) / width, (bottom - top) / height
            values = " ".join(f"{value:.8f}" for value in (*numbers, *sides))
            lines.append(f"{names.index(name)} {values}")
        cv2.imwrite(str(root / "valid" / "images" / f"{stem}.png"), image[..., ::-1])
        (root / "valid" / "labels" / f"{stem}.txt").write_text("\n".join(lines), encoding="utf-8")
    return root


def write_lamps(root: Path) -> Path:
    """Write five pictures of lamps: an arrow to the left among round lamps."""
    pictures = {
        "a": [("red", 20, 16, 32, 28), ("left", 70, 20, 84, 34)],
        "b": [("green", 40, 30, 52, 42)],
        "c": [("yellow", 90, 10, 102, 22), ("red", 8, 60, 20, 72)],
        "d": [("left", 50, 50, 64, 64)],
        "e": [],
    }
    return write_pictures(root, LAMP_CLASSES, pictures)


def write_housings(root: Path) -> Path:
    """Write three pictures of housings."""
    pictures = {
        "f": [("red", 20, 16, 32, 46)],
        "g": [("green", 80, 30, 92, 60)],
        "h": [("yellow", 60, 10, 72, 40), ("green", 30, 10, 42, 40)],
    }
    return write_pictures(root, HOUSING_CLASSES, pictures)
