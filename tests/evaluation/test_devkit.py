from __future__ import annotations

import builtins
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.devkit import evaluate_with_devkit, sample_tokens
from bevstack.evaluation.submission import results_of_frame, write_submission
from bevstack.tables.names import CATEGORY_TO_CLASS
from bevstack.tables.reader import Tables
from bevstack.types import Detections
from tests.tables.tiny_root import VERSION, token, write_tables

pytest.importorskip("nuscenes")


def _truth_as_prediction(root: Path) -> dict[str, list]:
    """Boxes that scoring counts, as a perfect detector would give them."""
    dataset = NuScenesDataset(root, VERSION)
    results = {}
    for index in range(len(dataset)):
        frame = dataset.frame(index, load_images=False)
        found = frame.annotations[frame.annotations.num_points > 0]
        ones = torch.ones(len(found))
        results[frame.sample_token] = results_of_frame(
            Detections(found.boxes, ones, found.labels), frame
        )
    return results


def test_truth_as_prediction_is_found_whole(root: Path) -> None:
    metrics = evaluate_with_devkit(_truth_as_prediction(root), root, VERSION, "mini_val")
    precision = {found.name: found.average_precision for found in metrics.classes}
    assert precision["car"] == precision["pedestrian"] == pytest.approx(1.0)
    assert precision["bus"] == 0.0  # no point ever fell on it, so it is not among the truth
    assert metrics.mean_average_precision == pytest.approx(0.2)
    car = next(found for found in metrics.classes if found.name == "car")
    assert car.errors.translation_m < 1e-4
    # upright boxes of a tilted vehicle: 0.05 rad of tilt turn a heading by up to its half square
    assert car.errors.orientation_rad < 2e-3
    assert car.errors.attribute == 0.0


@pytest.mark.parametrize("as_file", [True, False])
def test_the_summary_is_written_in_the_devkits_form(
    root: Path, tmp_path: Path, as_file: bool
) -> None:
    data_classes = pytest.importorskip("nuscenes.eval.detection.data_classes")
    results = _truth_as_prediction(root)
    write_submission(tmp_path / "r.json", results)
    given = tmp_path / "r.json" if as_file else results
    out = tmp_path / "scores"
    metrics = evaluate_with_devkit(given, root, VERSION, "mini_val", out)
    content = json.loads((out / "metrics_summary.json").read_text())
    assert content["nd_score"] == metrics.nds
    assert content["meta"] == (
        {"use_camera": True}
        | dict.fromkeys(("use_lidar", "use_radar", "use_map", "use_external"), False)
        if as_file
        else {}
    )
    data_classes.DetectionMetrics.deserialize(content)
    details = json.loads((out / "metrics_details.json").read_text())
    assert len(details) == 40
    data_classes.DetectionMetricDataList.deserialize(details)


@pytest.mark.parametrize("as_list", [True, False])
def test_scenes_that_are_no_official_split_are_scored_too(root: Path, as_list: bool) -> None:
    (root / VERSION / "splits.json").write_text('{"mine": ["scene-0916"]}')
    results = _truth_as_prediction(root)  # of the other scene too, which is left out
    split = ["scene-0916"] if as_list else "mine"
    metrics = evaluate_with_devkit(results, root, VERSION, split)
    assert metrics.mean_average_precision == pytest.approx(0.2)
    only = sample_tokens(Tables(root, VERSION), split)
    assert only == [token("sample", "scene-0916", k) for k in range(3)]
    again = evaluate_with_devkit({name: results[name] for name in only}, root, VERSION, split)
    assert again == metrics


def test_no_box_at_all_scores_nothing(root: Path) -> None:
    results = {name: [] for name in _truth_as_prediction(root)}
    metrics = evaluate_with_devkit(results, root, VERSION, "mini_val")
    assert (metrics.nds, metrics.mean_average_precision) == (0.0, 0.0)


def test_maps_and_logs_are_not_needed(root: Path) -> None:
    (root / "maps/mask.png").unlink()
    for name in ("map", "log", "visibility"):
        (root / VERSION / f"{name}.json").unlink()
    assert evaluate_with_devkit(_truth_as_prediction(root), root, VERSION, "mini_val").nds > 0.1


