"""Corruptions of camera images: weather, light, blur, colours and lost cameras."""

from bevstack.datasets.corruptions.catalogue import (
    CORRUPTIONS,
    LEVELS,
    Corruption,
    find_corruptions,
)
from bevstack.datasets.corruptions.frames import (
    corrupt_by,
    corrupt_frame,
    corrupt_image,
    lost_cameras,
)

__all__ = [
    "CORRUPTIONS",
    "LEVELS",
    "Corruption",
    "corrupt_by",
    "corrupt_frame",
    "corrupt_image",
    "find_corruptions",
    "lost_cameras",
]
