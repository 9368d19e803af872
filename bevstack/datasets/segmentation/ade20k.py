"""ADE20K, the scene parsing benchmark of 150 classes (``ADEChallengeData2016``).

Pictures lie in ``images/SPLIT``, label maps in ``annotations/SPLIT``: PNG of 8 bits, in which 0 is
a pixel without a class and n is class n - 1. Splits: training, validation.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.config.published_segmentation import ADE20K_CLASSES
from bevstack.datasets.segmentation.labelled import LabelledPictures, list_labelled
from bevstack.vocabulary import IGNORED_LABEL


def read_ade20k(root: Path, split: str) -> LabelledPictures:
    """Open the pictures of a split.

    Raises:
        FileNotFoundError: there is no such folder, no picture, or a label map is missing.
    """
    files = list_labelled(
        root / "images" / split, root / "annotations" / split, suffix=".jpg", label_suffix=".png"
    )
    return LabelledPictures(
        f"{root} ({split})",
        class_names=ADE20K_CLASSES,
        files=files,
        label_by_value={0: IGNORED_LABEL, **{n: n - 1 for n in range(1, len(ADE20K_CLASSES) + 1)}},
    )
