"""Labelled objects of a data set in one type, and their files in COCO's format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bevstack.datasets.detection2d.coco import CocoObject, CocoPicture
from bevstack.files import write_text_atomically

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
EMPTY, OUTSIDE = "without area", "outside"  # reasons to drop a label


@dataclass(frozen=True, kw_only=True)
class LabelledObjects:
    """The pictures of one split with their objects."""

    source: str  # name of the data set
    class_names: tuple[str, ...]  # in label order
    folder: Path  # of the pictures
    pictures: tuple[CocoPicture, ...]
    dropped: Mapping[str, int]  # labels that are not objects to train on, by reason


@dataclass
class ObjectCounts:
    """Counts of dropped labels of a data set, by reason."""

    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        """Count a label that is left out."""
        self.dropped[reason] += 1

    def make_object(self, box: Box, label: int, size: tuple[int, int]) -> CocoObject | None:
        """Return an object with its box clipped to the picture; count it and return None if none.

        Args:
            box: in pixels.
            label: in the order of the class names.
            size: height and width of the picture.
        """
        left, top, right, bottom = box
        if not (right > left and bottom > top):
            self.drop(EMPTY)
            return None
        inside = (max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0]))
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            self.drop(OUTSIDE)
            return None
        return CocoObject(inside, label, None)


def look_up_class(where: str, name: object, names: Sequence[str]) -> int:
    """Return the label of a class.

    Raises:
        ValueError: the data set has no such class.
    """
    if not isinstance(name, str) or name not in names:
        raise ValueError(
            f"class of {where} must be one of the {len(names)} of the data set; got "
            f"{str(name)[:40]!r}"
        )
    return list(names).index(name)


def require_folder(folder: Path) -> Path:
    """Return the folder of pictures.

    Raises:
        FileNotFoundError: there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"pictures must lie in the folder {folder}; got none")
    return folder


def write_coco(path: Path, data: LabelledObjects) -> None:
    """Write the labels in COCO's format, as ``CocoDataset`` and `bevstack train --coco` read them.

    Names of files are relative to the folder of the pictures; classes are numbered from 1.

    Raises:
        OSError: the file cannot be written.
    """
    annotations: list[dict[str, object]] = []
    for picture in data.pictures:
        for own in picture.objects:
            left, top, right, bottom = own.box
            width, height = right - left, bottom - top
            entry = {
                "id": len(annotations) + 1,
                "image_id": picture.image_id,
                "category_id": own.label + 1,
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
            if own.segmentation is not None:
                entry["segmentation"] = own.segmentation
            annotations.append(entry)
    content = {
        "images": [
            {
                "id": own.image_id,
                "file_name": own.file_name,
                "height": own.size[0],
                "width": own.size[1],
            }
            for own in data.pictures
        ],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name} for number, name in enumerate(data.class_names, start=1)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(content))
