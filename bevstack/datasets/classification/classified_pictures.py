"""Pictures with one class each: ImageNet's folders and lists, iNaturalist, Places.

Classes of folders are numbered in the order of the folders' names, as the published models are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.file_bytes import read_bytes
from bevstack.file_names import path_inside
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_object,
    expect_text,
    read_json,
    shorten,
)

SUFFIXES = (".jpeg", ".jpg", ".png")
MAX_BYTES = 1 << 32


@dataclass(frozen=True, kw_only=True)
class ClassifiedPictures:
    """The pictures of one split and the class of each."""

    source: str  # for messages
    folder: Path  # of the pictures
    class_names: tuple[str, ...]  # in label order
    names: tuple[str, ...]  # of the files, below the folder
    labels: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    def picture(self, index: int) -> NDArray[np.uint8]:  # (H, W, 3) RGB
        """Read a picture.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged.
        """
        return read_image(path_inside(self.folder, self.names[index], what="path of a picture"))


def read_imagenet(root: Path, split: str) -> ClassifiedPictures:
    """Read ``SPLIT/CLASS/*.JPEG``; or, with ``meta/SPLIT.txt``, the files and labels it lists.

    A line of the list is a path below ``SPLIT`` and a label from 0. Without names of classes, they
    are the labels.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        ValueError: a line of the list is malformed.
    """
    folder = root / split
    if not folder.is_dir():
        raise FileNotFoundError(f"pictures must lie in the folder {folder}; got none")
    listed = root / "meta" / f"{split}.txt"
    if listed.is_file():
        names, labels = _read_list(listed)
        classes = tuple(str(label) for label in range(max(labels) + 1))
    else:
        classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        pairs = [
            (path.relative_to(folder).as_posix(), label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        names, labels = [name for name, _ in pairs], [label for _, label in pairs]
    return _checked(str(folder), folder, classes, names, labels)


def read_inaturalist(path: Path, root: Path) -> ClassifiedPictures:
    """Read a split of iNaturalist, such as ``val2018.json``; classes are in order of their numbers.

    Args:
        path: the file of annotations, in COCO's form with a class for each picture.
        root: folder below which the file names its pictures.

    Raises:
        FileNotFoundError: there is no such file, or no picture in it.
        ValueError: the file is damaged, or a picture has no class or several.
    """
    where = path.name
    content = expect_object(where, read_json(path, "annotations", max_bytes=MAX_BYTES))
    names = _texts(content, "images", "file_name", where)
    classes = _texts(content, "categories", "name", where)
    label_by_number = {number: label for label, number in enumerate(sorted(classes))}
    labels: dict[int, int] = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "annotations"))):
        place = f"{where}, annotations[{row}]"
        values = expect_object(place, entry)
        picture = expect_integer(place, expect_field(place, values, "image_id"))
        number = expect_integer(place, expect_field(place, values, "category_id"))
        if picture not in names or picture in labels or number not in label_by_number:
            raise ValueError(
                f"{place} must be the only one of a picture of the file, and of a class of it; got "
                f"picture {picture} and class {number}"
            )
        labels[picture] = label_by_number[number]
    missing = [number for number in names if number not in labels]
    if missing:
        raise ValueError(f"each picture of {where} must have a class; got none for {missing[0]}")
    return _checked(
        where,
        root,
        tuple(classes[number] for number in sorted(classes)),
        [names[number] for number in names],
        [labels[number] for number in names],
    )


def read_places(pictures: Path, classes: Path, folder: Path) -> ClassifiedPictures:
    """Read a split of Places365.

    Args:
        pictures: ``places365_val.txt`` or ``places365_train_standard.txt``: a file and its label a
            line; the files of train begin with a slash.
        classes: ``categories_places365.txt``: a name such as "/a/airfield" and its label a line.
        folder: of the pictures, such as ``val_256``.

    Raises:
        FileNotFoundError: a file is missing, or lists nothing.
        ValueError: a line is malformed, or a label has no name.
    """
    titles, numbers = _read_list(classes)
    if sorted(numbers) != list(range(len(numbers))):
        raise ValueError(
            f"{classes.name} must number its classes from 0 without gaps; got another number"
        )
    ordered = tuple(title for _, title in sorted(zip(numbers, titles, strict=True)))
    names, labels = _read_list(pictures)
    return _checked(pictures.name, folder, ordered, [name.lstrip("/") for name in names], labels)


def read_class_map(path: Path) -> tuple[int, ...]:
    """Read the index in a larger list of classes of each class of a smaller one, one a line.

    The models of ImageNet-22K come with such a file for the 1,000 classes of ImageNet-1K.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no index, or an index occurs twice.
    """
    found = []
    for number, line in enumerate(_lines(path), start=1):
        if not (line.isascii() and line.isdigit() and len(line) < 10):
            raise ValueError(f"line {number} of {path} must be an index; got {shorten(line)}")
        found.append(int(line))
    if len(set(found)) < len(found) or not found:
        raise ValueError(f"indices of {path} must differ; got {len(found)} lines")
    return tuple(found)


def _checked(
    source: str,
    folder: Path,
    classes: tuple[str, ...],
    names: Sequence[str],
    labels: Sequence[int],
) -> ClassifiedPictures:
    if not names:
        raise FileNotFoundError(f"{source} must hold pictures; got none")
    if max(labels) >= len(classes):
        raise ValueError(
            f"labels of {source} must be below the {len(classes)} of its classes; got {max(labels)}"
        )
    return ClassifiedPictures(
        source=source,
        folder=folder,
        class_names=classes,
        names=tuple(names),
        labels=tuple(labels),
    )


def _read_list(path: Path) -> tuple[list[str], list[int]]:
    """Return the names and labels of a list with both in each line."""
    names, labels = [], []
    for number, line in enumerate(_lines(path), start=1):
        name, _, label = line.rpartition(" ")
        if not name or not (label.isascii() and label.isdigit() and len(label) < 10):
            raise ValueError(
                f"line {number} of {path} must be a name and a label; got {shorten(line)}"
            )
        names.append(name)
        labels.append(int(label))
    if not names:
        raise FileNotFoundError(f"{path} must list something; got an empty file")
    return names, labels


def _lines(path: Path) -> list[str]:
    text = read_bytes(path, "list", max_bytes=MAX_BYTES).decode()
    return [line.strip() for line in text.split("\n") if line.strip()]


def _texts(content: Mapping[str, object], key: str, name: str, where: str) -> dict[int, str]:
    """Return a text of each entry of a list by the entry's number."""
    found = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, key))):
        place = f"{where}, {key}[{row}]"
        values = expect_object(place, entry)
        number = expect_integer(place, expect_field(place, values, "id"))
        found[number] = expect_text(place, expect_field(place, values, name))
    return found
