"""Drawings of results in single pictures: label maps, and objects in COCO's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bevstack.datasets.images import read_image
from bevstack.datasets.label_files import read_label_map
from bevstack.evaluation.detection2d.coco_scores import read_results
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
from bevstack.render import write_picture
from bevstack.render.canvas import Image
from bevstack.render.colors import RGB
from bevstack.render.label_view import draw_label_legend, draw_labels, label_colors
from bevstack.render.object_view import DrawnObject, draw_objects
from bevstack.runtime.predict_pictures import named_pictures
from bevstack.tables.coco_masks import decode_mask
from bevstack.tables.label_maps import label_map_names, read_classes


def draw_label_results(
    images: Path, results: Path, out: Path, *, max_pictures: int | None = None
) -> list[Path]:
    """Draw the label map of each picture over it, with a legend of the labels that occur.

    Args:
        images: the folder of pictures, or the picture, that was predicted.
        results: folder of label maps (``tables.label_maps``).
        out: folder for the drawings, PNG with the names of the label maps.
        max_pictures: draw at most this number, the first ones.

    Raises:
        FileNotFoundError: there is no picture, a label map is missing, or the list of classes.
        ValueError: a file is damaged, or a label map has another size than its picture.
        OSError: the folder cannot be written.
    """
    names = read_classes(results)
    colors = label_colors(names)
    pictures = named_pictures(images)
    paths = []
    rows = zip(pictures.values(), label_map_names(list(pictures)), strict=True)
    for path, name in list(rows)[:max_pictures]:
        image, labels = read_image(path), read_label_map(results / name)
        drawn = draw_labels(image, labels, colors)
        present = [int(label) for label in np.unique(labels) if label < len(names)]
        legend = draw_label_legend(
            [names[label] for label in present],
            [colors[label] for label in present],
            image.shape[1],
        )
        paths.append(write_picture(out / name, np.vstack([drawn, legend])))
    return paths


def draw_object_results(
    images: Path,
    results: Path,
    out: Path,
    *,
    min_score: float,
    max_pictures: int | None = None,
) -> list[Path]:
    """Draw the objects of each picture over it: boxes, names, scores and masks.

    Args:
        images: the folder of pictures, or the picture, that was predicted.
        results: file of results in COCO's format. Beside it, RESULTS.images.json lists the pictures
            and the names of the classes, as ``bevstack predict`` writes it.
        out: folder for the drawings, PNG with the names of the pictures.
        min_score: lowest score of an object to draw.
        max_pictures: draw at most this number, the first ones.

    Raises:
        FileNotFoundError: there is no such file, or a listed picture is missing.
        ValueError: a file is damaged, or a mask has another size than its picture.
        OSError: the folder cannot be written.
    """
    listed = results.with_suffix(".images.json")
    content = expect_object(str(listed), read_json(listed, "list of pictures"))
    numbers, classes = _picture_numbers(content, str(listed)), _class_names(content, str(listed))
    colors = dict(zip(classes, label_colors(tuple(classes.values())), strict=True))
    found: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for row, entry in enumerate(read_results(results)):
        if entry["score"] >= min_score:
            found.setdefault(entry["image_id"], []).append((f"{results}, entry {row}", entry))
    pictures = named_pictures(images)
    paths = []
    for name, output in list(zip(numbers, label_map_names(list(numbers)), strict=True))[
        :max_pictures
    ]:
        if name not in pictures:
            raise FileNotFoundError(f"--images must hold {name}, which {listed} lists; got none")
        image = read_image(pictures[name])
        own = sorted(found.get(numbers[name], []), key=lambda pair: float(pair[1]["score"]))
        drawn = [_object(entry, image, classes, colors, where) for where, entry in own]
        paths.append(write_picture(out / output, draw_objects(image, drawn)))
    return paths


def _picture_numbers(content: dict[str, Any], where: str) -> dict[str, int]:
    """Return the number of each picture by its name."""
    found = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "images"))):
        place = f"{where}, images[{row}]"
        values = expect_object(place, entry)
        name = expect_text(place, expect_field(place, values, "file_name"))
        found[name] = expect_integer(place, expect_field(place, values, "id"))
    return found


def _class_names(content: dict[str, Any], where: str) -> dict[int, str]:
    """Return the name of each class by its number."""
    found = {}
    for row, entry in enumerate(expect_list(where, expect_field(where, content, "categories"))):
        place = f"{where}, categories[{row}]"
        values = expect_object(place, entry)
        number = expect_integer(place, expect_field(place, values, "id"))
        found[number] = expect_text(place, expect_field(place, values, "name"))
    return found


def _object(
    entry: dict[str, Any],
    image: Image,
    classes: dict[int, str],
    colors: dict[int, RGB],
    where: str,
) -> DrawnObject:
    number = expect_integer(where, entry["category_id"])
    if number not in classes:
        raise ValueError(f"{where} must be of a listed class; got category_id {number}")
    x, y, width, height = expect_numbers(where, expect_field(where, entry, "bbox"), (4,)).tolist()
    size = (int(image.shape[0]), int(image.shape[1]))
    stored = entry.get("segmentation")
    try:
        mask = None if stored is None else decode_mask(stored, size)
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from None
    return DrawnObject(
        box=(x, y, x + width, y + height),
        text=f"{classes[number]} {expect_number(where, entry['score']):.2f}",
        color=colors[number],
        mask=mask,
    )
