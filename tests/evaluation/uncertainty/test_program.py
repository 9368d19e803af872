"""The program that fits a calibration, and the benchmark that measures it, on noisy boxes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import uncertainty as benchmark
from bevstack.calibration_file import calibration_path
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.uncertainty.calibration import read_box_calibration
from bevstack.vocabulary import DETECTION_CLASSES
from tests.small_world import SPEC, small_world
from tools import calibrate_boxes

SPLIT = "synth_val"


def write_noisy_truth(path: Path, tables: Tables, split: str) -> Path:
    """Write the true boxes with errors, and as many wrong ones of lower scores."""
    truth = ground_truth(tables, samples_of_split(tables, split)).boxes
    random = np.random.default_rng(0)
    results: dict[str, list[dict[str, object]]] = {t: [] for t in truth.sample_tokens.tolist()}
    for row in range(len(truth)):
        token = str(truth.sample_tokens[truth.sample[row]])
        for error, score in ((0.3, 0.7), (15.0, 0.2)):
            center = truth.translation[row] + random.normal(0, error, 3) * (1, 1, 0.2)
            results[token].append(
                {
                    "sample_token": token,
                    "translation": center.tolist(),
                    "size": (truth.size[row] * random.uniform(0.9, 1.1, 3)).tolist(),
                    "rotation": truth.rotation[row].tolist(),
                    "velocity": np.nan_to_num(
                        truth.velocity[row] + random.normal(0, 0.3, 2)
                    ).tolist(),
                    "detection_name": DETECTION_CLASSES[truth.label[row]],
                    "detection_score": score + random.uniform(-0.1, 0.1),
                    "attribute_name": "",
                }
            )
    results = {token: boxes[:500] for token, boxes in results.items()}
    meta = {f"use_{name}": name == "camera" for name in ("camera", "lidar", "radar", "map")}
    path.write_text(json.dumps({"meta": {**meta, "use_external": False}, "results": results}))
    return path


def test_the_program_writes_what_the_loader_reads_and_the_benchmark_measures(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = small_world(tmp_path_factory)
    tables = Tables(root, SPEC.version, cache=False)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"weights")  # with results, the weights are only hashed
    results = write_noisy_truth(tmp_path / "results.json", tables, SPLIT)
    options = ["--weights", str(weights), "--nuscenes", str(root), "--version", SPEC.version]
    command = ["calibrate_boxes.py", *options, "--split", SPLIT, "--results", str(results)]
    monkeypatch.setattr(sys, "argv", command)
    calibrate_boxes.main()
    assert str(calibration_path(weights)) in capsys.readouterr().out
    found = read_box_calibration(weights, DETECTION_CLASSES)
    assert found is not None and found.fitted_on["split"] == SPLIT
    arguments = argparse.Namespace(
        weights=weights,
        nuscenes=root,
        version=SPEC.version,
        split=SPLIT,
        results=results,
        folds=0,
        plots=tmp_path / "reliability.png",
    )
    measured = benchmark.run(arguments)
    assert (tmp_path / "reliability.png").stat().st_size > 1000
    # On the scenes of the fit itself, the fitted radii hold their shares, but for small groups.
    for kind in ("detections", "tracks"):
        shares = measured[kind]["coverage"]["position"]["fitted"]
        assert shares == pytest.approx((0.5, 0.9), abs=0.03)
        assert measured[kind]["existence"]["expected_calibration_error"] < 0.05
    assert (
        measured["weights_sha256"]
        == json.loads(calibration_path(weights).read_text())["weights_sha256"]
    )
    calibration_path(weights).unlink()
    with pytest.raises(ValueError, match="weights must have a calibration of boxes; got none in"):
        benchmark.run(arguments)


def test_each_fold_is_measured_with_a_model_of_the_remaining_scenes(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The sizes of one scene have errors of their own, which no model of the rest covers."""
    root = small_world(tmp_path_factory)
    tables = Tables(root, SPEC.version, cache=False)
    scenes = list(scenes_of_split(tables, SPLIT))
    results = write_noisy_truth(tmp_path / "results.json", tables, SPLIT)
    arguments = argparse.Namespace(
        nuscenes=root, version=SPEC.version, split=SPLIT, results=results, folds=len(scenes)
    )
    even = benchmark.run(arguments)
    assert even["folds"] == even["scenes"] == len(scenes)
    # Fits to half of this small world are uncertain, but the radii follow the same errors.
    assert even["coverage"]["detections"]["size"]["fitted"] == pytest.approx((0.5, 0.9), abs=0.15)
    content = json.loads(results.read_text())
    own = {str(tables.samples.token[row]) for row in samples_of_split(tables, scenes[:1])}
    for token, boxes in content["results"].items():
        for box in boxes if token in own else []:
            box["size"] = [1.5 * side for side in box["size"]]
    results.write_text(json.dumps(content))
    odd = benchmark.run(arguments)
    assert odd["coverage"]["detections"]["size"]["fitted"][1] < 0.75
    arguments.folds = len(scenes) + 1
    with pytest.raises(ValueError, match="--folds must be 0 or 2 to"):
        benchmark.run(arguments)
