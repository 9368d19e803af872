from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.truth import samples_of_split
from bevstack.evaluation.results.columns_file import write_columns
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.evaluation.results.submission import read_submission, write_submission
from bevstack.evaluation.scoring import evaluate_results, load
from bevstack.tables.names import CATEGORY_TO_CLASS
from bevstack.tables.reader import Tables
from bevstack.types import Detections
from tests.tables.tiny_root import VERSION, token, write_tables

needs_devkit = pytest.mark.skipif(
    importlib.util.find_spec("nuscenes") is None, reason="nuscenes-devkit is not installed"
)
FILES = ("metrics_summary.json", "metrics_details.json")


def truth_as_prediction(root: Path) -> dict[str, list]:
    """Return the boxes that scoring counts, as a perfect detector would predict them."""
    dataset = NuScenesDataset(root, VERSION)
    results = {}
    for index in range(len(dataset)):
        frame = dataset.frame(index, load_images=False)
        annotations = frame.annotations[frame.annotations.num_points > 0]
        ones = torch.ones(len(annotations))
        results[frame.sample_token] = results_of_frame(
            Detections(annotations.boxes, ones, annotations.labels), frame
        )
    return results


def real_truth_as_prediction(root: Path) -> dict[str, list]:
    """Return every annotation of a detection class, directly from the tables."""
    tables = Tables(root, VERSION)
    annotations = tables.annotations
    results: dict[str, list] = {str(name): [] for name in tables.samples.token}
    for row, category in enumerate(annotations.category.tolist()):
        if category in CATEGORY_TO_CLASS:
            sample = str(tables.samples.token[annotations.sample[row]])
            box = {
                "sample_token": sample,
                "translation": annotations.translation[row].tolist(),
                "size": annotations.size[row].tolist(),
                "rotation": annotations.rotation[row].tolist(),
                "velocity": annotations.velocity[row].tolist(),
                "detection_name": CATEGORY_TO_CLASS[category],
                "detection_score": 1.0,
                "attribute_name": str(annotations.attribute[row]),
            }
            results[sample].append(box)
    return results


def expect_the_devkits_files(results: Path | dict, root: Path, split, out: Path) -> None:
    """Check that both files equal the devkit's character by character, except for the time."""
    from bevstack.evaluation.devkit.devkit import evaluate_with_devkit

    ours = evaluate_results(results, root, VERSION, split, out / "ours")
    theirs = evaluate_with_devkit(results, root, VERSION, split, out / "theirs")
    assert ours == theirs
    summaries = [json.loads((out / side / FILES[0]).read_text()) for side in ("ours", "theirs")]
    assert all(summary.pop("eval_time") >= 0 for summary in summaries)
    assert json.dumps(summaries[0]) == json.dumps(summaries[1])
    assert (out / "ours" / FILES[1]).read_bytes() == (out / "theirs" / FILES[1]).read_bytes()


def test_truth_as_prediction_is_matched_completely(root: Path) -> None:
    metrics = evaluate_results(truth_as_prediction(root), root, VERSION, "mini_val")
    precision = {
        class_metrics.name: class_metrics.average_precision for class_metrics in metrics.classes
    }
    assert precision["car"] == precision["pedestrian"] == pytest.approx(1.0)
    assert precision["bus"] == 0.0  # it has no lidar point, so the metric does not count it
    assert metrics.mean_average_precision == pytest.approx(0.2)
    car = next(class_metrics for class_metrics in metrics.classes if class_metrics.name == "car")
    assert car.errors.translation_m < 1e-4
    # upright boxes of a tilted vehicle: a tilt t = 0.05 rad changes a heading by up to t**2 / 2
    assert car.errors.orientation_rad < 2e-3
    assert car.errors.attribute == 0.0


@needs_devkit
@pytest.mark.parametrize("split", ["mini_val", "mine", ["scene-0916"]])
@pytest.mark.parametrize("as_file", [True, False])
def test_the_files_are_those_of_the_devkit(
    root: Path, tmp_path: Path, split: str | list[str], as_file: bool
) -> None:
    (root / VERSION / "splits.json").write_text('{"mine": ["scene-0916"]}')
    results = truth_as_prediction(root)
    boxes = results[next(iter(results))]
    boxes[0]["velocity"] = [float("nan")] * 2
    boxes.append({**boxes[0], "detection_score": 0.5})
    write_submission(tmp_path / "r.json", results)
    source = tmp_path / "r.json" if as_file else results
    expect_the_devkits_files(source, root, split, tmp_path)


@needs_devkit
def test_the_devkits_classes_load_the_files(root: Path, tmp_path: Path) -> None:
    from nuscenes.eval.detection import data_classes

    metrics = evaluate_results(truth_as_prediction(root), root, VERSION, "mini_val", tmp_path)
    summary, details = (json.loads((tmp_path / name).read_text()) for name in FILES)
    assert data_classes.DetectionMetrics.deserialize(summary).nd_score == metrics.nds
    assert len(data_classes.DetectionMetricDataList.deserialize(details).md) == 40


def test_the_order_of_the_file_decides_between_equal_scores(root: Path) -> None:
    results = truth_as_prediction(root)
    sample = next(iter(results))
    car = next(box for box in results[sample] if box["detection_name"] == "car")
    aside = {**car, "translation": [car["translation"][0] + 1.5, *car["translation"][1:]]}
    precisions = []
    for boxes in ([car, aside], [aside, car]):
        metrics = evaluate_results({**results, sample: boxes}, root, VERSION, "mini_val")
        precisions.append(next(c for c in metrics.classes if c.name == "car").precisions[0])
    assert precisions[0] < precisions[1] - 0.01  # of equal scores the later box comes first


