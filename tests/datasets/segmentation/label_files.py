"""Small data sets with labelled pixels, in the published forms of files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from bevstack.synthetic import WorldSpec

# A world of 12 pictures with labels of their pixels
SMALL_DENSE = WorldSpec(
    train_scenes=1, val_scenes=1, samples_per_scene=1, image_size=(90, 160), dense_labels=True
)
ADE_NAMES = ("ADE_val_00000001", "ADE_val_00000002")
FRAME = "{}_000{}_000019"  # city and sequence of a picture of Cityscapes


def write_array(path: Path, values: np.ndarray) -> Path:
    """Write a picture file and its folders; colours are RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = values if values.ndim == 2 else values[..., ::-1]
    assert cv2.imwrite(str(path), stored)
    return path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth picture, which survives a JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (2, 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def write_ade20k(root: Path, labels: list[np.ndarray], split: str = "validation") -> Path:
    """Write pictures and label maps as ADEChallengeData2016 has them."""
    for name, own in zip(ADE_NAMES, labels, strict=False):
        write_array(root / "images" / split / f"{name}.jpg", picture(*own.shape))
        write_array(root / "annotations" / split / f"{name}.png", own)
    return root


def write_cityscapes(
    root: Path, ids: list[np.ndarray], *, split: str = "val", ending: str = "labelIds"
) -> Path:
    """Write pictures and label maps as the archives of Cityscapes have them."""
    for row, own in enumerate(ids):
        city = ("ulm", "aachen")[row % 2]
        name = FRAME.format(city, 100 + row)
        pictures = root / "leftImg8bit" / split / city
        write_array(pictures / f"{name}_leftImg8bit.png", picture(*own.shape))
        labels = root / "gtFine" / split / city
        write_array(labels / f"{name}_gtFine_{ending}.png", own)
        (labels / f"{name}_gtFine_polygons.json").write_text("{}")
    return root
