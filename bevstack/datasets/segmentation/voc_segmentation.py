"""PASCAL VOC's 21 and PASCAL Context's 59 classes of pixels.

VOC: ``ImageSets/Segmentation/SPLIT.txt`` names the pictures ``JPEGImages/NAME.jpg`` and the label
maps ``SegmentationClass/NAME.png``, with a palette: 0 is the background, 255 an edge. Context
(Mottaghi et al., CVPR 2014), in the usual conversion to 59 classes: ``SegmentationClassContext``
and ``ImageSets/SegmentationContext``, where 0 is a pixel of no class.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.config.published_mask_segmentation import CONTEXT_CLASSES
from bevstack.datasets.detection2d.readers.voc import VOC_CLASSES
from bevstack.datasets.segmentation.labelled import LabelledFiles, LabelledPictures
from bevstack.file_bytes import read_bytes
from bevstack.vocabulary import IGNORED_LABEL


def read_voc_labels(root: Path, split: str) -> LabelledPictures:
    """Open the pictures of a split of VOC; the background is class 0.

    Raises:
        FileNotFoundError: the list of the split, a picture or a label map is missing.
    """
    names = ("background", *VOC_CLASSES)
    return LabelledPictures(
        f"{root} ({split})",
        class_names=names,
        files=_listed(root, split, lists="Segmentation", labels="SegmentationClass"),
        label_by_value={**{n: n for n in range(len(names))}, IGNORED_LABEL: IGNORED_LABEL},
    )


def read_pascal_context(root: Path, split: str) -> LabelledPictures:
    """Open the pictures of a split of Context; pixels of no class count nowhere.

    Raises:
        FileNotFoundError: the list of the split, a picture or a label map is missing.
    """
    labels = {n: n - 1 for n in range(1, len(CONTEXT_CLASSES) + 1)}
    return LabelledPictures(
        f"{root} ({split})",
        class_names=CONTEXT_CLASSES,
        files=_listed(root, split, lists="SegmentationContext", labels="SegmentationClassContext"),
        label_by_value={**labels, 0: IGNORED_LABEL, IGNORED_LABEL: IGNORED_LABEL},
    )


def _listed(root: Path, split: str, *, lists: str, labels: str) -> list[LabelledFiles]:
    """Return the pictures that the list of a split names."""
    text = read_bytes(root / "ImageSets" / lists / f"{split}.txt", "list of pictures").decode()
    return [
        LabelledFiles(
            f"{name}.jpg", root / "JPEGImages" / f"{name}.jpg", root / labels / f"{name}.png"
        )
        for name in text.split()
    ]
