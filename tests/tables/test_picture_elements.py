"""Files of the elements of single pictures: round trip, form, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bevstack.tables.picture_elements import read_picture_elements, write_picture_elements
from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import LAMP, Lamp, TrafficElement

LIGHT = TrafficElement(
    token="0",
    category=1,
    attribute=1,
    box_px=(0.1, 20.0, 1 / 3, 30.0),
    sample_data_token="a/b.jpg",
    lamps=(Lamp("red", "unknown"),),
    source="elements",
)
SIGN = replace(LIGHT, token="1", category=2, attribute=5, lamps=None, meaning="turn_left")
ARROW = replace(LIGHT, token="2", attribute=5, lamps=(Lamp("unknown", "left"),))


def document(**element: Any) -> dict[str, Any]:
    """Return a document with one element, whose fields may be changed; None removes one."""
    row = {"id": 0, "category": 1, "attribute": 1, "points": [[1, 2], [3, 4]]} | element
    row = {name: value for name, value in row.items() if value is not None}
    frame = {"image": "a.jpg", "width": 8, "height": 6, "annotation": {"traffic_element": [row]}}
    return {"note": "", "frames": [frame]}


def test_written_predictions_are_read_again_exactly(tmp_path: Path) -> None:
    elements = (replace(LIGHT, box_convention=LAMP), SIGN, ARROW)
    scores = (0.1 + 0.2, 1e-17, 0.5)
    images = (
        LabelledImage(path="a/b.jpg", size=(600, 800), elements=elements, scores=scores),
        LabelledImage(path="é.jpg", size=(1, 2), elements=(), scores=None),
    )
    write_picture_elements(tmp_path / "elements.json", images)
    assert read_picture_elements(tmp_path / "elements.json") == images


def test_the_written_form_is_that_of_openlane_annotations(tmp_path: Path) -> None:
    image = LabelledImage(path="a/b.jpg", size=(600, 800), elements=(LIGHT,), scores=(0.25,))
    write_picture_elements(tmp_path / "elements.json", (image,), note="n")
    row = {
        "id": 0,
        "category": 1,
        "attribute": 1,
        "points": [[0.1, 20.0], [1 / 3, 30.0]],
        "confidence": 0.25,
    }
    frame = {
        "image": "a/b.jpg",
        "width": 800,
        "height": 600,
        "annotation": {"traffic_element": [row]},
    }
    assert json.loads((tmp_path / "elements.json").read_text()) == {"note": "n", "frames": [frame]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category": 3}, "category of element 0 of frame 0 must be from 1 to 2; got 3"),
        ({"attribute": 13}, "attribute of element 0 of frame 0 must be from 0 to 12; got 13"),
        ({"attribute": True}, "attribute of element 0 of frame 0 must be a whole number"),
        ({"points": [[1, 2]]}, "points of element 0 of frame 0 must be 2 lists of 2 numbers"),
        ({"id": None}, "element 0 of frame 0 must have the field 'id'"),
        ({"confidence": "high"}, "confidence of element 0 of frame 0 must be a number"),
        ({"box_convention": "pole"}, "box_convention of element 0 .* one of housing, lamp"),
    ],
)
def test_a_broken_element_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = tmp_path / "elements.json"
    path.write_text(json.dumps(document(**changed)))
    with pytest.raises(ValueError, match=message):
        read_picture_elements(path)


def test_repeated_ids_pictures_and_partial_confidences_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "elements.json"
    content = document()
    rows = content["frames"][0]["annotation"]["traffic_element"]
    rows.append(rows[0] | {"confidence": 0.5})
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="id of element 1 of frame 0 must occur once; got 0 twice"):
        read_picture_elements(path)
    rows[1]["id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"must all have a confidence, or none .*; got 1 of 2"):
        read_picture_elements(path)
    path.write_text(json.dumps({"frames": document()["frames"] * 2}))
    with pytest.raises(ValueError, match="image of frame 1 must occur once"):
        read_picture_elements(path)


def test_pictures_without_size_or_with_one_path_are_not_written(tmp_path: Path) -> None:
    image = LabelledImage(path="a.jpg", size=None, elements=())
    with pytest.raises(ValueError, match=r"size of picture a.jpg must be known"):
        write_picture_elements(tmp_path / "elements.json", (image,))
    image = replace(image, size=(1, 1))
    with pytest.raises(ValueError, match="paths of pictures must be distinct"):
        write_picture_elements(tmp_path / "elements.json", (image, image))
    assert not (tmp_path / "elements.json").exists()
