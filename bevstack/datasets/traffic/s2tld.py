"""Reader of the SJTU Small Traffic Light Dataset (S2TLD), in Pascal VOC's XML.

One file an image: ``<annotation><filename/><size><width/><height/></size><object><name/><bndbox>
<xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>``. Images have 1920 x 1080 or 1280 x 720
pixels, boxes surround the housing. ``wait_on`` marks a light whose state is unclear, so its
lamps are unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bevstack.datasets.traffic.labels import Counts, look_up_lamps, make_light
from bevstack.datasets.traffic.xml_documents import Node, read_xml
from bevstack.json_files import expect_text
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import Lamp, TrafficElement

MAX_SIDE_PX = 1 << 16
LAMPS: dict[str, tuple[Lamp, ...] | None] = {
    "red": (Lamp("red", "unknown"),),
    "yellow": (Lamp("yellow", "unknown"),),
    "green": (Lamp("green", "unknown"),),
    "off": (),
    "wait_on": None,
}
_SOURCE = "s2tld"


def read_s2tld(path: Path | str) -> LabelledImages:
    """Read one XML file, or all of a folder and its subfolders in order of their paths.

    Raises:
        FileNotFoundError: there is no such file, or the folder has none.
        ValueError: a file is no such document, or a name is unknown; names the file.
    """
    counts = Counts()
    images = tuple(_read_image(file, counts) for file in files_below(Path(path), ".xml"))
    return LabelledImages(
        source=_SOURCE,
        images=images,
        dropped=dict(counts.dropped),
        mended=dict(counts.mended),
        licence="see its repository",
    )


def files_below(path: Path, suffix: str) -> Sequence[Path]:
    """Return a file itself, or the files of a folder with a suffix in order of their paths.

    Raises:
        FileNotFoundError: the folder has no such file.
    """
    if not path.is_dir():
        return (path,)
    files = sorted(file for file in path.rglob(f"*{suffix}") if file.is_file())
    if not files:
        raise FileNotFoundError(f"folder must hold files *{suffix}; got none in {path}")
    return files


def _read_image(path: Path, counts: Counts) -> LabelledImage:
    where = path.name
    root = read_xml(path, f"S2TLD file {where}")
    if root.name != "annotation":
        raise ValueError(f"{where} must hold <annotation>; got <{root.name[:40]}>")
    name = expect_text(f"<filename> of {where}", root.child(where, "filename").text)
    size_node = root.child(where, "size")
    height, width = (size_node.number(where, side) for side in ("height", "width"))
    for side, value in (("height", height), ("width", width)):
        if not (value.is_integer() and 1 <= value <= MAX_SIDE_PX):
            raise ValueError(f"<{side}> of {where} must be a number of pixels; got {value:g}")
    size = int(height), int(width)
    lights = (
        _light(f"object {index} of {where}", node, size, f"{name}/{index}", counts)
        for index, node in enumerate(root.all("object"))
    )
    elements = tuple(light for light in lights if light is not None)
    return LabelledImage(path=name, size=size, elements=elements)


def _light(
    where: str, node: Node, size: tuple[int, int], token: str, counts: Counts
) -> TrafficElement | None:
    lamps = look_up_lamps(f"<name> of {where}", node.child(where, "name").text, LAMPS)
    corners = node.child(where, "bndbox")
    left, top, right, bottom = (
        corners.number(where, name) for name in ("xmin", "ymin", "xmax", "ymax")
    )
    flags = [child.text for child in node.all("occluded")]
    if any(flag not in ("0", "1") for flag in flags):
        raise ValueError(f"<occluded> of {where} must be 0 or 1; got {flags[0][:40]!r}")
    box = counts.box(where, (left, top, right, bottom), size)
    if box is None:
        return None
    return make_light(
        token=token,
        image=token.rpartition("/")[0],
        box_px=box,
        lamps=lamps,
        source=_SOURCE,
        occluded="1" in flags,
    )
