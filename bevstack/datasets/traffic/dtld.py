"""Reader of the DriveU Traffic Light Dataset, labels v2 in JSON (Fregin et al., ICRA 2018).

A file holds ``{images: [{image_path, disparity_image_path, time_stamp, labels: [{x, y, w, h,
unique_id, track_id, attributes}]}]}``. Every label states direction, relevance, occlusion,
orientation, aspects, state, pictogram and, since v2, reflection. ``relevant`` means: relevant to
the own vehicle's route. ``track_id`` is the same for a light through its sequence. Images have
2048 x 1024 pixels (TIFF of 12-bit raw Bayer samples), boxes surround the housing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bevstack.datasets.traffic.json_stream import stream_list
from bevstack.datasets.traffic.labels import Counts, make_light, refuse_label
from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    shorten,
)
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import Lamp, TrafficElement

SIZE = (1024, 2048)
REFLECTED = "reflection of a light"
# Lit colours of a state; None: unknown.
STATES: dict[str, tuple[str, ...] | None] = {
    "red": ("red",),
    "yellow": ("yellow",),
    "red_yellow": ("red", "yellow"),
    "green": ("green",),
    "off": (),
    "unknown": None,
}
PICTOGRAMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle",),
    "arrow_left": ("left",),
    "arrow_right": ("right",),
    "arrow_straight": ("straight",),
    "arrow_straight_left": ("straight", "left"),
    "arrow_straight_right": ("straight", "right"),
    "tram": ("tram",),
    "pedestrian": ("pedestrian",),
    "bicycle": ("bicycle",),
    "pedestrian_bicycle": ("pedestrian", "bicycle"),
    "unknown": ("unknown",),
}
_CHOICES = {
    "direction": ("front", "back", "left", "right"),
    "relevance": ("relevant", "not_relevant"),
    "occlusion": ("occluded", "not_occluded"),
    "reflection": ("reflected", "not_reflected"),
    "state": tuple(STATES),
    "pictogram": tuple(PICTOGRAMS),
}
_ROAD_USERS = ("pedestrian", "bicycle", "tram")
_SOURCE = "dtld"


def read_dtld(path: Path | str) -> LabelledImages:
    """Read one label file, image by image.

    Reflections are dropped. Words of an attribute may be separated by "_" or by a space.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such document, or the value of an attribute is unknown; names
            the place.
    """
    path = Path(path)
    counts = Counts()
    images = []
    for index, row in enumerate(stream_list(path, f"DTLD file {path.name}", "images")):
        where = f"image {index} of {path.name}"
        values = expect_object(where, row)
        name = expect_text(f"image_path of {where}", expect_field(where, values, "image_path"))
        labels = expect_list(f"labels of {where}", expect_field(where, values, "labels"))
        found = (
            _light(f"label {number} of {where}", label, name, counts)
            for number, label in enumerate(labels)
        )
        elements = tuple(light for light in found if light is not None)
        images.append(LabelledImage(path=name, size=SIZE, elements=elements))
    return LabelledImages(
        source=_SOURCE,
        images=tuple(images),
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
        licence="research; see the form of its publisher",
    )


def _light(where: str, label: Any, image: str, counts: Counts) -> TrafficElement | None:
    values = expect_object(where, label)
    place = f"attributes of {where}"
    attributes = expect_object(place, expect_field(where, values, "attributes"))
    chosen = {name: _choice(place, attributes, name) for name in _CHOICES}
    x, y, width, height = (
        expect_number(f"{name} of {where}", expect_field(where, values, name))
        for name in ("x", "y", "w", "h")
    )
    token, track = (
        _identifier(f"{name} of {where}", expect_field(where, values, name))
        for name in ("unique_id", "track_id")
    )
    if chosen["reflection"] == "reflected":
        counts.dropped[REFLECTED] += 1
        return None
    box = counts.box(where, (x, y, x + width, y + height), SIZE)
    if box is None:
        return None
    colors, shapes = STATES[chosen["state"]], PICTOGRAMS[chosen["pictogram"]]
    lamps = None if colors is None else tuple(Lamp(c, shape) for c in colors for shape in shapes)
    return make_light(
        token=token,
        image=image,
        box_px=box,
        lamps=lamps,
        source=_SOURCE,
        occluded=chosen["occlusion"] == "occluded",
        instance_token=track,
        road_user=shapes[0] if shapes[0] in _ROAD_USERS else "vehicle",
        relevant=chosen["relevance"] == "relevant",
    )


def _choice(where: str, attributes: dict[str, Any], name: str) -> str:
    """Return an attribute's value; labels of 2020 have no reflection."""
    if name == "reflection" and name not in attributes:
        return "not_reflected"
    value = expect_field(where, attributes, name)
    choice = value.replace(" ", "_") if isinstance(value, str) else ""
    if choice not in _CHOICES[name]:
        refuse_label(f"{name} of {where}", value, _CHOICES[name])
    return choice


def _identifier(where: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{where} must be a whole number or a text; got {shorten(value)}")
    return expect_text(where, str(value))
