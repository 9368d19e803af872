"""Detection classes of a root whose categories are not nuScenes'."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from bevstack.tables.calibration import check_class_names, world_annotations
from bevstack.tables.classes import read_classes, suggest_class
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES
from tests.tables.tiny_root import VERSION, read_table, write_tables, write_tiny_root

NAMES = {
    "vehicle.car": "sedan",
    "human.pedestrian.adult": "walker",
    "vehicle.bus.rigid": "coach",
    "animal": "dog",
}

pytestmark = pytest.mark.usefixtures("cache_in_process")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def rename(root: Path, names: dict[str, str]) -> None:
    """Rename categories of the root."""
    rows = read_table(root, "category")
    for row in rows:
        row["name"] = names.get(row["name"], row["name"])
    write_tables(root, {"category": rows})


def _classes(tables: Tables, sample: int) -> list[str]:
    return [DETECTION_CLASSES[label] for label in world_annotations(tables, sample).labels]


def test_a_root_without_any_known_category_is_refused_with_its_names(root: Path) -> None:
    rename(root, NAMES)
    tables = Tables(root, VERSION)
    with pytest.raises(
        ValueError, match=r"must have a detection class .*got the categories sedan, walker, coach, "
    ) as caught:
        world_annotations(tables, 1)
    assert "--classes" in str(caught.value)


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("cache", [False, True])
def test_a_given_mapping_names_the_classes(root: Path, as_file: bool, cache: bool) -> None:
    rename(root, NAMES)
    classes = {"sedan": "car", "walker": "pedestrian", "coach": "truck", "dog": None}
    path = root / "map.json"
    path.write_text(json.dumps(classes), encoding="utf-8-sig")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = Tables(root, VERSION, cache=cache, classes=path if as_file else classes)
        assert _classes(tables, 1) == ["car", "pedestrian", "truck"]
    assert tables.class_by_category == {k: v for k, v in classes.items() if v}


def test_given_entries_come_before_nuscenes_own(root: Path) -> None:
    tables = Tables(root, VERSION, classes={"vehicle.bus.rigid": None, "animal": "barrier"})
    assert _classes(tables, 1) == ["car", "pedestrian", "barrier"]


def test_boxes_that_are_left_out_are_named_once(root: Path) -> None:
    rename(root, {"vehicle.bus.rigid": "coach"})
    tables = Tables(root, VERSION)
    with pytest.warns(UserWarning, match=r"left out: coach \(7 boxes\)") as caught:
        assert _classes(tables, 1) == ["car", "pedestrian"]
        _classes(tables, 2)
    assert len(caught) == 1


def test_two_categories_of_one_name_have_the_same_class(root: Path) -> None:
    rename(root, {"vehicle.bus.rigid": "vehicle.car"})
    assert _classes(Tables(root, VERSION), 1) == ["car", "pedestrian", "car"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"vehicle.car": "vehicle.truck"}, "got 'vehicle.truck'; did you mean 'truck'"),
        ({"vehicle.car": "cars"}, "class of 'vehicle.car' in classes .*did you mean 'car'"),
        ({"vehicle.car": 3}, "must map names of categories to names of classes or null; got"),
        ({"vehicle.car": ["car"]}, "must map names of categories to names of classes or null"),
        (["car"], "must be an object from categories to classes; got"),
    ],
)
def test_a_mapping_to_something_else_than_a_class_is_refused(
    root: Path, classes: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tables(root, VERSION, classes=classes)


def test_a_mapping_from_an_unknown_category_is_refused(root: Path) -> None:
    tables = Tables(root, VERSION, classes={"vehicle.cars": "car"})
    with pytest.raises(ValueError, match=r"got 'vehicle.cars'; did you mean 'vehicle.car'\?"):
        world_annotations(tables, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ('["car"]', r"must be an object from categories to classes; got \['car'\]"),
        ('{"a": "car", "a": "bus"}', "the key 'a' twice"),
        ('{"a": "lorry"}', "got 'lorry'"),
    ],
)
def test_a_damaged_file_of_classes_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"got no file .*none\.json"):
        read_classes(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("vehicle.car", "did you mean 'car'?"),
        ("movable_object.trafficcone", "did you mean 'traffic_cone'?"),
        ("vehicle.construction", "did you mean 'construction_vehicle'?"),
        ("human.pedestrian.police_officer", "did you mean 'pedestrian'?"),
        ("human.pedestrian", "did you mean 'pedestrian'?"),
        ("vehicle.bus", "did you mean 'bus'?"),
        ("Traffic Cone", "did you mean 'traffic_cone'?"),
        ("cars", "did you mean 'car'?"),
        ("animal", "the category 'animal' has no detection class, so leave it out"),
    ],
)
def test_a_category_in_place_of_a_class_suggests_its_class(name: str, remedy: str) -> None:
    assert suggest_class(name) == remedy
    with pytest.raises(ValueError, match="class_names must be among") as caught:
        check_class_names(["bus", name])
    assert str(caught.value).endswith(remedy)
