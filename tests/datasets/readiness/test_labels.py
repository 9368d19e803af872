"""Labels that cannot be learned or scored are found before a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevstack.datasets.readiness.inspection import check_root, inspect_root
from bevstack.datasets.readiness.labels import check_labels
from bevstack.tables.reader import Tables
from tests.tables.test_annotation_checks import change
from tests.tables.test_classes import NAMES, rename
from tests.tables.tiny_root import VERSION, read_table, write_tables


def _sentences(root: Path) -> list[str]:
    return [finding.sentence for finding in check_labels(Tables(root, VERSION))]


def test_sound_labels_give_no_finding(root: Path) -> None:
    assert _sentences(root) == []


def test_categories_without_a_class_matter(root: Path) -> None:
    rename(root, NAMES)
    report = inspect_root(root, VERSION)
    assert not report.ready
    assert "got the categories sedan, walker, coach, dog" in report.findings[-1].sentence


@pytest.mark.parametrize(("points", "found"), [(0, True), (-1, False)])
def test_boxes_without_points_are_found(root: Path, points: int, found: bool) -> None:
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row |= {"num_lidar_pts": points, "num_radar_pts": 0}
    write_tables(root, {"sample_annotation": rows})
    assert ["got 0 for all 16 boxes" in text for text in _sentences(root)] == [True] * found


def test_boxes_of_classes_that_are_not_detected_are_found(root: Path) -> None:
    categories = read_table(root, "category")
    animal = next(row for row in categories if row["name"] == "animal")
    instances = [row | {"category_token": animal["token"]} for row in read_table(root, "instance")]
    write_tables(root, {"instance": instances})
    (sentence,) = _sentences(root)
    assert sentence.startswith("boxes must have a detection class; got none for all 23 boxes")


def test_unknown_attributes_and_copied_boxes_are_found(root: Path) -> None:
    rows = read_table(root, "attribute")
    rows[2]["name"] = "walking"
    write_tables(root, {"attribute": rows})
    instances = read_table(root, "instance")
    annotations = read_table(root, "sample_annotation")
    copy = {**annotations[0], "token": "e" * 32, "instance_token": "f" * 32}
    write_tables(
        root,
        {
            "sample_annotation": [*annotations, copy],
            "instance": [*instances, {**instances[0], "token": "f" * 32}],
        },
    )
    attribute, copied = _sentences(root)
    assert "got 'walking' at " in attribute and ", and 1 more" in attribute
    assert copied.endswith(f"got the same at {annotations[0]['token']} and {'e' * 32}")


def test_boxes_that_are_not_finite_are_found(root: Path) -> None:
    change(root, 0, translation=[float("nan"), 0.0, 0.0], rotation=[float("inf"), 0.0, 0.0, 0.0])
    change(root, 1, size=[float("nan"), 2.0, 3.0])
    text = " ".join(finding.sentence for finding in check_root(root, VERSION).findings)
    for rule in ("centres of annotations must be finite", "sizes of", "rotations of"):
        assert rule in text


def test_a_root_without_annotations_is_ready_for_prediction(root: Path) -> None:
    (root / VERSION / "sample_annotation.json").unlink()
    report = inspect_root(root, VERSION)
    assert report.ready and report.annotations == 0
    assert any("usable for prediction only" in f.sentence for f in report.findings)
    assert not [f for f in check_root(root, VERSION).findings if "sizes" in f.sentence]
