"""Reader of BDD100K's boxes of 10 classes (Yu et al., arXiv 1805.04687), in Scalabel's JSON.

``det_SPLIT.json`` is a list of frames ``{name, labels: [{category, box2d: {x1, y1, x2, y2}}]}``.
Corners are pixels that belong to the box. Pictures have 1280 x 720 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevstack.datasets.detection2d.coco import MAX_BYTES, CocoObject, CocoPicture
from bevstack.datasets.detection2d.readers.labelled_objects import (
    LabelledObjects,
    ObjectCounts,
    look_up_class,
    require_folder,
)
from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    read_json,
)

SIZE = (720, 1280)
BDD100K_CLASSES: tuple[str, ...] = (
    *("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    *("traffic light", "traffic sign"),
)
# Categories that the data set labels and does not score.
UNSCORED = ("other person", "other vehicle", "trailer")


def read_bdd100k_boxes(path: Path, folder: Path) -> LabelledObjects:
    """Read the objects of a file; those of classes that are not scored are dropped and counted.

    Args:
        path: ``det_train.json`` or ``det_val.json`` of the release of 2020.
        folder: of the pictures, such as ``images/100k/train``.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: the file is damaged, or has a category that the data set does not have.
    """
    counts = ObjectCounts()
    pictures = []
    frames = expect_list(path.name, read_json(path, "BDD100K labels", max_bytes=MAX_BYTES))
    for row, frame in enumerate(frames):
        where = f"{path.name}, frame {row}"
        values = expect_object(where, frame)
        name = expect_text(where, expect_field(where, values, "name"))
        labels = values.get("labels")  # null or absent in a picture without objects
        found = [
            _object(f"{where}, label {number}", own, counts)
            for number, own in enumerate([] if labels is None else expect_list(where, labels))
        ]
        objects = tuple(own for own in found if own is not None)
        pictures.append(CocoPicture(row + 1, name, SIZE, objects))
    return LabelledObjects(
        source="bdd100k",
        class_names=BDD100K_CLASSES,
        folder=require_folder(folder),
        pictures=tuple(pictures),
        dropped=dict(counts.dropped),
    )


def _object(where: str, entry: Any, counts: ObjectCounts) -> CocoObject | None:
    values = expect_object(where, entry)
    category = expect_field(where, values, "category")
    label = look_up_class(where, category, (*BDD100K_CLASSES, *UNSCORED))
    if label >= len(BDD100K_CLASSES):
        counts.drop(str(category))
        return None
    box = expect_object(where, expect_field(where, values, "box2d"))
    left, top, right, bottom = (
        expect_number(where, expect_field(where, box, name)) for name in ("x1", "y1", "x2", "y2")
    )
    return counts.make_object((left, top, right + 1, bottom + 1), label, SIZE)
