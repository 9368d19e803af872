"""Reader of CrowdHuman's people (Shao et al., arXiv 1805.00123).

``annotation_SPLIT.odgt`` has a line of JSON for each picture: its ``ID`` and ``gtboxes`` with the
whole (``fbox``), visible (``vbox``) and head (``hbox``) box as x, y, width, height. Pictures lie in
``Images/ID.jpg``.
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
from bevstack.datasets.images import read_size
from bevstack.file_bytes import read_bytes
from bevstack.file_names import path_inside
from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_numbers,
    expect_object,
    expect_text,
    parse_json,
)

WHOLE, VISIBLE = "fbox", "vbox"
IGNORED, MASK = "ignored", "mask"
_TAGS = ("person", "mask")  # a mask covers a crowd, a reflection or a picture of people


def read_crowdhuman(root: Path, split: str, *, box: str = WHOLE) -> LabelledObjects:
    """Read the people of a split; masks and ignored boxes are dropped and counted.

    The sizes of the pictures are those of their files. Whole boxes that reach beyond the picture
    are clipped to it.

    Args:
        root: folder of the data set.
        split: "train" or "val".
        box: "fbox" for whole people, "vbox" for their visible parts.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a line is damaged or has an unknown tag; or another kind of box.
    """
    if box not in (WHOLE, VISIBLE):
        raise ValueError(f"box must be {WHOLE!r} or {VISIBLE!r}; got {box!r}")
    folder = require_folder(root / "Images")
    path = root / f"annotation_{split}.odgt"
    counts = ObjectCounts()
    pictures = []
    lines = read_bytes(path, "CrowdHuman annotations", max_bytes=MAX_BYTES).decode().split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        values = expect_object(where, parse_json(line, where))
        name = f"{expect_text(where, expect_field(where, values, 'ID'))}.jpg"
        size = read_size(path_inside(folder, name, what=f"picture of {where}"))
        entries = expect_list(where, expect_field(where, values, "gtboxes"))
        found = [
            _person(f"{where}, box {row}", entry, size, box, counts)
            for row, entry in enumerate(entries)
        ]
        objects = tuple(own for own in found if own is not None)
        pictures.append(CocoPicture(number, name, size, objects))
    return LabelledObjects(
        source="crowdhuman",
        class_names=("person",),
        folder=folder,
        pictures=tuple(pictures),
        dropped=dict(counts.dropped),
    )


def _person(
    where: str, entry: Any, size: tuple[int, int], box: str, counts: ObjectCounts
) -> CocoObject | None:
    values = expect_object(where, entry)
    tag = _TAGS[look_up_class(where, expect_field(where, values, "tag"), _TAGS)]
    extra = expect_object(where, values.get("extra", {}))
    if tag != "person" or extra.get("ignore"):
        counts.drop(MASK if tag != "person" else IGNORED)
        return None
    x, y, width, height = expect_numbers(where, expect_field(where, values, box), (4,)).tolist()
    return counts.make_object((x, y, x + width, y + height), 0, size)
