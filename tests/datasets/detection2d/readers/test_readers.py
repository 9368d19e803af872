"""Published data sets of objects in pictures, in the exact form of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.datasets.detection2d.readers.bdd100k import read_bdd100k_boxes
from bevstack.datasets.detection2d.readers.crowdhuman import VISIBLE, read_crowdhuman
from bevstack.datasets.detection2d.readers.labelled_objects import LabelledObjects, write_coco
from bevstack.datasets.detection2d.readers.lvis import read_lvis
from bevstack.datasets.detection2d.readers.openimages import read_openimages
from bevstack.datasets.detection2d.readers.voc import VOC_CLASSES, read_voc

VOC = """<annotation>
	<folder>VOC2012</folder>
	<filename>2007_000027.jpg</filename>
	<source><database>The VOC2007 Database</database><image>flickr</image></source>
	<size><width>80</width><height>60</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>person</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
		<bndbox><xmin>1</xmin><ymin>11</ymin><xmax>40</xmax><ymax>60</ymax></bndbox>
		<part><name>head</name>
			<bndbox><xmin>9</xmin><ymin>12</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></part>
	</object>
	<object>
		<name>tvmonitor</name><pose>Frontal</pose><truncated>1</truncated><difficult>1</difficult>
		<bndbox><xmin>50</xmin><ymin>1</ymin><xmax>70</xmax><ymax>9</ymax></bndbox>
	</object>
</annotation>
"""
CROWDHUMAN = {
    "ID": "273271,1a0d6000b9e1f5b7",
    "gtboxes": [
        {
            "tag": "mask",
            "hbox": [0, 0, 5, 5],
            "vbox": [0, 0, 5, 5],
            "fbox": [0, 0, 5, 5],
            "head_attr": {"ignore": 1, "occ": 1, "unsure": 0},
            "extra": {"ignore": 1},
        },
        {
            "tag": "person",
            "hbox": [20, 8, 6, 7],
            "vbox": [18, 8, 12, 20],
            "fbox": [18, 8, 14, 70],
            "head_attr": {"ignore": 0, "occ": 0, "unsure": 0},
            "extra": {"box_id": 1, "occ": 1},
        },
        {
            "tag": "person",
            "hbox": [60, 8, 6, 7],
            "vbox": [60, 8, 6, 9],
            "fbox": [60, 8, 6, 9],
            "head_attr": {"ignore": 1, "occ": 1, "unsure": 1},
            "extra": {"box_id": 2, "occ": 1, "ignore": 1},
        },
    ],
}
BDD100K = [
    {
        "name": "b1c66a42-6f7d68ca.jpg",
        "attributes": {"weather": "overcast", "scene": "city street", "timeofday": "daytime"},
        "timestamp": 10000,
        "labels": [
            {
                "id": "0",
                "category": "traffic sign",
                "attributes": {"occluded": False, "truncated": False, "trafficLightColor": "NA"},
                "manualShape": True,
                "manualAttributes": True,
                "box2d": {"x1": 1000.6, "y1": 281.9, "x2": 1040.8, "y2": 326.9},
            },
            {
                "id": "1",
                "category": "other vehicle",
                "attributes": {"occluded": True, "truncated": False, "trafficLightColor": "NA"},
                "box2d": {"x1": 10, "y1": 20, "x2": 30, "y2": 40},
            },
        ],
    },
    {"name": "b1ca2e5d-84cf9134.jpg", "attributes": {}, "timestamp": 10000, "labels": None},
]
LVIS = {
    "info": {},
    "images": [
        {
            "id": 397133,
            "height": 60,
            "width": 80,
            "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg",
            "flickr_url": "http://farm7.staticflickr.com/6116/6255196340_da26cf2c9e_z.jpg",
            "license": 1,
            "date_captured": "2013-11-14 17:02:52",
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [],
        }
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 397133,
            "category_id": 3,
            "bbox": [10.0, 20.0, 20.0, 10.0],
            "area": 200.0,
            "segmentation": [[10.0, 20.0, 30.0, 20.0, 30.0, 30.0, 10.0, 30.0]],
        }
    ],
    "categories": [
        {"id": 3, "name": "air_conditioner", "synset": "air_conditioner.n.01", "frequency": "f"}
        | {"synonyms": ["air_conditioner"], "def": "a machine", "image_count": 3},
        {"id": 1, "name": "aerosol_can", "synset": "aerosol.n.02", "frequency": "c"},
    ],
}
OPENIMAGES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,\
IsGroupOf,IsDepiction,IsInside
0001eeaf4aed83f9,xclick,/m/0cmf2,1,0.25,0.75,0.5,1,0,0,0,0,0
0001eeaf4aed83f9,xclick,/m/07j7r,1,0.1,0.2,0.1,0.2,0,0,1,0,0
000595fe6fee6369,activemil,/m/07j7r,1,0,1,0,0.5,-1,-1,-1,-1,-1
"""
OPENIMAGES_CLASSES = "/m/07j7r,Tree\n/m/0cmf2,Airplane\n"


