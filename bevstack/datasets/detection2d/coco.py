"""Data sets in COCO's format: pictures with boxes, masks and classes in one JSON file.

``annotations/instances_SPLIT.json`` names the pictures, which lie in the folder ``SPLIT`` or
``images/SPLIT`` (arXiv 1405.0312). Letters: T objects, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.file_names import path_inside
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
    read_json,
)
from bevstack.tables.coco_masks import decode_mask

MIN_SIDE_PX = 32  # smaller pictures are not trained on
MAX_BYTES = 1 << 32


@dataclass(frozen=True)
class CocoObject:
    """One labelled object, in pixels of its picture."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    label: int  # in the order of the class names
    segmentation: Any  # polygons or runs, as in the file; None: no mask


@dataclass(frozen=True)
class CocoPicture:
    """One picture and its objects, without crowds and objects that cannot be trained on."""

    image_id: int
    file_name: str
    size: tuple[int, int]  # height, width
    objects: tuple[CocoObject, ...]


class CocoDataset:
    """The pictures of one split.

    ``dropped`` counts the entries that are not objects to train on, by reason: "crowd", "ignored",
    "without area" and "outside".

    Args:
        root: folder of the data set.
        split: name of the split, such as "train2017".
        class_names: classes in label order; None: all of the file, by their numbers.

    Raises:
        FileNotFoundError: the annotations or the folder of pictures does not exist.
        ValueError: the annotations are damaged, give a number or the name of a class twice, or
            have a class that is not among the names.
    """

    def __init__(self, root: Path, split: str, *, class_names: Sequence[str] | None = None) -> None:
        self.root, self.split = root, split
        self.annotations = root / "annotations" / f"instances_{split}.json"
        content = expect_object(
            str(self.annotations),
            read_json(self.annotations, "COCO annotations", max_bytes=MAX_BYTES),
        )
        self.folder = _folder(root, split)
        categories = _categories(content, str(self.annotations))
        self.class_names = tuple(categories.values()) if class_names is None else tuple(class_names)
        labels = _labels(categories, self.class_names, self.annotations)
        self.category_ids = tuple(
            next((number for number, own in labels.items() if own == label), -1)
            for label in range(len(self.class_names))
        )
        self.dropped: Counter[str] = Counter()
        self.pictures = _pictures(content, labels, str(self.annotations), self.dropped)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures)

    def picture(self, index: int) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Read a picture.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or its size differs from that in the annotations.
        """
        own = self.pictures[index]
        path = path_inside(self.folder, own.file_name, what="path of a picture")
        return read_image(path, own.size)

    def masks(self, index: int) -> NDArray[np.uint8]:  # (T, H, W) of 0 and 1
        """Return the masks of a picture's objects.

        Raises:
            ValueError: an object has no mask, or a mask of another size than its picture.
        """
        own = self.pictures[index]
        where = f"{self.annotations}, picture {own.image_id}"
        try:
            masks = [decode_mask(item.segmentation, own.size) for item in own.objects]
        except ValueError as error:
            raise ValueError(f"{error} ({where})") from None
        return np.stack(masks) if masks else np.zeros((0, *own.size), np.uint8)

    def trainable(self) -> list[int]:
        """Return the indices of pictures that hold an object and are not tiny."""
        return [
            index
            for index, own in enumerate(self.pictures)
            if own.objects and min(own.size) >= MIN_SIDE_PX
        ]


def _folder(root: Path, split: str) -> Path:
    folders = (root / split, root / "images" / split)
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise FileNotFoundError(
            f"pictures of the split must lie in {folders[0]} or {folders[1]}; got neither"
        )
    return found


def _categories(content: Mapping[str, Any], where: str) -> dict[int, str]:
    """Return the names of the classes by their numbers, in ascending order."""
    found: dict[int, str] = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "categories"))):
        place = f"{where}, categories[{row}]"
        values = expect_object(place, entry)
        number = _expect_new(place, values, found)
        name = expect_text(place, expect_field(place, values, "name"))
        if name in found.values():
            raise ValueError(f"{place} must have a name of its own; got {name!r} a second time")
        found[number] = name
    return dict(sorted(found.items()))


def _labels(categories: Mapping[int, str], names: Sequence[str], path: Path) -> dict[int, int]:
    """Return the label of each number of a class."""
    unknown = [name for name in categories.values() if name not in names]
    if unknown:
        raise ValueError(
            f"classes of {path} must be among the {len(names)} of the detector; got "
            f"{', '.join(map(repr, unknown[:5]))}: choose the configuration of this data set, or "
            "give its class_names"
        )
    return {number: list(names).index(name) for number, name in categories.items()}


def _expect_new(place: str, values: Mapping[str, Any], known: Container[int]) -> int:
    """Return the number of an entry.

    Raises:
        ValueError: it has none, or one that is known.
    """
    number = expect_integer(place, expect_field(place, values, "id"))
    if number in known:
        raise ValueError(f"{place} must have an id of its own; got {number} a second time")
    return number


def _pictures(
    content: Mapping[str, Any], labels: Mapping[int, int], where: str, dropped: Counter[str]
) -> tuple[CocoPicture, ...]:
    sizes: dict[int, tuple[str, tuple[int, int]]] = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "images"))):
        place = f"{where}, images[{row}]"
        values = expect_object(place, entry)
        number = _expect_new(place, values, sizes)
        height, width = (
            expect_integer(place, expect_field(place, values, side)) for side in ("height", "width")
        )
        name = expect_text(place, expect_field(place, values, "file_name"))
        sizes[number] = (name, (height, width))
    objects: dict[int, list[CocoObject]] = {number: [] for number in sizes}
    listed = expect_list(where, expect_field(where, content, "annotations"))
    known: set[int] = set()
    for row, entry in enumerate(listed):
        place = f"{where}, annotations[{row}]"
        values = expect_object(place, entry)
        known.add(_expect_new(place, values, known))
        number = expect_integer(place, expect_field(place, values, "image_id"))
        if number not in sizes:
            raise ValueError(f"{place} must be of a picture of the file; got picture {number}")
        found = _object(values, labels, sizes[number][1], place)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            objects[number].append(found)
    return tuple(
        CocoPicture(number, name, size, tuple(objects[number]))
        for number, (name, size) in sizes.items()
    )


def _object(
    values: Mapping[str, Any], labels: Mapping[int, int], size: tuple[int, int], where: str
) -> CocoObject | str:
    """Return an object, or the reason for which it is not trained on."""
    category = expect_integer(where, expect_field(where, values, "category_id"))
    if category not in labels:
        raise ValueError(f"{where} must be of a class of the file; got category_id {category}")
    box = f"{where}.bbox"
    x, y, width, height = expect_numbers(box, expect_field(where, values, "bbox"), (4,)).tolist()
    area = expect_number(where, values.get("area", width * height))
    if values.get("iscrowd"):
        return "crowd"
    if values.get("ignore"):
        return "ignored"
    if area <= 0 or width < 1 or height < 1:
        return "without area"
    if min(x + width, size[1]) <= max(x, 0) or min(y + height, size[0]) <= max(y, 0):
        return "outside"
    return CocoObject((x, y, x + width, y + height), labels[category], values.get("segmentation"))
