"""Reader of the Bosch Small Traffic Lights Dataset (Behrendt and Novak, ICRA 2017).

Its label files (`train.yaml`, `test.yaml`, `additional_train.yaml`) hold a list of ``{path, boxes:
[{label, occluded, x_min, x_max, y_min, y_max}]}``. Images have 1280 x 720 pixels, boxes surround
the housing. Some boxes have their corners exchanged or reach beyond the image. The current files
quote ``'off'``; older and re-written ones hold ``off`` or, through YAML 1.1, ``false``.
"""

from __future__ import annotations

from pathlib import Path

from bevstack.datasets.traffic.labels import Counts, look_up_lamps, make_light
from bevstack.datasets.traffic.xml_documents import parse_number
from bevstack.datasets.traffic.yaml_documents import Yaml, read_yaml
from bevstack.json_files import expect_field, expect_list, expect_object, expect_text, shorten
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import Lamp, TrafficElement

SIZE = (720, 1280)
_SOURCE = "bstld"
_ARROWS = {"Left": ("left",), "Right": ("right",), "Straight": ("straight",)} | {
    "StraightLeft": ("straight", "left"),
    "StraightRight": ("straight", "right"),
}
LAMPS: dict[str, tuple[Lamp, ...] | None] = {
    "off": (),
    **{color: (Lamp(color.lower(), "circle"),) for color in ("Red", "Yellow", "Green")},
    **{
        f"{color}{name}": tuple(Lamp(color.lower(), shape) for shape in shapes)
        for color in ("Red", "Green")
        for name, shapes in _ARROWS.items()
    },
}
# A bare `off` that a program with YAML 1.1 has read and written again.
_REWRITTEN_OFF = ("false", "False", "FALSE")
_FLAGS = {"true": True, "True": True, "false": False, "False": False}


def read_bstld(path: Path | str) -> LabelledImages:
    """Read one label file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such document, or a label is unknown; names the place.
    """
    subject = "BSTLD label file"
    counts = Counts()
    images = []
    for index, row in enumerate(expect_list(subject, read_yaml(path, subject))):
        where = f"entry {index} of {Path(path).name}"
        values = expect_object(where, row)
        name = expect_text(f"path of {where}", expect_field(where, values, "path"))
        boxes = expect_list(f"boxes of {where}", expect_field(where, values, "boxes"))
        lights = (
            _light(f"box {number} of {where}", box, name, f"{index}/{number}", counts)
            for number, box in enumerate(boxes)
        )
        elements = tuple(light for light in lights if light is not None)
        images.append(LabelledImage(path=name, size=SIZE, elements=elements))
    return LabelledImages(
        source=_SOURCE,
        images=tuple(images),
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
        licence="non-commercial use (its licence document); labels in a repository under MIT",
    )


def _light(where: str, box: Yaml, image: str, token: str, counts: Counts) -> TrafficElement | None:
    values = expect_object(where, box)
    left, top, right, bottom = (
        parse_number(f"{name} of {where}", expect_field(where, values, name))
        for name in ("x_min", "y_min", "x_max", "y_max")
    )
    label = expect_field(where, values, "label")
    if label in _REWRITTEN_OFF:
        label = "off"
    lamps = look_up_lamps(f"label of {where}", label, LAMPS)
    occluded = expect_field(where, values, "occluded")
    if not isinstance(occluded, str) or occluded not in _FLAGS:
        raise ValueError(f"occluded of {where} must be true or false; got {shorten(occluded)}")
    mended = counts.box(where, (left, top, right, bottom), SIZE)
    if mended is None:
        return None
    return make_light(
        token=token,
        image=image,
        box_px=mended,
        lamps=lamps,
        source=_SOURCE,
        occluded=_FLAGS[occluded],
    )