def write_picture(path: Path, height: int = 60, width: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))


def voc(root: Path, text: str = VOC) -> LabelledObjects:
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / "2007_000027.xml").write_text(text)
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("2007_000027\n")
    write_picture(root / "JPEGImages" / "2007_000027.jpg")
    return read_voc(root, "trainval")


def crowdhuman(root: Path, line: str | None = None, box: str = "fbox") -> LabelledObjects:
    write_picture(root / "Images" / f"{CROWDHUMAN['ID']}.jpg")
    (root / "annotation_val.odgt").write_text((line or json.dumps(CROWDHUMAN)) + "\n")
    return read_crowdhuman(root, "val", box=box)


def bdd100k(root: Path, frames: object = BDD100K) -> LabelledObjects:
    (root / "100k" / "val").mkdir(parents=True, exist_ok=True)
    (root / "det_val.json").write_text(json.dumps(frames))
    return read_bdd100k_boxes(root / "det_val.json", root / "100k" / "val")


def lvis(root: Path, content: object = LVIS) -> LabelledObjects:
    (root / "val2017").mkdir(parents=True, exist_ok=True)
    (root / "lvis_v1_val.json").write_text(json.dumps(content))
    return read_lvis(root / "lvis_v1_val.json", root)


def openimages(root: Path, text: str = OPENIMAGES) -> LabelledObjects:
    for name in ("0001eeaf4aed83f9", "000595fe6fee6369"):
        write_picture(root / "validation" / f"{name}.jpg")
    boxes, classes = root / "validation-annotations-bbox.csv", root / "class-descriptions.csv"
    boxes.write_text(text)
    classes.write_text(OPENIMAGES_CLASSES)
    return read_openimages(boxes, classes, root / "validation")


def boxes(data: LabelledObjects) -> list[list[tuple[int, tuple[float, ...]]]]:
    return [[(own.label, own.box) for own in picture.objects] for picture in data.pictures]


def test_corners_of_voc_are_pixels_counted_from_one(tmp_path: Path) -> None:
    data = voc(tmp_path)
    assert boxes(data) == [[(VOC_CLASSES.index("person"), (0, 10, 40, 60))]]
    assert data.dropped == {"difficult": 1} and len(VOC_CLASSES) == 20
    assert data.pictures[0].file_name == "2007_000027.jpg" and data.pictures[0].size == (60, 80)


def test_people_of_crowdhuman_are_clipped_and_masks_dropped(tmp_path: Path) -> None:
    data = crowdhuman(tmp_path)
    assert boxes(data) == [[(0, (18, 8, 32, 60))]]
    assert data.dropped == {"mask": 1, "ignored": 1}
    assert boxes(crowdhuman(tmp_path, box=VISIBLE)) == [[(0, (18, 8, 30, 28))]]


def test_boxes_of_bdd100k_hold_their_last_pixel(tmp_path: Path) -> None:
    data = bdd100k(tmp_path)
    assert [picture.file_name for picture in data.pictures] == [f["name"] for f in BDD100K]
    (first, second) = boxes(data)
    assert first[0][0] == 9 and second == []
    assert first[0][1] == pytest.approx((1000.6, 281.9, 1041.8, 327.9))
    assert data.dropped == {"other vehicle": 1}


