"""COCO-Stuff, 171 classes of things and stuff on COCO's pictures (Caesar et al., arXiv 1612.03716).

Pictures lie in ``SPLIT`` or ``images/SPLIT``, label maps in ``stuffthingmaps/SPLIT``: PNG of 8 bits
whose value is COCO's number less one (0 to 181), or 255 for a pixel without a class. Eleven numbers
have no pictures in COCO of 2017.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.config.published_mask_segmentation import COCO_STUFF_CLASSES, STUFF_CLASSES
from bevstack.datasets.segmentation.labelled import LabelledPictures, list_labelled
from bevstack.vocabulary import COCO_CLASSES, IGNORED_LABEL

FIRST_STUFF = 92  # number of the first class of stuff; things have lower ones
_NUMBERS = (
    *(number for number, _ in COCO_CLASSES),
    *range(FIRST_STUFF, FIRST_STUFF + len(STUFF_CLASSES)),
)


def read_coco_stuff(root: Path, split: str) -> LabelledPictures:
    """Open the pictures of a split, such as "train2017"; labels are numbered without gaps.

    Raises:
        FileNotFoundError: there is no such folder, no picture, or a label map is missing.
    """
    plain = root / split
    files = list_labelled(
        plain if plain.is_dir() else root / "images" / split,
        root / "stuffthingmaps" / split,
        suffix=".jpg",
        label_suffix=".png",
    )
    labels = {number - 1: label for label, number in enumerate(_NUMBERS)}
    return LabelledPictures(
        f"{root} ({split})",
        class_names=COCO_STUFF_CLASSES,
        files=files,
        label_by_value={**labels, IGNORED_LABEL: IGNORED_LABEL},
    )
