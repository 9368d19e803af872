"""Reader and writer of the elements of single pictures, in the form of OpenLane-V2's annotations.

A file holds ``{"note": ..., "frames": [{"image", "width", "height", "annotation":
{"traffic_element": [{"id", "category", "attribute", "points", "confidence"}]}}]}``. ``points`` are
the top left and the bottom right corner in pixels. Predictions have ``confidence``, annotations do
not. An element whose box surrounds the lit lamp alone has ``"box_convention": "lamp"``; without the
field the reader's argument decides. A light has no shape in this form beyond its attribute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bevstack.files import write_text_atomically
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
from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import BOX_CONVENTIONS, HOUSING, LAMP, Lamp, TrafficElement
from bevstack.vocabulary import ROAD_SIGN, SIGN_MEANINGS, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

MAX_BYTES = 1 << 28
MAX_SIDE_PX = 1 << 16
NOTE = (
    "categories and attributes of OpenLane-V2: category 1 traffic light, 2 road sign; "
    + ", ".join(f"{index} {name}" for index, name in enumerate(TRAFFIC_ELEMENT_ATTRIBUTES))
)
_COLORS = ("red", "green", "yellow")
# Shapes of arrow lamps by OpenLane-V2's attribute.
_ARROWS = {
    "go_straight": "straight",
    "turn_left": "left",
    "turn_right": "right",
    "u_turn": "u_turn",
    "slight_left": "slight_left",
    "slight_right": "slight_right",
}


def read_picture_elements(
    path: Path | str, *, box_convention: str = HOUSING, source: str = "elements"
) -> tuple[LabelledImage, ...]:
    """Read the pictures of a file of elements.

    Args:
        path: the file.
        box_convention: meaning of the boxes that do not state it, of ``BOX_CONVENTIONS``.
        source: data set that the elements come from.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such document; names the picture and the field.
    """
    name = "file of elements"
    document = expect_object(name, read_json(path, name, max_bytes=MAX_BYTES))
    images = []
    seen: set[str] = set()
    for index, frame in enumerate(expect_list("frames", expect_field(name, document, "frames"))):
        where = f"frame {index}"
        values = expect_object(where, frame)
        image = expect_text(f"image of {where}", expect_field(where, values, "image"))
        if image in seen:
            raise ValueError(f"image of {where} must occur once; got {image!r} twice")
        seen.add(image)
        height, width = (
            expect_integer(
                f"{side} of {where}", expect_field(where, values, side), low=1, high=MAX_SIDE_PX
            )
            for side in ("height", "width")
        )
        annotation = expect_object(
            f"annotation of {where}", expect_field(where, values, "annotation")
        )
        rows = expect_list(
            f"traffic_element of {where}", expect_field(where, annotation, "traffic_element")
        )
        elements, scores = parse_elements(
            where, rows, image=image, box_convention=box_convention, source=source
        )
        images.append(
            LabelledImage(path=image, size=(height, width), elements=elements, scores=scores)
        )
    return tuple(images)


def parse_elements(
    where: str, rows: Sequence[Any], *, image: str, box_convention: str, source: str
) -> tuple[tuple[TrafficElement, ...], tuple[float, ...] | None]:
    """Return the elements of OpenLane-V2's list ``traffic_element`` and their confidences.

    Args:
        where: place of the list for messages.
        rows: the list.
        image: path of the picture.
        box_convention: of the boxes that do not state it.
        source: data set that the elements come from.

    Raises:
        ValueError: an entry lacks a field or has a value of another kind, an id occurs twice, or
            only some entries have a confidence. Names the entry and the field.
    """
    elements, scores = [], []
    tokens: set[str] = set()
    for index, row in enumerate(rows):
        place = f"element {index} of {where}"
        values = expect_object(place, row)
        element = _element(place, values, image, box_convention, source)
        if element.token in tokens:
            raise ValueError(f"id of {place} must occur once; got {element.token} twice")
        tokens.add(element.token)
        elements.append(element)
        if "confidence" in values:
            scores.append(expect_number(f"confidence of {place}", values["confidence"]))
    if scores and len(scores) != len(elements):
        raise ValueError(
            f"elements of {where} must all have a confidence, or none of them; "
            f"got {len(scores)} of {len(elements)}"
        )
    return tuple(elements), tuple(scores) if scores else None


def write_picture_elements(
    path: Path | str, images: Sequence[LabelledImage], *, note: str = NOTE
) -> None:
    """Write pictures and their elements; a picture with scores is written with confidences.

    Numbers are written in full: rounded confidences would change the order of equal ones, and with
    it the score. Reading gives the same paths, sizes, boxes, categories, attributes, conventions
    and scores.

    Raises:
        ValueError: the size of a picture is unknown, or a path occurs twice.
        OSError: the file cannot be written.
    """
    write_text_atomically(path, _lines(tuple(images), note))


def light_lamps(attribute: int) -> tuple[Lamp, ...] | None:
    """Return the lit lamp of a light with OpenLane-V2's attribute; None if it is unknown."""
    name = TRAFFIC_ELEMENT_ATTRIBUTES[attribute]
    if name in _COLORS:
        return (Lamp(name, "unknown"),)
    return (Lamp("unknown", _ARROWS[name]),) if name in _ARROWS else None