@pytest.mark.parametrize("as_list", [True, False])
def test_scenes_that_are_no_official_split_are_scored_too(root: Path, as_list: bool) -> None:
    (root / VERSION / "splits.json").write_text('{"mine": ["scene-0916"]}')
    results = truth_as_prediction(root)  # the results also hold the second scene, which is ignored
    split = ["scene-0916"] if as_list else "mine"
    metrics = evaluate_results(results, root, VERSION, split)
    assert metrics.mean_average_precision == pytest.approx(0.2)
    tables = Tables(root, VERSION)
    only = np.asarray(tables.samples.token)[samples_of_split(tables, split)].tolist()
    assert only == [token("sample", "scene-0916", k) for k in range(3)]
    again = evaluate_results({name: results[name] for name in only}, root, VERSION, split)
    assert again == metrics


@needs_devkit
@pytest.mark.oracle("data_devkit_scores")
def test_a_real_submission_is_scored_as_the_devkit_does(real_root: Path, tmp_path: Path) -> None:
    folder = real_root.parent / "detector_results/trelpy_lidar"
    results = folder / "results_nusc.json"
    expect_the_devkits_files(results, real_root, "mini_val", tmp_path)
    wanted = json.loads((folder / "metrics_devkit_1.2.0.json").read_text())
    summary = json.loads((tmp_path / "ours" / FILES[0]).read_text())
    # the stored figures come from another machine, whose last bits may differ
    assert summary["nd_score"] == pytest.approx(wanted["nd_score"], abs=1e-12)
    assert summary["label_aps"]["car"] == pytest.approx(wanted["label_aps"]["car"], abs=1e-12)
    boxes = read_submission(results).boxes
    write_columns(tmp_path / "r.safetensors", boxes, {"use_lidar": True})
    columns = evaluate_results(tmp_path / "r.safetensors", real_root, VERSION, "mini_val")
    assert columns.nds == summary["nd_score"]


@needs_devkit
@pytest.mark.oracle("data_truth_scores")
def test_real_truth_as_prediction_scores_the_known_figures(real_root: Path, tmp_path: Path) -> None:
    results = real_truth_as_prediction(real_root)
    write_submission(tmp_path / "r.json", results)
    expect_the_devkits_files(tmp_path / "r.json", real_root, "mini_val", tmp_path)
    summary = json.loads((tmp_path / "ours" / FILES[0]).read_text())
    # not 1: boxes without points are predicted too, and three classes have no true box
    assert round(summary["mean_ap"], 3) == 0.630
    assert round(summary["nd_score"], 3) == 0.672


def test_no_box_at_all_scores_nothing(root: Path) -> None:
    results = {name: [] for name in truth_as_prediction(root)}
    metrics = evaluate_results(results, root, VERSION, "mini_val")
    assert (metrics.nds, metrics.mean_average_precision) == (0.0, 0.0)
    assert metrics.no_predictions


def test_maps_logs_and_visibility_are_not_needed(root: Path) -> None:
    (root / "maps/mask.png").unlink()
    for name in ("map", "log", "visibility"):
        (root / VERSION / f"{name}.json").unlink()
    assert evaluate_results(truth_as_prediction(root), root, VERSION, "mini_val").nds > 0.1


def test_missing_and_foreign_samples_are_counted_and_named(root: Path) -> None:
    results = truth_as_prediction(root)
    names = list(results)
    incomplete = {name: results[name] for name in names[:5]}
    with pytest.raises(
        ValueError, match=f"7 samples of 'mini_val'; got none for 2, such as {names[5]}"
    ):
        evaluate_results(incomplete, root, VERSION, "mini_val")
    with pytest.raises(
        ValueError, match="hold only the samples of 'mini_val'; got 1 more, such as feed"
    ):
        evaluate_results({**results, "feed": []}, root, VERSION, "mini_val")


def test_results_of_another_version_and_of_another_split_give_different_errors(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"7 samples of 'mini_val'; got 2 different samples, such as a, b"
    ):
        evaluate_results({"b": [], "a": []}, root, VERSION, "mini_val")
    results = truth_as_prediction(root)
    first = {name: results[name] for name in list(results)[:4]}
    with pytest.raises(
        ValueError, match=r"the scenes scene-0916; got 4 different samples, .* other scenes"
    ):
        evaluate_results(first, root, VERSION, ["scene-0916"])


def test_wrong_boxes_are_refused_before_scoring(root: Path, tmp_path: Path) -> None:
    results = truth_as_prediction(root)
    results[next(iter(results))][0]["detection_name"] = "cars"
    with pytest.raises(ValueError, match="got 'cars'; did you mean 'car'"):
        evaluate_results(results, root, VERSION, "mini_val", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_split_without_truth_is_refused(root: Path) -> None:
    results = truth_as_prediction(root)
    write_tables(root, {"sample_annotation": []})
    with pytest.raises(ValueError, match="must have true boxes of the detection classes; got none"):
        evaluate_results(results, root, VERSION, "mini_val")


def test_a_missing_table_is_named(root: Path) -> None:
    results = truth_as_prediction(root)
    (root / VERSION / "instance.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"table 'instance' must exist at .*instance\.json"):
        evaluate_results(results, root, VERSION, "mini_val")


def test_a_split_of_another_version_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="split 'val' must be asked of a version that ends in"):
        load({}, Tables(root, VERSION), "val")