def test_nothing_is_printed(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_with_devkit(_truth_as_prediction(root), root, VERSION, "mini_val")
    assert capfd.readouterr() == ("", "")


@pytest.mark.oracle("data_devkit_scores")
def test_a_real_submission_scores_what_the_devkits_own_program_printed(real_root: Path) -> None:
    folder = real_root.parent / "detector_results/trelpy_lidar"
    wanted = json.loads((folder / "metrics_devkit_1.2.0.json").read_text())
    metrics = evaluate_with_devkit(folder / "results_nusc.json", real_root, VERSION, "mini_val")
    # the stored figures come from another machine, whose last bits may differ
    assert metrics.nds == pytest.approx(wanted["nd_score"], abs=1e-12)
    assert metrics.mean_average_precision == pytest.approx(wanted["mean_ap"], abs=1e-12)
    precision = {found.name: found.average_precision for found in metrics.classes}
    assert precision["car"] == pytest.approx(wanted["mean_dist_aps"]["car"], abs=1e-12)


@pytest.mark.oracle("data_truth_scores")
def test_real_truth_as_prediction_scores_the_known_figures(real_root: Path) -> None:
    tables = Tables(real_root, VERSION)
    found = tables.annotations
    results: dict[str, list] = {str(name): [] for name in tables.samples.token}
    for row, category in enumerate(found.category.tolist()):
        if category in CATEGORY_TO_CLASS:
            sample = str(tables.samples.token[found.sample[row]])
            box = {
                "sample_token": sample,
                "translation": found.translation[row].tolist(),
                "size": found.size[row].tolist(),
                "rotation": found.rotation[row].tolist(),
                "velocity": found.velocity[row].tolist(),
                "detection_name": CATEGORY_TO_CLASS[category],
                "detection_score": 1.0,
                "attribute_name": str(found.attribute[row]),
            }
            results[sample].append(box)
    metrics = evaluate_with_devkit(results, real_root, VERSION, "mini_val")
    # not 1: boxes without points are given too, and three classes have no true box
    assert round(metrics.mean_average_precision, 3) == 0.630
    assert round(metrics.nds, 3) == 0.672


def test_missing_and_foreign_samples_are_counted_and_named(root: Path) -> None:
    results = _truth_as_prediction(root)
    names = list(results)
    few = {name: results[name] for name in names[:5]}
    with pytest.raises(
        ValueError, match=f"7 samples of 'mini_val'; got none for 2, such as {names[5]}"
    ):
        evaluate_with_devkit(few, root, VERSION, "mini_val")
    with pytest.raises(ValueError, match="and no others; got 1 others, such as feed"):
        evaluate_with_devkit({**results, "feed": []}, root, VERSION, "mini_val")


def test_wrong_boxes_are_refused_before_scoring(root: Path) -> None:
    results = _truth_as_prediction(root)
    results[next(iter(results))][0]["detection_name"] = "cars"
    with pytest.raises(ValueError, match="got 'cars'; did you mean 'car'"):
        evaluate_with_devkit(results, root, VERSION, "mini_val")


def test_a_split_without_truth_is_refused(root: Path) -> None:
    results = _truth_as_prediction(root)
    write_tables(root, {"sample_annotation": []})
    with pytest.raises(ValueError, match="must have true boxes of the detection classes; got none"):
        evaluate_with_devkit(results, root, VERSION, "mini_val")


def test_a_missing_table_is_named(root: Path) -> None:
    results = _truth_as_prediction(root)
    (root / VERSION / "instance.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"table 'instance' must exist at .*instance\.json"):
        evaluate_with_devkit(results, root, VERSION, "mini_val")


def test_without_the_devkit_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = _truth_as_prediction(root)
    real_import = builtins.__import__

    def refuse(name: str, *args: object) -> object:
        if name.startswith(("nuscenes", "bevstack.evaluation.devkit_metric")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'bevstack\[nuscenes\]'"):
        evaluate_with_devkit(results, root, VERSION, "mini_val")


def test_reading_results_does_not_import_the_devkit() -> None:
    program = (
        "import sys, bevstack.evaluation.devkit, bevstack.evaluation.baselines; "
        "sys.exit('nuscenes' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
