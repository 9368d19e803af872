"""Results of models that label pixels: a folder of PNG files, and the names of their labels.

The label map of ``street/a.jpg`` is ``street/a.png``: 8 bits a pixel, the label as index of a
palette. ``classes.json`` in the folder lists the names and colours in label order.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bevstack.files import replacing, write_text_atomically
from bevstack.json_files import expect_field, expect_list, expect_object, expect_text, read_json

CLASSES_FILE = "classes.json"
_RGB = tuple[int, int, int]


def label_map_names(names: Sequence[str]) -> list[str]:
    """Return the names of the label maps of pictures, below the folder of results.

    Raises:
        ValueError: two pictures differ in the ends of their names alone, or one would get the name
            of the list of classes.
    """
    found = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(
            f"pictures must have names that differ without their ends; got two for {twice}"
        )
    return found


def write_label_map(
    path: Path,
    labels: NDArray[np.uint8],  # (H, W)
    colors: Sequence[_RGB],
) -> None:
    """Write a PNG of 8-bit labels with a palette, completely or not at all.

    Labels beyond the colours are black. The folder is created.

    Raises:
        OSError: the file cannot be written.
    """
    from PIL import Image

    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = np.array(colors, np.uint8)[:256]
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(table.ravel().tolist())
    data = io.BytesIO()
    image.save(data, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as file:
        file.write(data.getvalue())


def write_classes(folder: Path, names: Sequence[str], colors: Sequence[_RGB]) -> None:
    """Write the names and colours of the labels of a folder.

    Raises:
        OSError: the file cannot be written.
    """
    rows = [
        {"label": label, "name": name, "color": list(color)}
        for label, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / CLASSES_FILE, json.dumps({"classes": rows}, indent=1))


def read_classes(folder: Path) -> tuple[str, ...]:
    """Read the names of the labels of a folder, in label order.

    Raises:
        FileNotFoundError: the folder has no such file.
        ValueError: the file is damaged.
    """
    path = folder / CLASSES_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"folder of label maps must hold {CLASSES_FILE}, as `bevstack predict` writes it; got "
            f"none in {folder}"
        )
    content = expect_object(str(path), read_json(path, "classes of labels"))
    names = []
    for row, entry in enumerate(
        expect_list(str(path), expect_field(str(path), content, "classes"))
    ):
        where = f"{path}, classes[{row}]"
        values = expect_object(where, entry)
        names.append(expect_text(where, expect_field(where, values, "name")))
    return tuple(names)