def test_classes_of_lvis_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    data = lvis(tmp_path)
    assert data.class_names == ("aerosol_can", "air_conditioner")
    (picture,) = data.pictures
    assert picture.file_name == "val2017/000000397133.jpg" and picture.image_id == 397133
    assert boxes(data) == [[(1, (10, 20, 30, 30))]]
    assert picture.objects[0].segmentation == LVIS["annotations"][0]["segmentation"]


def test_boxes_of_open_images_are_shares_of_the_picture(tmp_path: Path) -> None:
    data = openimages(tmp_path)
    assert data.class_names == ("Tree", "Airplane") and data.dropped == {"group": 1}
    assert boxes(data) == [[(1, (20, 30, 60, 60))], [(0, (0, 0, 80, 30))]]


@pytest.mark.parametrize("make", [voc, crowdhuman, bdd100k, lvis, openimages])
def test_written_files_of_coco_s_format_hold_the_same_objects(
    tmp_path: Path, make: Callable[[Path], LabelledObjects]
) -> None:
    data = make(tmp_path / "data")
    (tmp_path / "coco" / "val").mkdir(parents=True)
    write_coco(tmp_path / "coco" / "annotations" / "instances_val.json", data)
    again = CocoDataset(tmp_path / "coco", "val")
    assert again.class_names == data.class_names
    for ours, theirs in zip(data.pictures, again.pictures, strict=True):
        assert (ours.image_id, ours.file_name, ours.size) == (
            theirs.image_id,
            theirs.file_name,
            theirs.size,
        )
        assert len(ours.objects) == len(theirs.objects)
        for own, other in zip(ours.objects, theirs.objects, strict=True):
            assert own.label == other.label and own.box == pytest.approx(other.box)
            assert own.segmentation == other.segmentation


def changed(content: object, path: tuple[object, ...], value: object) -> object:
    """Return a deep copy with one value replaced."""
    copy = json.loads(json.dumps(content))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("make", "content", "message"),
    [
        (voc, VOC.replace("person", "unicorn"), "object 0 of .* 20 of the data set; got 'unicorn'"),
        (voc, VOC.replace("<xmin>1<", "<xmin>x<"), "xmin"),
        (
            crowdhuman,
            json.dumps(changed(CROWDHUMAN, ("gtboxes", 1, "tag"), "dog")),
            "line 1, box 1",
        ),
        (crowdhuman, "{", "line 1"),
        (bdd100k, changed(BDD100K, (0, "labels", 0, "category"), "boat"), "label 0 .*got 'boat'"),
        (bdd100k, changed(BDD100K, (0, "labels", 0, "box2d"), {"x1": 1}), "y1"),
        (lvis, changed(LVIS, ("annotations", 0, "category_id"), 7), "class 7"),
        (lvis, changed(LVIS, ("images", 0, "coco_url"), "http://x/y.jpg"), "folder and a file"),
        (openimages, OPENIMAGES.replace("/m/0cmf2", "/m/none"), "line 2 must be described"),
        (openimages, OPENIMAGES.replace("IsGroupOf", "Group"), "column IsGroupOf"),
        (openimages, OPENIMAGES.replace("0.25,", "nan,"), "XMin of .*line 2"),
    ],
)
def test_unknown_classes_and_damaged_files_are_refused(
    tmp_path: Path, make: Callable[..., LabelledObjects], content: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, content)


def test_empty_and_outer_boxes_are_counted_and_missing_folders_named(tmp_path: Path) -> None:
    turned = changed(BDD100K, (0, "labels", 0, "box2d"), {"x1": 9, "y1": 9, "x2": 2, "y2": 12})
    assert bdd100k(tmp_path, turned).dropped == {"without area": 1, "other vehicle": 1}
    outer = changed(LVIS, ("annotations", 0, "bbox"), [90, 0, 5, 5])
    assert lvis(tmp_path, outer).dropped == {"outside": 1}
    with pytest.raises(FileNotFoundError, match="pictures must lie in the folder"):
        read_bdd100k_boxes(tmp_path / "det_val.json", tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        read_voc(tmp_path, "trainval")
    with pytest.raises(ValueError, match="box must be 'fbox' or 'vbox'; got 'hbox'"):
        read_crowdhuman(tmp_path, "val", box="hbox")
