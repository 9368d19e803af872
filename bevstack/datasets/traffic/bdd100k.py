"""Reader of BDD100K's boxes in Scalabel's JSON (Yu et al., arXiv 1805.04687).

A file is a list of frames, or an object with the list ``frames``: ``{name, attributes, labels:
[{id, category, box2d: {x1, y1, x2, y2}, attributes: {occluded, truncated, trafficLightColor}}]}``.
The first release has one file an image, ``{name, attributes, frames: [{timestamp, objects}]}``.
Colours are ``red|yellow|green|none`` or ``R|Y|G|NA``, which both occur. Signs are one class. Images
have 1280 x 720 pixels, boxes surround housings and plates. Files are read frame by frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevstack.datasets.traffic.json_stream import stream_list
from bevstack.datasets.traffic.labels import Counts, look_up_lamps, make_light, refuse_label
from bevstack.datasets.traffic.s2tld import files_below
from bevstack.json_files import (
    expect_field,
    expect_flag,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
)
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import Lamp, TrafficElement
from bevstack.vocabulary import ROAD_SIGN

SIZE = (720, 1280)
# "none" on a light: not lit, not readable or seen from behind, so its lamps are unknown.
LAMPS: dict[str, tuple[Lamp, ...] | None] = {
    **{name: (Lamp(name, "unknown"),) for name in ("red", "yellow", "green")},
    "R": (Lamp("red", "unknown"),),
    "Y": (Lamp("yellow", "unknown"),),
    "G": (Lamp("green", "unknown"),),
    "none": None,
    "NA": None,
}
# Categories that are no light or sign, in the spellings of both releases.
OTHER_CATEGORIES = (
    *("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    *("person", "bike", "motor", "trailer", "other person", "other vehicle", "caravan", "van"),
    *("lane", "drivable area", "area/alternative", "area/drivable", "area/unknown"),
)
_LANE_PREFIX = "lane/"
_SOURCE = "bdd100k"


def read_bdd100k(path: Path | str) -> LabelledImages:
    """Read one label file, or all of a folder.

    Raises:
        FileNotFoundError: there is no such file, or the folder has none.
        ValueError: a file is no such document, or a category or colour is unknown; names the place.
    """
    counts = Counts()
    images: list[LabelledImage] = []
    for file in files_below(Path(path), ".json"):
        single: list[Any] = []
        entries = stream_list(file, f"BDD100K file {file.name}", "frames", may_be_bare=True)
        for index, row in enumerate(entries):
            where = f"frame {index} of {file.name}"
            frame = expect_object(where, row)
            if "name" not in frame and "objects" in frame:
                single += expect_list(f"objects of {where}", frame["objects"])
                if index:
                    raise ValueError(f"{file.name} must have one frame of objects; got several")
                images.append(_image(where, file.stem + ".jpg", single, counts))
                continue
            name = expect_text(f"name of {where}", expect_field(where, frame, "name"))
            labels = frame.get("labels")
            rows = [] if labels is None else expect_list(f"labels of {where}", labels)
            images.append(_image(where, name, rows, counts))
    return LabelledImages(
        source=_SOURCE,
        images=tuple(images),
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
        licence="education, research and not-for-profit use; code BSD-3-Clause",
    )


def _image(where: str, name: str, rows: list[Any], counts: Counts) -> LabelledImage:
    found = (
        _element(f"label {index} of {where}", row, name, index, counts)
        for index, row in enumerate(rows)
    )
    elements = tuple(element for element in found if element is not None)
    return LabelledImage(path=name, size=SIZE, elements=elements)


def _element(where: str, row: Any, image: str, index: int, counts: Counts) -> TrafficElement | None:
    values = expect_object(where, row)
    category = expect_field(where, values, "category")
    if category not in ("traffic light", "traffic sign"):
        if not isinstance(category, str) or not (
            category in OTHER_CATEGORIES or category.startswith(_LANE_PREFIX)
        ):
            refuse_label(
                f"category of {where}",
                category,
                ("traffic light", "traffic sign", *OTHER_CATEGORIES, _LANE_PREFIX + "*"),
            )
        counts.dropped[f"category {category}"] += 1
        return None
    attributes = expect_object(f"attributes of {where}", values.get("attributes") or {})
    lamps = None
    if category == "traffic light":
        color = attributes.get("trafficLightColor", "none")
        lamps = look_up_lamps(f"trafficLightColor of {where}", color, LAMPS)
    occluded = expect_flag(f"occluded of {where}", attributes.get("occluded", False))
    corners = expect_object(f"box2d of {where}", expect_field(where, values, "box2d"))
    left, top, right, bottom = (
        expect_number(f"{name} of {where}", expect_field(f"box2d of {where}", corners, name))
        for name in ("x1", "y1", "x2", "y2")
    )
    box = counts.box(where, (left, top, right, bottom), SIZE)
    if box is None:
        return None
    light = make_light(
        token=f"{image}/{index}",
        image=image,
        box_px=box,
        lamps=lamps,
        source=_SOURCE,
        occluded=occluded,
    )
    return light if category == "traffic light" else _as_sign(light)


def _as_sign(light: TrafficElement) -> TrafficElement:
    """Return an element as a sign of unknown meaning."""
    return TrafficElement(
        token=light.token,
        category=ROAD_SIGN,
        attribute=0,
        box_px=light.box_px,
        sample_data_token=light.sample_data_token,
        visibility=light.visibility,
        source=light.source,
    )
