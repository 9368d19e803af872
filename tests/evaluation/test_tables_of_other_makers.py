"""Scoring with categories, counts, attributes and levels that nuScenes does not have."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.evaluation.analysis.conditions import read_conditions
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.submission import read_submission, write_submission
from bevstack.evaluation.scoring import evaluate_results
from bevstack.tables.reader import Tables
from tests.evaluation.test_scoring import (
    expect_the_devkits_files,
    needs_devkit,
    truth_as_prediction,
)
from tests.tables.test_annotation_checks import change
from tests.tables.test_classes import NAMES, rename
from tests.tables.tiny_root import VERSION, read_table, write_tables

CLASSES = {"sedan": "car", "walker": "pedestrian", "coach": "bus"}


def set_counts(root: Path, lidar: int, radar: int) -> None:
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row |= {"num_lidar_pts": lidar, "num_radar_pts": radar}
    write_tables(root, {"sample_annotation": rows})


def score(root: Path, results: Path, *more: str) -> int:
    data = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_val"]
    return main(["evaluate", str(results), *data, *more])


def test_other_categories_are_scored_with_a_mapping(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, classes = tmp_path / "r.json", tmp_path / "map.json"
    write_submission(results, truth_as_prediction(root))
    wanted = evaluate_results(results, root, VERSION, "mini_val")
    rename(root, NAMES)
    assert score(root, results) == 2
    assert "got the categories sedan, walker, coach, dog: map them" in capsys.readouterr().err
    classes.write_text(json.dumps(CLASSES))
    assert score(root, results, "--classes", str(classes), "--groups") == 0
    captured = capsys.readouterr()
    assert f"NDS: {wanted.nds:.4f}" in captured.out
    assert evaluate_results(results, root, VERSION, "mini_val", classes=classes) == wanted
    assert "left out: dog (7 boxes)" in captured.err


def test_a_split_without_a_scored_category_gives_the_reason(root: Path) -> None:
    rename(root, dict.fromkeys(NAMES, "animal") | {"vehicle.bus.rigid": "vehicle.bus.rigid"})
    rows = [row for row in read_table(root, "sample_annotation") if row["num_lidar_pts"]]
    for row in rows:
        row |= {"prev": "", "next": ""}
    write_tables(root, {"sample_annotation": rows})
    tables = Tables(root, VERSION)
    with pytest.raises(ValueError, match=r"their 16 annotations are of animal: .*--classes"):
        ground_truth(tables, samples_of_split(tables, "mini_val"))
    write_tables(root, {"sample_annotation": []})
    tables = Tables(root, VERSION)
    with pytest.raises(ValueError, match=r"sample_annotation\.json is empty"):
        ground_truth(tables, samples_of_split(tables, "mini_val"))


@needs_devkit
@pytest.mark.parametrize("counts", [(-1, -1), (-1, 0), (-1, 1), (2, -1), (0, 0)])
def test_every_count_is_scored_as_by_the_devkit(
    root: Path, tmp_path: Path, counts: tuple[int, int]
) -> None:
    results = truth_as_prediction(root)
    set_counts(root, *counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expect_the_devkits_files(results, root, "mini_val", tmp_path)


def test_a_score_of_nothing_gives_the_reason(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "r.json"
    write_submission(results, truth_as_prediction(root))
    set_counts(root, 0, 0)
    assert score(root, results) == 0
    error = capsys.readouterr().err
    assert "note: scores are 0 because no true box counts: the 16 of 16 within range" in error
    rows = read_table(root, "sample_annotation")
    for row in rows:
        row["translation"][1] += 900.0
    write_tables(root, {"sample_annotation": rows})
    with pytest.warns(UserWarning, match="all 16 lie beyond the range of their class"):
        evaluate_results(results, root, VERSION, "mini_val")


def test_counts_beyond_32_bits_are_no_zero(root: Path) -> None:
    change(root, 0, num_lidar_pts=2**32, num_radar_pts=0)
    tables = Tables(root, VERSION)
    truth = ground_truth(tables, samples_of_split(tables, "mini_val"))
    assert truth.boxes.num_points[0] > 0


def test_an_unknown_attribute_is_refused_as_by_the_devkit(root: Path) -> None:
    results = truth_as_prediction(root)
    rows = read_table(root, "attribute")
    rows[2]["name"] = "pedestrian.stand"
    write_tables(root, {"attribute": rows})
    with pytest.raises(ValueError, match=r"got 'pedestrian\.stand'; did you mean 'pedestrian\.st"):
        evaluate_results(results, root, VERSION, "mini_val")


@pytest.mark.parametrize("field", ["translation", "size", "rotation"])
def test_a_true_box_that_is_not_finite_is_named(root: Path, field: str) -> None:
    results = truth_as_prediction(root)
    value = [float("nan")] * (4 if field == "rotation" else 3)
    row = change(root, 0, **{field: value})
    with pytest.raises(ValueError, match=f"^{field} of annotation '{row['token']}' .*be finite"):
        evaluate_results(results, root, VERSION, "mini_val")


@pytest.mark.parametrize("size", [[0.0, 4.0, 1.5], [1.9, -4.0, 1.5]])
def test_a_true_box_without_size_is_named_unless_strict(root: Path, size: list[float]) -> None:
    results = truth_as_prediction(root)
    row = change(root, 0, size=size)
    with pytest.raises(ValueError, match=rf"^size of annotation '{row['token']}' .* be positive"):
        evaluate_results(results, root, VERSION, "mini_val")
    tables = Tables(root, VERSION)
    samples = samples_of_split(tables, "mini_val")
    assert ground_truth(tables, samples, strict=True).boxes.size[0].tolist() == size


def test_levels_of_visibility_are_read_from_their_table(root: Path) -> None:
    def levels() -> list[int]:
        tables = Tables(root, VERSION)
        samples = samples_of_split(tables, ["scene-0103"])
        return read_conditions(tables, samples).visibility.tolist()

    rows = read_table(root, "sample_annotation")
    for number, row in enumerate(rows):
        row["visibility_token"] = ("", "a", "b")[number % 3]
    write_tables(root, {"sample_annotation": rows})
    names = {"a": "v80-100", "b": "v0-40", "c": "half"}
    table = [{"token": token, "level": level} for token, level in names.items()]
    write_tables(root, {"visibility": table})
    assert sorted(set(levels())) == [-1, 0, 3]
    table[1]["level"] = "v0-30"
    write_tables(root, {"visibility": table})
    with pytest.raises(ValueError, match=r"levels v0-40, .*got 'b', whose level is 'v0-30'"):
        levels()
    write_tables(root, {"visibility": table[:1]})
    with pytest.raises(ValueError, match="got 'b', which is not there"):
        levels()


@pytest.mark.parametrize("fast", [True, False])
def test_meta_may_be_null(root: Path, tmp_path: Path, fast: bool) -> None:
    results = truth_as_prediction(root)
    write_submission(tmp_path / "r.json", results)
    content = json.loads((tmp_path / "r.json").read_text())
    content["meta"] = None
    if not fast:  # infinity, which only the standard library reads
        content["results"][next(iter(results))][0]["extra"] = float("inf")
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert read_submission(tmp_path / "r.json").meta == {}
    wanted = evaluate_results(results, root, VERSION, "mini_val")
    assert evaluate_results(tmp_path / "r.json", root, VERSION, "mini_val", tmp_path) == wanted
    assert json.loads((tmp_path / "metrics_summary.json").read_text())["meta"] == {}


def test_a_category_as_detection_name_suggests_its_class(root: Path) -> None:
    results = truth_as_prediction(root)
    results[next(iter(results))][0]["detection_name"] = "vehicle.car"
    with pytest.raises(ValueError, match=r"got 'vehicle\.car'; did you mean 'car'\?"):
        evaluate_results(results, root, VERSION, "mini_val")
