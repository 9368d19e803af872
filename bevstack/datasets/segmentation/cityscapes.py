"""Cityscapes: 19 scored classes of street scenes.

Pictures lie in ``leftImg8bit/SPLIT/CITY``, label maps in ``gtFine/SPLIT/CITY`` (or ``gtCoarse``):
``_labelTrainIds.png``, which the data set's own tools write, or the archive's ``_labelIds.png``.
Splits: train, val; the public labels of test are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bevstack.config.published_segmentation import CITYSCAPES_CLASSES
from bevstack.datasets.segmentation.labelled import LabelledPictures, list_labelled
from bevstack.vocabulary import IGNORED_LABEL

FINE, COARSE = "gtFine", "gtCoarse"
_NUM_IDS = 34  # of label maps, without the licence plates, which are never drawn
# Ids of the 19 scored classes in the order of their train ids (the data set's table of labels).
_SCORED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_ID_BY_ID: Mapping[int, int] = MappingProxyType(
    {
        **dict.fromkeys(range(_NUM_IDS), IGNORED_LABEL),
        **{number: label for label, number in enumerate(_SCORED_IDS)},
    }
)


def read_cityscapes(root: Path, split: str, *, labels: str = FINE) -> LabelledPictures:
    """Open the pictures of a split; a label map of train ids is preferred to one of ids.

    Raises:
        FileNotFoundError: there is no such folder, no picture, or a label map is missing.
    """
    folder = root / labels / split
    train_ids = f"_{labels}_labelTrainIds.png"
    has_train_ids = next(folder.rglob(f"*{train_ids}"), None) is not None
    files = list_labelled(
        root / "leftImg8bit" / split,
        folder,
        suffix="_leftImg8bit.png",
        label_suffix=train_ids if has_train_ids else f"_{labels}_labelIds.png",
    )
    plain = {**{n: n for n in range(len(CITYSCAPES_CLASSES))}, IGNORED_LABEL: IGNORED_LABEL}
    return LabelledPictures(
        f"{root} ({split})",
        class_names=CITYSCAPES_CLASSES,
        files=files,
        label_by_value=plain if has_train_ids else TRAIN_ID_BY_ID,
    )