def _element(
    place: str, values: dict[str, Any], image: str, box_convention: str, source: str
) -> TrafficElement:
    category = expect_integer(
        f"category of {place}",
        expect_field(place, values, "category"),
        low=TRAFFIC_LIGHT,
        high=ROAD_SIGN,
    )
    attribute = expect_integer(
        f"attribute of {place}",
        expect_field(place, values, "attribute"),
        low=0,
        high=len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1,
    )
    points = expect_numbers(f"points of {place}", expect_field(place, values, "points"), (2, 2))
    (left, top), (right, bottom) = points.tolist()
    token = str(expect_integer(f"id of {place}", expect_field(place, values, "id")))
    convention = values.get("box_convention", box_convention)
    if convention not in BOX_CONVENTIONS:
        names = ", ".join(BOX_CONVENTIONS)
        raise ValueError(f"box_convention of {place} must be one of {names}; got {convention!r}")
    name = TRAFFIC_ELEMENT_ATTRIBUTES[attribute]
    is_light = category == TRAFFIC_LIGHT
    return TrafficElement(
        token=token,
        category=category,
        attribute=attribute,
        box_px=(left, top, right, bottom),
        sample_data_token=image,
        lamps=light_lamps(attribute) if is_light else None,
        meaning=name if not is_light and name in SIGN_MEANINGS else None,
        box_convention=convention,
        source=source,
    )


def _lines(images: Sequence[LabelledImage], note: str) -> Iterator[str]:
    """Yield the text of a file: one line for each picture."""
    seen: set[str] = set()
    yield f'{{"note": {json.dumps(note)}, "frames": ['
    for index, image in enumerate(images):
        if image.path in seen:
            raise ValueError(f"paths of pictures must be distinct; got {image.path!r} twice")
        seen.add(image.path)
        yield ("," if index else "") + "\n" + json.dumps(_frame(image), allow_nan=False)
    yield "\n]}\n"


def _frame(image: LabelledImage) -> dict[str, Any]:
    if image.size is None:
        raise ValueError(f"size of picture {image.path} must be known; got None")
    rows = []
    for index, element in enumerate(image.elements):
        left, top, right, bottom = map(float, element.box_px)
        row: dict[str, Any] = {
            "id": index,
            "category": element.category,
            "attribute": element.attribute,
            "points": [[left, top], [right, bottom]],
        }
        if image.scores is not None:
            row["confidence"] = float(image.scores[index])
        if element.box_convention == LAMP:
            row["box_convention"] = LAMP
        rows.append(row)
    height, width = image.size
    return {
        "image": image.path,
        "width": width,
        "height": height,
        "annotation": {"traffic_element": rows},
    }
