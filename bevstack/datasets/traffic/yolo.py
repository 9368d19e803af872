"""Reader of YOLO text labels with a list of classes.

A label file has the name of its image and one object a line: ``class cx cy w h`` or ``class x1 y1
x2 y2 x3 y3 ...`` with at least three corners of a polygon, all relative to the image's sides. A
polygon's box is the smallest that holds it. Classes come from ``names`` of a `data.yaml`, as a list
or as a mapping from numbers, or from a file with one name a line. The format does not state what a
box surrounds, so the caller does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bevstack.datasets.images import read_size
from bevstack.datasets.traffic.labels import Box, Counts, make_light, parse_light_name
from bevstack.datasets.traffic.xml_documents import parse_number
from bevstack.datasets.traffic.yaml_documents import Yaml, read_yaml
from bevstack.file_bytes import read_bytes
from bevstack.json_files import expect_field, expect_object, expect_text, shorten
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import BOX_CONVENTIONS, TrafficElement

MAX_LABEL_BYTES = 1 << 20
MAX_CLASSES = 1000
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
LIST_NAMES = ("data.yaml", "data.yml", "classes.txt", "obj.names")
_SOURCE = "yolo"
UNLABELLED = "image without a label file"
_YAML_SUFFIXES = (".yaml", ".yml")


def read_yolo(path: Path | str, *, box_convention: str, source: str = _SOURCE) -> LabelledImages:
    """Read the pictures below a folder that has a list of classes.

    Args:
        path: the folder with a list of one of ``LIST_NAMES``, or the list itself. Images lie in a
            folder `images` beside `labels`, as `valid/images/a.jpg` and `valid/labels/a.txt`, or
            together with their labels.
        box_convention: what the boxes surround, of ``BOX_CONVENTIONS``.
        source: name of the data set.

    Raises:
        FileNotFoundError: there is no list of classes.
        ValueError: a file is no such document, a class is no light's state, or the convention is
            unknown; names the file and the line.
    """
    if box_convention not in BOX_CONVENTIONS:
        known = ", ".join(BOX_CONVENTIONS)
        raise ValueError(f"box_convention must be one of {known}; got {box_convention!r}")
    listed = _find_list(Path(path))
    names = read_classes(listed)
    lamps = [
        parse_light_name(f"class {index} of {listed.name}", name)
        for index, name in enumerate(names)
    ]
    root = listed.parent
    counts = Counts()
    images = []
    for image in sorted(_images_below(root)):
        label = _label_path(image)
        if not label.is_file():
            counts.dropped[UNLABELLED] += 1
            continue
        name = image.relative_to(root).as_posix()
        size = read_size(image)
        elements: list[TrafficElement] = []
        for where, index, relative in _rows(label, len(names)):
            box = counts.box(where, _in_pixels(relative, size), size)
            if box is not None:
                light = make_light(
                    token=f"{name}/{len(elements)}",
                    image=name,
                    box_px=box,
                    lamps=lamps[index],
                    source=source,
                    box_convention=box_convention,
                )
                elements.append(light)
        images.append(LabelledImage(path=name, size=size, elements=tuple(elements)))
    return LabelledImages(
        source=source,
        images=tuple(images),
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
    )


def read_classes(path: Path | str) -> tuple[str, ...]:
    """Read the names of classes from a `data.yaml` or a list with one name a line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no such names, too many, or their numbers are not 0, 1, 2, ...
    """
    path = Path(path)
    where = f"list of classes {path.name}"
    if path.suffix not in _YAML_SUFFIXES:
        names: list[Yaml] = _text(path, where).splitlines()
    else:
        document = expect_object(where, read_yaml(path, where))
        listed = expect_field(where, document, "names")
        if isinstance(listed, dict):
            numbers = sorted(listed, key=lambda key: (len(key), key))
            if numbers != [str(index) for index in range(len(numbers))]:
                raise ValueError(f"names of {where} must be numbered 0, 1, 2, ...; got {numbers}")
            listed = [listed[number] for number in numbers]
        if not isinstance(listed, list):
            raise ValueError(f"names of {where} must be a list; got {shorten(listed)}")
        names = listed
        count = document.get("nc")
        if count is not None and count != str(len(names)):
            raise ValueError(f"nc of {where} must be {len(names)}, as names has; got {count!r:.40}")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"{where} must have 1 to {MAX_CLASSES} names; got {len(names)}")
    return tuple(expect_text(f"name {i} of {where}", name) for i, name in enumerate(names))


def _find_list(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in LIST_NAMES:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f"YOLO folder must hold a list of classes ({', '.join(LIST_NAMES)}); got none in {path}"
    )


def _images_below(root: Path) -> Iterator[Path]:
    return (
        path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def _label_path(image: Path) -> Path:
    """Return the label file of an image: in `labels` beside `images`, else beside the image."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts).with_suffix(".txt")
    return image.with_suffix(".txt")


def _rows(path: Path, classes: int) -> Iterator[tuple[str, int, Box]]:
    """Yield (place, class, left, top, right and bottom from 0 to 1) of each line."""
    for number, line in enumerate(_text(path, f"label file {path.name}").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"line {number} of {path.name}"
        index = parse_number(f"class of {where}", fields[0])
        if not (index.is_integer() and 0 <= index < classes):
            raise ValueError(
                f"class of {where} must be from 0 to {classes - 1}; got {shorten(fields[0])}"
            )
        values = [parse_number(f"a number of {where}", field) for field in fields[1:]]
        yield where, int(index), _relative_box(where, values)


def _relative_box(where: str, values: Sequence[float]) -> Box:
    if len(values) == 4:
        x, y, width, height = values
        if width < 0 or height < 0:
            raise ValueError(
                f"width and height of {where} must not be negative; got {width} {height}"
            )
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 6 or len(values) % 2:
        raise ValueError(
            f"{where} must have a class and a box of 4 numbers or at least 3 corners; "
            f"got {len(values)} numbers"
        )
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    left, top, right, bottom = box
    return left * width, top * height, right * width, bottom * height


def _text(path: Path, where: str) -> str:
    try:
        return read_bytes(path, where, max_bytes=MAX_LABEL_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} must be UTF-8 text; got {error.reason} at byte {error.start}"
        ) from None
