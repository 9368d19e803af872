"""Reader of the LISA Traffic Light Dataset (Jensen et al., IEEE T-ITS 2016).

Each clip has two files, separated by ";": `frameAnnotationsBOX.csv` with boxes around the housing,
and `frameAnnotationsBULB.csv` with boxes around the lit lamp. BOX was made from BULB by enlarging
boxes over 4 x 4 pixels. Images have 1280 x 960 pixels. A row is one lit state, so a light with an
arrow beside its circle has two rows. The columns "Origin track" name a film, not a light: there are
no tracks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from bevstack.datasets.traffic.labels import Counts, look_up_lamps, make_light
from bevstack.datasets.traffic.xml_documents import parse_number
from bevstack.file_bytes import read_bytes
from bevstack.json_files import expect_text, shorten
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import HOUSING, LAMP, Lamp, TrafficElement

SIZE = (960, 1280)
MAX_BYTES = 1 << 28
COLUMNS = (
    "Filename",
    "Annotation tag",
    "Upper left corner X",
    "Upper left corner Y",
    "Lower right corner X",
    "Lower right corner Y",
    "Origin file",
    "Origin frame number",
    "Origin track",
    "Origin track frame number",
)
LAMPS: Mapping[str, tuple[Lamp, ...]] = {
    f"{state}{arrow}": (Lamp(color, shape),)
    for state, color in (("go", "green"), ("stop", "red"), ("warning", "yellow"))
    for arrow, shape in (("", "circle"), ("Left", "left"), ("Right", "right"))
} | {"goForward": (Lamp("green", "straight"),)}
_SOURCE = "lisa"
_CONVENTIONS = {"BOX": HOUSING, "BULB": LAMP}


def read_lisa(path: Path | str) -> LabelledImages:
    """Read one annotation file; its name states the convention of its boxes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name holds neither BOX nor BULB, the file has other columns, or a tag is
            unknown; names the line.
    """
    path = Path(path)
    kinds = [kind for kind in _CONVENTIONS if kind in path.stem]
    if len(kinds) != 1:
        raise ValueError(
            f"name of a LISA file must hold BOX (housings) or BULB (lamps); got {path.name}"
        )
    counts = Counts()
    images: dict[str, list[TrafficElement]] = {}
    for where, row in _rows(path):
        name = expect_text(f"Filename of {where}", row[0])
        lamps = look_up_lamps(f"Annotation tag of {where}", row[1], LAMPS)
        left, top, right, bottom = (
            parse_number(f"{column} of {where}", text)
            for column, text in zip(COLUMNS[2:6], row[2:6], strict=True)
        )
        elements = images.setdefault(name, [])
        box = counts.box(where, (left, top, right, bottom), SIZE)
        if box is not None:
            light = make_light(
                token=f"{name}/{len(elements)}",
                image=name,
                box_px=box,
                lamps=lamps,
                source=_SOURCE,
                box_convention=_CONVENTIONS[kinds[0]],
            )
            elements.append(light)
    return LabelledImages(
        source=_SOURCE,
        images=tuple(
            LabelledImage(path=name, size=SIZE, elements=tuple(elements))
            for name, elements in images.items()
        ),
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
        licence="CC BY-NC-SA 4.0",
    )


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    subject = f"LISA file {path.name}"
    data = read_bytes(path, subject, max_bytes=MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{subject} must be UTF-8 text; got {error.reason} at byte {error.start}"
        ) from None
    reader = csv.reader(text.splitlines(), delimiter=";", quoting=csv.QUOTE_NONE)
    try:
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(
                f"{subject} must have the columns {';'.join(COLUMNS)}; got {shorten(header)}"
            )
        for row in reader:
            where = f"line {reader.line_num} of {path.name}"
            if len(row) != len(COLUMNS):
                raise ValueError(f"{where} must have {len(COLUMNS)} fields; got {len(row)}")
            yield where, row
    except csv.Error as error:  # a field of over 128 kB
        raise ValueError(f"{subject} must be CSV; got {error} in line {reader.line_num}") from None
