"""Readers of published traffic lights, on small files in the published forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bevstack.datasets.traffic import read
from bevstack.datasets.traffic.labels import OCCLUDED_VISIBILITY, light_attribute
from bevstack.datasets.traffic.openlane_v2 import read_openlane_frame
from bevstack.datasets.traffic.xml_documents import parse_number
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES
from tests.datasets.traffic import published

RED, GREEN, YELLOW = (TRAFFIC_ELEMENT_ATTRIBUTES.index(name) for name in ("red", "green", "yellow"))


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_yolo(folder: Path, names: str, lines: str) -> Path:
    write(folder / "data.yaml", f"names:\n{names}nc: {len(names.splitlines())}\n")
    write(folder / "valid" / "labels" / "a.txt", lines)
    (folder / "valid" / "images").mkdir(parents=True, exist_ok=True)
    image = np.zeros((40, 80, 3), np.uint8)
    assert cv2.imwrite(str(folder / "valid" / "images" / "a.png"), image)
    return folder


def test_every_spelling_of_off_in_bstld_is_a_light_without_lit_lamps(tmp_path: Path) -> None:
    _, image = read(write(tmp_path / "train.yaml", published.BSTLD), "bstld").images
    states = [element.lamps for element in image.elements]
    assert states[2:5] == [(), (), ()]
    assert all(element.attribute == 0 for element in image.elements[2:5])


def test_bstld_keeps_colour_and_arrow_and_mends_boxes_with_their_counts(tmp_path: Path) -> None:
    result = read(write(tmp_path / "train.yaml", published.BSTLD), "bstld")
    empty, image = result.images
    assert (empty.elements, empty.size) == ((), (720, 1280))
    assert empty.path == "./rgb/train/2017-02-03-11-44-56_bag/207374.png"
    left = image.elements[0]
    assert left.lamps == (Lamp("red", "left"),) and left.attribute == RED
    assert left.manoeuvres == ("left",) and left.visibility == OCCLUDED_VISIBILITY
    assert left.box_px == (612.0, 354.75, 615.5, 360.375)
    assert image.elements[5].box_px == (20.0, 40.0, 30.0, 60.0)  # inverted
    assert image.elements[6].box_px == (1270.0, 0.0, 1280.0, 100.0)  # overflowing
    assert image.elements[7].lamps == (Lamp("green", "straight"), Lamp("green", "right"))
    assert result.mended == {"inverted box": 1, "box beyond the image": 1}
    assert result.dropped == {"empty box": 1}


@pytest.mark.parametrize(("kind", "convention"), [("BOX", "housing"), ("BULB", "lamp")])
def test_lisa_keeps_housings_and_lamps_apart(tmp_path: Path, kind: str, convention: str) -> None:
    result = read(write(tmp_path / f"frameAnnotations{kind}.csv", published.LISA), "lisa")
    assert [len(image.elements) for image in result.images] == [2, 1, 0]
    elements = [element for image in result.images for element in image.elements]
    assert {element.box_convention for element in elements} == {convention}
    assert [element.lamps for element in elements] == [
        (Lamp("red"),),
        (Lamp("green", "left"),),
        (Lamp("yellow"),),
    ]
    assert elements[0].box_px == (706, 478, 718, 500)
    assert elements[0].instance_token == ""  # "Origin track" is a film
    assert result.mended == {"box beyond the image": 1} and result.dropped == {"empty box": 1}


def test_s2tld_reads_states_and_sizes(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.xml", published.S2TLD)
    result = read(tmp_path, "s2tld")
    (image,) = result.images
    assert (image.path, image.size) == ("2020-03-30 11_30_03.690871079.jpg", (1080, 1920))
    states = [element.lamps for element in image.elements]
    assert states == [(Lamp("red", "unknown"),), None, ()]
    assert image.elements[0].box_px == (1003, 386, 1019, 422)
    assert result.mended == {"box beyond the image": 1}


@pytest.mark.parametrize("color", ["green", "G"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_bdd100k_reads_both_spellings_and_both_forms(
    tmp_path: Path, color: str, wrapped: bool
) -> None:
    frames = published.bdd100k(color)
    document = {"config": {"categories": [{"name": "car"}]}, "frames": frames}
    result = read(write(tmp_path / "det.json", document if wrapped else frames), "bdd100k")
    sign, green, unlit = result.images[0].elements
    assert sign.category == ROAD_SIGN and sign.lamps is None
    assert green.lamps == (Lamp("green", "unknown"),) and green.attribute == GREEN
    assert green.visibility == OCCLUDED_VISIBILITY
    assert unlit.lamps is None and unlit.box_px[2] == 1280
    assert result.images[1].elements == ()
    assert result.dropped == {"category car": 1} and result.mended == {"box beyond the image": 1}


def test_bdd100k_reads_one_file_an_image(tmp_path: Path) -> None:
    labels = published.bdd100k()[0]["labels"]
    document = {"name": "a", "frames": [{"timestamp": 10000, "objects": labels}]}
    result = read(write(tmp_path / "labels" / "b1c9c847.json", document).parent, "bdd100k")
    assert [image.path for image in result.images] == ["b1c9c847.jpg"]
    assert len(result.images[0].elements) == 3


def test_dtld_keeps_relevance_tracks_and_pictograms(tmp_path: Path) -> None:
    result = read(write(tmp_path / "Berlin.json", published.dtld()), "dtld")
    (image,) = result.images
    both, left, walker, back = image.elements
    assert both.lamps == (Lamp("red"), Lamp("yellow")) and both.relevant is True
    assert (both.instance_token, both.token) == ("a", "1000")
    assert both.box_px == (1000, 300, 1020, 350)
    assert left.lamps == (Lamp("green", "left"),) and left.relevant is False
    assert walker.road_user == "pedestrian" and walker.visibility == OCCLUDED_VISIBILITY
    assert back.lamps is None
    assert result.dropped == {"reflection of a light": 1}
    assert result.images[0].size == (1024, 2048)


@pytest.mark.parametrize("bucket", [False, True])
def test_openlane_reads_elements_lanes_and_topology(tmp_path: Path, bucket: bool) -> None:
    name = "1531883530412470-ls.json" if bucket else "1531883530412470.json"
    path = write(tmp_path / "val" / "00000" / "info" / name, published.openlane(bucket=bucket))
    frame = read_openlane_frame(path)
    light, sign = frame.image.elements
    assert light.lamps == (Lamp("red", "unknown"),) and light.lane_tokens == ("10", "11")
    assert sign.category == ROAD_SIGN and sign.meaning == "turn_left" and sign.lane_token == "11"
    assert light.box_px == (800.5, 200.0, 812.0, 240.0) and light.instance_token == "31"
    np.testing.assert_array_equal(frame.lane_from_lane, [[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(frame.lane_to_element, [[1, 0], [1, 1], [0, 0]])
    assert [lane.token for lane in frame.lanes] == ["10", "11", "12"]
    assert frame.lanes[2].points_m.tolist() == [[0, 2, 0], [1, 2, 0], [2, 2, 0]]
    assert frame.timestamp == 1531883530412470
    if bucket:
        assert frame.lanes[2].in_intersection is True
        assert frame.lanes[0].left is not None and frame.lanes[0].left.kind == "dash"
    (image,) = read(tmp_path, "openlane_v2").images
    assert image == frame.image


def test_a_frame_with_both_openlane_files_is_read_once(tmp_path: Path) -> None:
    info = tmp_path / "val" / "00000" / "info"
    write(info / "1.json", published.openlane())
    write(info / "1-ls.json", published.openlane(bucket=True))
    write(info / "2-ls.json", published.openlane(bucket=True))
    write(tmp_path / "data_dict_sample.json", {"val": {}})  # no frame
    assert len(read(tmp_path, "openlane_v2").images) == 2


def test_yolo_reads_boxes_and_polygons_in_pixels(tmp_path: Path) -> None:
    lines = "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.55\n2 0.95 0.5 0.2 0.2"
    folder = write_yolo(tmp_path, "- green\n- RedLeft\n- left\n", lines)
    result = read(folder, "yolo", box_convention="lamp")
    (image,) = result.images
    assert (image.path, image.size) == ("valid/images/a.png", (40, 80))
    red, green, arrow = image.elements
    # To 1e-9 px: products of doubles near 80.
    assert red.box_px == pytest.approx((30, 10, 50, 30), abs=1e-9)
    assert green.box_px == pytest.approx((8, 8, 24, 24), abs=1e-9)
    assert arrow.box_px == pytest.approx((68, 16, 80, 24), abs=1e-9)
    assert red.lamps == (Lamp("red", "left"),) and arrow.lamps == (Lamp("unknown", "left"),)
    assert TRAFFIC_ELEMENT_ATTRIBUTES[arrow.attribute] == "turn_left"
    assert {element.box_convention for element in image.elements} == {"lamp"}
    assert result.mended == {"box beyond the image": 1}


def test_yolo_reads_a_list_of_names_and_numbered_names(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, "- green\n- red\n- off\n", "1 0.5 0.5 0.25 0.5\n")
    expected = read(folder, "yolo", box_convention="housing").images
    write(folder / "data.yaml", "names: {0: green, 1: red, 2: 'off'}\n")
    assert read(folder, "yolo", box_convention="housing").images == expected
    (folder / "data.yaml").unlink()
    write(folder / "classes.txt", "traffic_light-green\ntraffic_light-red\noff\n")
    assert read(folder, "yolo", box_convention="housing").images == expected


UNKNOWN = [
    ("bstld", "a.yaml", published.BSTLD.replace("RedLeft", "Purple"), "Purple"),
    ("lisa", "BOX.csv", published.LISA.replace(";stop;", ";halt;"), "halt"),
    ("s2tld", "a.xml", published.S2TLD.replace("wait_on", "wait_off"), "wait_off"),
    ("bdd100k", "a.json", json.dumps(published.bdd100k("blue")), "blue"),
    ("bdd100k", "a.json", json.dumps(published.bdd100k()).replace("car", "cat"), "cat"),
    ("dtld", "a.json", json.dumps(published.dtld()).replace("arrow left", "arrow up"), "arrow up"),
]


@pytest.mark.parametrize(("format", "name", "text", "label"), UNKNOWN)
def test_an_unknown_label_is_refused_by_name_with_the_known_ones(
    tmp_path: Path, format: str, name: str, text: str, label: str
) -> None:
    with pytest.raises(ValueError, match=rf"must be one of .*; got '{label}'"):
        read(write(tmp_path / name, text), format)


def test_a_class_that_is_no_state_of_a_light_is_refused(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, "- green\n- person\n", "0 0.5 0.5 0.25 0.5\n")
    with pytest.raises(ValueError, match=r"class 1 of data.yaml must be a light's .*'person'"):
        read(folder, "yolo", box_convention="housing")


def test_the_convention_of_boxes_is_asked_for_exactly_where_no_format_states_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="box_convention must be given for the format 'yolo'"):
        read(tmp_path, "yolo")
    with pytest.raises(ValueError, match="box_convention must be left out for the format 'lisa'"):
        read(tmp_path, "lisa", box_convention="lamp")
    with pytest.raises(ValueError, match=r"format must be one of .*bstld"):
        read(tmp_path, "kitti")
    with pytest.raises(ValueError, match=r"BOX \(housings\) or BULB \(lamps\)"):
        read(write(tmp_path / "frameAnnotations.csv", published.LISA), "lisa")


def test_a_light_of_unknown_colour_has_the_attribute_of_its_arrow() -> None:
    names = [
        TRAFFIC_ELEMENT_ATTRIBUTES[light_attribute(lamps)]
        for lamps in (
            (Lamp("unknown", "left"),),
            (Lamp("red", "left"),),
            (Lamp("unknown", "circle"),),
            (),
            None,
        )
    ]
    assert names == ["turn_left", "red", "unknown", "unknown", "unknown"]


@pytest.mark.parametrize("text", ["1_0", "\u0661", "inf", "0x1", "1e", "", None, 5])
def test_numbers_are_plain_decimal_text(text: object) -> None:
    with pytest.raises(ValueError, match="a side must be a finite number; got"):
        parse_number("a side", text)
    assert [parse_number("a side", good) for good in (" 1.5 ", "-2", ".5e1")] == [1.5, -2.0, 5.0]
