"""Reader of LVIS's masks of 1,203 classes on COCO's pictures (Gupta et al., arXiv 1908.03195).

``lvis_v1_SPLIT.json`` has COCO's form, but a picture is named by the end of its ``coco_url``, and
lists the classes that are known to be absent (``neg_category_ids``) or not labelled completely
(``not_exhaustive_category_ids``). There are no crowds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from bevstack.datasets.detection2d.coco import MAX_BYTES, CocoObject, CocoPicture
from bevstack.datasets.detection2d.readers.labelled_objects import (
    LabelledObjects,
    ObjectCounts,
    require_folder,
)
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_numbers,
    expect_object,
    expect_text,
    read_json,
)


def read_lvis(path: Path, folder: Path) -> LabelledObjects:
    """Read the objects of a file, with their masks; classes keep the order of their numbers.

    Args:
        path: ``lvis_v1_train.json`` or ``lvis_v1_val.json``.
        folder: that holds COCO's folders ``train2017`` and ``val2017``, both of which LVIS uses.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: the file is damaged, or an object is of no class or picture of the file.
    """
    where = path.name
    content = expect_object(where, read_json(path, "LVIS annotations", max_bytes=MAX_BYTES))
    names = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "categories"))):
        place = f"{where}, categories[{row}]"
        values = expect_object(place, entry)
        number = expect_integer(place, expect_field(place, values, "id"))
        names[number] = expect_text(place, expect_field(place, values, "name"))
    labels = {number: label for label, number in enumerate(sorted(names))}
    pictures = _pictures(content, where)
    objects: dict[int, list[CocoObject]] = {number: [] for number in pictures}
    counts = ObjectCounts()
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "annotations"))):
        place = f"{where}, annotations[{row}]"
        values = expect_object(place, entry)
        picture = expect_integer(place, expect_field(place, values, "image_id"))
        category = expect_integer(place, expect_field(place, values, "category_id"))
        if picture not in pictures or category not in labels:
            raise ValueError(
                f"{place} must be of a picture and a class of the file; got picture {picture} and "
                f"class {category}"
            )
        x, y, width, height = expect_numbers(
            place, expect_field(place, values, "bbox"), (4,)
        ).tolist()
        box = (x, y, x + width, y + height)
        found = counts.make_object(box, labels[category], pictures[picture][1])
        if found is not None:
            mask = expect_field(place, values, "segmentation")
            objects[picture].append(CocoObject(found.box, found.label, mask))
    return LabelledObjects(
        source="lvis",
        class_names=tuple(names[number] for number in sorted(names)),
        folder=require_folder(folder),
        pictures=tuple(
            CocoPicture(number, name, size, tuple(objects[number]))
            for number, (name, size) in pictures.items()
        ),
        dropped=dict(counts.dropped),
    )


def _pictures(content: Mapping[str, Any], where: str) -> dict[int, tuple[str, tuple[int, int]]]:
    """Return name and size of each picture by its number."""
    found = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "images"))):
        place = f"{where}, images[{row}]"
        values = expect_object(place, entry)
        number = expect_integer(place, expect_field(place, values, "id"))
        height, width = (
            expect_integer(place, expect_field(place, values, side)) for side in ("height", "width")
        )
        address = expect_text(place, expect_field(place, values, "coco_url"))
        parts = urlparse(address).path.strip("/").split("/")
        if len(parts) != 2:
            raise ValueError(
                f"coco_url of {place} must end with a folder and a file; got {address}"
            )
        found[number] = ("/".join(parts), (height, width))
    return found
