"""Reader of Open Images' boxes of 601 classes (Kuznetsova et al., arXiv 1811.00982).

``SPLIT-annotations-bbox.csv`` has a row for each box with corners as shares of the picture;
``class-descriptions-boxable.csv`` gives the name of each class. Pictures are ``IMAGEID.jpg``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from bevstack.datasets.detection2d.coco import MAX_BYTES, CocoObject, CocoPicture
from bevstack.datasets.detection2d.readers.labelled_objects import (
    LabelledObjects,
    ObjectCounts,
    require_folder,
)
from bevstack.datasets.images import read_size
from bevstack.datasets.traffic.xml_documents import parse_number
from bevstack.file_bytes import read_bytes
from bevstack.file_names import path_inside

GROUP = "group"
_NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")


def read_openimages(boxes: Path, classes: Path, folder: Path) -> LabelledObjects:
    """Read the boxes of a split; boxes around groups are dropped and counted.

    The sizes of the pictures are those of their files.

    Args:
        boxes: ``SPLIT-annotations-bbox.csv``.
        classes: ``class-descriptions-boxable.csv``.
        folder: of the pictures.

    Raises:
        FileNotFoundError: a file or the folder is missing.
        ValueError: a file is damaged, or a box is of a class that is not described.
    """
    require_folder(folder)
    descriptions = [row for _, row in _rows(classes) if row]
    if any(len(row) != 2 for row in descriptions):
        raise ValueError(f"{classes.name} must have rows of a label and its name; got another row")
    labels = {row[0]: label for label, row in enumerate(descriptions)}
    counts = ObjectCounts()
    sizes: dict[str, tuple[int, int]] = {}
    objects: dict[str, list[CocoObject]] = {}
    lines = _rows(boxes)
    titles = next(lines, (0, []))[1]
    missing = [name for name in _NEEDED if name not in titles]
    if missing:
        raise ValueError(f"{boxes.name} must have the column {missing[0]}; got {titles[:13]}")
    for line, cells in lines:
        where = f"{boxes.name}, line {line}"
        if len(cells) != len(titles):
            raise ValueError(f"{where} must have {len(titles)} cells; got {len(cells)}")
        row = dict(zip(titles, cells, strict=True))
        kind = row["LabelName"]
        if kind not in labels:
            raise ValueError(
                f"class of {where} must be described in {classes.name}; got {kind[:40]!r}"
            )
        name = f"{row['ImageID']}.jpg"
        if name not in sizes:
            sizes[name] = read_size(path_inside(folder, name, what=f"picture of {where}"))
            objects[name] = []
        if row["IsGroupOf"] == "1":
            counts.drop(GROUP)
            continue
        height, width = sizes[name]
        left, right, top, bottom = (
            parse_number(f"{column} of {where}", row[column])
            for column in ("XMin", "XMax", "YMin", "YMax")
        )
        box = (left * width, top * height, right * width, bottom * height)
        found = counts.make_object(box, labels[kind], sizes[name])
        if found is not None:
            objects[name].append(found)
    return LabelledObjects(
        source="openimages",
        class_names=tuple(row[1] for row in descriptions),
        folder=folder,
        pictures=tuple(
            CocoPicture(number, name, sizes[name], tuple(objects[name]))
            for number, name in enumerate(sizes, start=1)
        ),
        dropped=dict(counts.dropped),
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a table with their numbers."""
    text = read_bytes(path, "table", max_bytes=MAX_BYTES).decode("utf-8-sig")
    yield from enumerate(csv.reader(text.splitlines()), start=1)
