"""NYU Depth v2 with 40 classes of rooms (Silberman et al., ECCV 2012; Gupta et al., CVPR 2013).

In their form as pictures: ``image/NAME.png`` (or .jpg), ``label40/NAME.png`` of 8 bits in which 0
is a pixel without a class and n is class n - 1, and ``train.txt`` and ``test.txt`` with the names.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.config.published_mask_segmentation import NYU_CLASSES
from bevstack.datasets.segmentation.labelled import LabelledFiles, LabelledPictures
from bevstack.file_bytes import read_bytes
from bevstack.vocabulary import IGNORED_LABEL


def read_nyu(root: Path, split: str) -> LabelledPictures:
    """Open the pictures of a split, "train" or "test".

    Raises:
        FileNotFoundError: the list of the split or a label map is missing.
    """
    names = read_bytes(root / f"{split}.txt", "list of pictures").decode().split()
    files = []
    for name in names:
        png = root / "image" / f"{name}.png"
        picture = png if png.is_file() else root / "image" / f"{name}.jpg"
        files.append(LabelledFiles(picture.name, picture, root / "label40" / f"{name}.png"))
    labels = {n: n - 1 for n in range(1, len(NYU_CLASSES) + 1)}
    return LabelledPictures(
        f"{root} ({split})",
        class_names=NYU_CLASSES,
        files=files,
        label_by_value={0: IGNORED_LABEL, IGNORED_LABEL: IGNORED_LABEL, **labels},
    )
