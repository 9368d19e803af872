"""Readers of published traffic lights, fuzzed by the structure of their documents.

A mutated document is written in the reader's own form: YAML as JSON, which is a part of it, XML and
CSV from nested lists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np

from bevstack.datasets.traffic import read
from bevstack.datasets.traffic.lisa import COLUMNS
from bevstack.datasets.traffic.openlane_v2 import read_openlane_frame
from bevstack.tables.picture_elements import read_picture_elements, write_picture_elements
from tests.datasets.traffic import published
from tests.fuzz import label_kinds, mutations
from tests.fuzz.kinds import anything, members
from tests.fuzz.reader import Reader, start_with, write_file
from tests.fuzz.schema import integer, listing, mapping, null, number, one_of, record, text

_BSTLD = [
    {"path": "./a.png", "boxes": []},
    {
        "path": "./b.png",
        "boxes": [
            {
                "label": "RedLeft",
                "occluded": False,
                "x_min": 5,
                "x_max": 9.5,
                "y_min": 1,
                "y_max": 8,
            },
            {"label": "off", "occluded": True, "x_min": 50, "x_max": 9, "y_min": 1, "y_max": 800},
        ],
    },
]
_LISA = [
    list(COLUMNS),
    ["d/d1--0.jpg", "stop", "706", "478", "718", "500", "d/d1.mp4", "0", "d/d1.mp4", "0"],
    ["d/d1--1.jpg", "goLeft", "706", "478", "718", "500", "d/d1.mp4", "1", "d/d1.mp4", "1"],
]
_S2TLD = {
    "annotation": {
        "filename": "a.jpg",
        "size": {"width": 1920, "height": 1080, "depth": 3},
        "object": [
            {"name": "red", "bndbox": {"xmin": 3, "ymin": 4, "xmax": 9, "ymax": 20}},
            {"name": "off", "bndbox": {"xmin": 33, "ymin": 4, "xmax": 39, "ymax": 20}},
        ],
    }
}
_YOLO = {
    "names": ["green", "red", "left"],
    "rows": [[0, 0.5, 0.5, 0.1, 0.2], [2, 0.1, 0.1, 0.2, 0.1, 0.2, 0.3]],
}
_ELEMENTS = {
    "note": "n",
    "frames": [
        {
            "image": "a.jpg",
            "width": 80,
            "height": 60,
            "annotation": {
                "traffic_element": [
                    {
                        "id": index,
                        "category": 1,
                        "attribute": 1,
                        "points": [[1.5, 2], [3, 4]],
                        "confidence": 0.5,
                    }
                    for index in range(2)
                ]
            },
        },
        {"image": "b.jpg", "width": 80, "height": 60, "annotation": {"traffic_element": []}},
    ],
}
_ELEMENT = record(
    {
        "id": integer(),
        "category": integer(1, 2),
        "attribute": integer(0, 12),
        "points": listing(listing(number(), 2), 2),
    },
    {"confidence": number(), "box_convention": members("lamp", "housing")},
    open=True,
)
_FRAME = record(
    {
        "image": text,
        "width": integer(1, 1 << 16),
        "height": integer(1, 1 << 16),
        "annotation": record({"traffic_element": listing(_ELEMENT)}, open=True),
    },
    open=True,
)
ELEMENTS = record({"frames": listing(_FRAME)}, open=True)
_DTLD_LABEL = record(
    {
        **dict.fromkeys(("x", "y", "w", "h"), number()),
        **dict.fromkeys(("unique_id", "track_id"), one_of(integer(), text)),
        "attributes": mapping(anything),
    },
    open=True,
)
DTLD = record(
    {"images": listing(record({"image_path": text, "labels": listing(_DTLD_LABEL)}, open=True))},
    open=True,
)
OPENLANE = record(
    {
        "segment_id": text,
        "timestamp": one_of(integer(0), text),
        "sensor": mapping(anything),
        "annotation": record({"traffic_element": listing(_ELEMENT)}, open=True),
    },
    open=True,
)
_BDD_FRAMES = listing(
    record({}, {"name": anything, "labels": one_of(null, listing(mapping(anything)))}, open=True)
)
BDD100K = one_of(_BDD_FRAMES, record({"frames": _BDD_FRAMES}, open=True))


def _read_named(folder: Path, content: Any, *, name: str, format: str) -> None:
    """Read a document that is JSON, or YAML by being JSON."""
    read(write_file(folder / name, content), format)


def _read_lisa(folder: Path, content: Any) -> None:
    rows = content if isinstance(content, list) else [content]
    lines = (row if isinstance(row, list) else [row] for row in rows)
    data = "".join(";".join(map(str, line)) + "\n" for line in lines)
    encoded = data.encode(errors="surrogatepass")
    read(write_file(folder / "frameAnnotationsBULB.csv", encoded), "lisa")


def _as_xml(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(_as_xml(name, item) for item in value)
    plain = "".join(c for c in name if c.isascii() and c.isalnum()) or "x"
    if isinstance(value, dict):
        inner = "".join(_as_xml(key, item) for key, item in value.items())
    else:
        inner = escape(str(value))
    return f"<{plain}>{inner}</{plain}>"


def _read_s2tld(folder: Path, content: Any) -> None:
    try:
        data = _as_xml("root", content)
    except RecursionError:  # of this function; the reader gets a document as deep
        data = "<annotation>" + "<a>" * 10_000
    if isinstance(content, dict) and len(content) == 1:
        data = data.removeprefix("<root>").removesuffix("</root>")
    read(write_file(folder / "a.xml", data.encode(errors="surrogatepass")), "s2tld")


def _read_yolo(folder: Path, content: Any) -> None:
    content = content if isinstance(content, dict) else {"names": content}
    rows = content.get("rows", [])
    listed = rows if isinstance(rows, list) else [rows]
    lines = (" ".join(map(str, r)) if isinstance(r, list) else str(r) for r in listed)
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 8, 3), np.uint8))
    write_file(folder / "a.txt", "\n".join(lines).encode(errors="surrogatepass"))
    write_file(folder / "data.yaml", {k: v for k, v in content.items() if k != "rows"})
    read(folder, "yolo", box_convention="lamp")


def _read_elements(folder: Path, content: Any) -> None:
    images = read_picture_elements(write_file(folder / "elements.json", content))
    write_picture_elements(folder / "again.json", images)
    again = read_picture_elements(folder / "again.json")
    assert [image.scores for image in again] == [image.scores for image in images]


def _read_openlane(folder: Path, content: Any) -> None:
    read_openlane_frame(write_file(folder / "1.json", content))


_json = mutations.mutate_json


def _json_reader(name: str, file: str, *starts: Any, kind: Any = None) -> Reader:
    run: Callable[[Path, Any], None] = partial(_read_named, name=file, format=name)
    return Reader(name=name, start=start_with(*starts), mutate=_json, read=run, kind=kind)


LABEL_READERS = (
    _json_reader("bstld", "train.yaml", _BSTLD, kind=label_kinds.BSTLD),
    _json_reader(
        "bdd100k", "det.json", published.bdd100k(), {"frames": published.bdd100k("R")}, kind=BDD100K
    ),
    _json_reader("dtld", "Berlin.json", published.dtld(), kind=DTLD),
    Reader(
        name="openlane_v2",
        start=start_with(published.openlane(), published.openlane(bucket=True)),
        mutate=_json,
        read=_read_openlane,
        kind=OPENLANE,
    ),
    Reader(
        name="picture_elements",
        start=start_with(_ELEMENTS),
        mutate=partial(_json, nan=True),
        read=_read_elements,
        kind=ELEMENTS,
    ),
    *(
        Reader(name=name, start=start_with(start), mutate=_json, read=read_one, kind=kind)
        for name, start, read_one, kind in (
            ("lisa", _LISA, _read_lisa, label_kinds.lisa),
            ("s2tld", _S2TLD, _read_s2tld, label_kinds.s2tld),
            ("yolo", _YOLO, _read_yolo, label_kinds.yolo),
        )
    ),
    Reader(
        name="bstld_bytes",
        start=start_with(published.BSTLD.encode()),
        mutate=mutations.mutate_bytes,
        read=lambda folder, data: read(write_file(folder / "a.yaml", data), "bstld"),
    ),
    Reader(
        name="s2tld_bytes",
        start=start_with(published.S2TLD.encode()),
        mutate=mutations.mutate_bytes,
        read=lambda folder, data: read(write_file(folder / "a.xml", data), "s2tld"),
    ),
)
