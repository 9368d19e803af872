"""One door to all readers of published data sets of traffic lights and signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from bevstack.datasets.traffic.bdd100k import read_bdd100k
from bevstack.datasets.traffic.bstld import read_bstld
from bevstack.datasets.traffic.dtld import read_dtld
from bevstack.datasets.traffic.lisa import read_lisa
from bevstack.datasets.traffic.openlane_v2 import read_openlane_v2
from bevstack.datasets.traffic.s2tld import read_s2tld
from bevstack.datasets.traffic.yolo import read_yolo
from bevstack.tables.picture_elements import read_picture_elements
from bevstack.types.labelled_images import LabelledImages

# Formats that state by themselves what a box surrounds.
_READERS: Mapping[str, Callable[[Path], LabelledImages]] = MappingProxyType(
    {
        "bdd100k": read_bdd100k,
        "bstld": read_bstld,
        "dtld": read_dtld,
        "lisa": read_lisa,
        "openlane_v2": read_openlane_v2,
        "s2tld": read_s2tld,
    }
)
_OPEN_FORMATS = ("elements", "yolo")
FORMATS = (*sorted(_READERS), *_OPEN_FORMATS)


def read(path: Path | str, format: str, *, box_convention: str | None = None) -> LabelledImages:
    """Read the lights and signs of a published data set.

    Args:
        path: a label file or a folder; see the reader of the format.
        format: of ``FORMATS``.
        box_convention: "lamp" or "housing", what a box surrounds; needed by "yolo" and "elements",
            refused by formats that state it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the format is unknown, a convention is missing or not wanted, or the file is
            refused by its reader.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    if (format in _OPEN_FORMATS) != (box_convention is not None):
        rule = "must be given for" if format in _OPEN_FORMATS else "must be left out for"
        raise ValueError(f"box_convention {rule} the format {format!r}; got {box_convention!r}")
    if box_convention is None:
        return _READERS[format](Path(path))
    if format == "yolo":
        return read_yolo(path, box_convention=box_convention)
    images = read_picture_elements(path, box_convention=box_convention)
    return LabelledImages(source=format, images=images)
