"""Reader of PASCAL VOC's boxes of 20 classes (Everingham et al., IJCV 2010).

``ImageSets/Main/SPLIT.txt`` names the pictures, ``Annotations/NAME.xml`` holds their objects and
``JPEGImages/NAME.jpg`` is the picture. Corners count pixels from 1 and belong to the box.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.datasets.detection2d.coco import CocoObject, CocoPicture
from bevstack.datasets.detection2d.readers.labelled_objects import (
    LabelledObjects,
    ObjectCounts,
    look_up_class,
    require_folder,
)
from bevstack.datasets.traffic.xml_documents import Node, read_xml
from bevstack.file_bytes import read_bytes

VOC_CLASSES: tuple[str, ...] = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
DIFFICULT = "difficult"


def read_voc(root: Path, split: str) -> LabelledObjects:
    """Read the objects of a split; those marked as difficult are dropped and counted.

    Args:
        root: folder of a year, such as ``VOCdevkit/VOC2012``.
        split: such as "trainval".

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a file is damaged, or has a class that VOC does not have.
    """
    folder = require_folder(root / "JPEGImages")
    counts = ObjectCounts()
    pictures = []
    listed = read_bytes(root / "ImageSets" / "Main" / f"{split}.txt", "list of pictures")
    for number, line in enumerate(listed.decode().split("\n"), start=1):
        if not line.strip():
            continue
        name = line.split()[0]
        where = f"{name}.xml"
        tree = read_xml(root / "Annotations" / where, f"annotation {where}")
        node = tree.child(where, "size")
        size = (int(node.number(where, "height")), int(node.number(where, "width")))
        found = [
            _object(f"object {row} of {where}", own, size, counts)
            for row, own in enumerate(tree.all("object"))
        ]
        objects = tuple(own for own in found if own is not None)
        pictures.append(CocoPicture(number, f"{name}.jpg", size, objects))
    return LabelledObjects(
        source="voc",
        class_names=VOC_CLASSES,
        folder=folder,
        pictures=tuple(pictures),
        dropped=dict(counts.dropped),
    )


def _object(
    where: str, node: Node, size: tuple[int, int], counts: ObjectCounts
) -> CocoObject | None:
    label = look_up_class(where, node.child(where, "name").text, VOC_CLASSES)
    if any(child.text == "1" for child in node.all("difficult")):
        counts.drop(DIFFICULT)
        return None
    corners = node.child(where, "bndbox")
    left, top, right, bottom = (
        corners.number(where, name) for name in ("xmin", "ymin", "xmax", "ymax")
    )
    return counts.make_object((left - 1, top - 1, right, bottom), label, size)
