"""Scores by nuscenes-devkit: ground truth scores one, a prior of positions almost zero."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.vocabulary import DETECTION_CLASSES
from tests.synthetic.conftest import SMALL

META = {f"use_{k}": k == "camera" for k in ("camera", "lidar", "radar", "map", "external")}


def score(world: Path, results: dict[str, list[dict]], folder: Path) -> dict:
    """Score a result file with the command line of nuscenes-devkit."""
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"meta": META, "results": results}))
    options = {
        "--output_dir": folder,
        "--dataroot": world,
        "--version": SMALL.version,
        "--eval_set": "synth_val",
        "--plot_examples": 0,
        "--render_curves": 0,
        "--verbose": 0,
    }
    command = [sys.executable, "-m", "nuscenes.eval.detection.evaluate", folder / "results.json"]
    command += [part for pair in options.items() for part in pair]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return json.loads((folder / "metrics_summary.json").read_text())


def score_here(devkit, results: dict[str, list[dict]], folder: Path) -> dict:
    """Score a result file with the same code in this process, which starts faster."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    (folder / "results.json").write_text(json.dumps({"meta": META, "results": results}))
    config = config_factory("detection_cvpr_2019")
    path, out = str(folder / "results.json"), str(folder / "out")
    return DetectionEval(devkit, config, path, "synth_val", out, False).evaluate()[0].serialize()


def boxes_of(devkit, split: str) -> dict[str, list[dict]]:
    """Return the annotations with lidar points of a split as predictions by sample token."""
    from nuscenes.eval.detection.utils import category_to_detection_name

    names = json.loads((Path(devkit.table_root) / "splits.json").read_text())[split]
    predictions = {}
    for sample in devkit.sample:
        if devkit.get("scene", sample["scene_token"])["name"] not in names:
            continue
        predictions[sample["token"]] = []
        for token in sample["anns"]:
            row = devkit.get("sample_annotation", token)
            name = category_to_detection_name(row["category_name"])
            if name is None or row["num_lidar_pts"] == 0:
                continue
            attributes = [devkit.get("attribute", t)["name"] for t in row["attribute_tokens"]]
            predictions[sample["token"]].append(
                {
                    "sample_token": sample["token"],
                    "translation": row["translation"],
                    "size": row["size"],
                    "rotation": row["rotation"],
                    "velocity": np.nan_to_num(devkit.box_velocity(token)[:2]).tolist(),
                    "detection_name": name,
                    "detection_score": 0.5,
                    "attribute_name": attributes[0] if attributes else "",
                }
            )
    return predictions


def ego_pose(devkit, sample_token: str) -> tuple[np.ndarray, float]:
    sample = devkit.get("sample", sample_token)
    pose = devkit.get("ego_pose", sample["data"]["LIDAR_TOP"])
    w, _, _, z = pose["rotation"]
    return np.array(pose["translation"][:2]), 2 * np.arctan2(z, w)


def turn(yaw: float) -> np.ndarray:
    return np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])


def prior_of(devkit, cell_m: float) -> list[dict]:
    """Return the 300 fullest cells of the training split in the ego frame: class, means, share."""
    cells = defaultdict(list)
    for token, boxes in boxes_of(devkit, "synth_train").items():
        origin, yaw = ego_pose(devkit, token)
        for box in boxes:
            x, y = turn(-yaw) @ (np.array(box["translation"][:2]) - origin)
            if np.hypot(x, y) > DETECTION_RANGE_M[box["detection_name"]]:
                continue
            w, _, _, z = box["rotation"]
            heading = 2 * np.arctan2(z, w) - yaw
            velocity = turn(-yaw) @ box["velocity"]
            key = (box["detection_name"], int(x // cell_m), int(y // cell_m))
            height, size = box["translation"][2], box["size"]
            cells[key].append((height, *size, *velocity, heading, box["attribute_name"]))
    fullest = sorted(cells.items(), key=lambda item: -len(item[1]))[:300]
    priors = []
    for (name, i, j), rows in fullest:
        mean = np.array([row[:6] for row in rows]).mean(axis=0)
        axis = np.angle(np.mean([np.exp(2j * row[6]) for row in rows])) / 2
        if np.mean([np.cos(row[6] - axis) for row in rows]) < 0:
            axis += np.pi
        priors.append(
            {
                "at": np.array([(i + 0.5) * cell_m, (j + 0.5) * cell_m]),
                "mean": mean,
                "yaw": axis,
                "name": name,
                "attribute": Counter(row[7] for row in rows).most_common(1)[0][0],
                "score": len(rows) / len(fullest[0][1]),
            }
        )
    return priors


def prior_boxes(devkit, priors: list[dict], token: str) -> list[dict]:
    origin, yaw = ego_pose(devkit, token)
    boxes = []
    for prior in priors:
        half = (prior["yaw"] + yaw) / 2
        x, y = turn(yaw) @ prior["at"] + origin
        boxes.append(
            {
                "sample_token": token,
                "translation": [x, y, prior["mean"][0]],
                "size": prior["mean"][1:4].tolist(),
                "rotation": [np.cos(half), 0.0, 0.0, np.sin(half)],
                "velocity": (turn(yaw) @ prior["mean"][4:6]).tolist(),
                "detection_name": prior["name"],
                "detection_score": prior["score"],
                "attribute_name": prior["attribute"],
            }
        )
    return boxes


def test_ground_truth_as_prediction_scores_one_on_all_ten_classes(world, devkit, tmp_path):
    metrics = score(world, boxes_of(devkit, "synth_val"), tmp_path / "truth")
    # The devkit averages 101 precisions of one, which rounds in the last digit.
    assert metrics["mean_ap"] == pytest.approx(1.0, abs=1e-12)
    ones = dict.fromkeys(DETECTION_CLASSES, 1.0)
    assert metrics["mean_dist_aps"] == pytest.approx(ones, abs=1e-12)
    # Velocities are those of the devkit itself and attributes those of the table.
    assert metrics["nd_score"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("cell_m", [1.0, 2.0, 4.0])
def test_prior_of_the_training_scenes_scores_almost_zero_on_held_out_ones(devkit, tmp_path, cell_m):
    priors = prior_of(devkit, cell_m)
    assert len(priors) == 300
    results = {t: prior_boxes(devkit, priors, t) for t in boxes_of(devkit, "synth_val")}
    metrics = score_here(devkit, results, tmp_path)
    assert 0.0 < metrics["nd_score"] < 0.05  # above 0: the prior has an effect
    assert metrics["mean_ap"] < 0.01


@pytest.mark.parametrize(("val_scenes", "samples"), [(2, 3), (1, 2)])
def test_even_the_smallest_held_out_split_shows_all_ten_classes(val_scenes, samples):
    """Check worlds of a demo's size: each class has lidar points within its scored range."""
    from dataclasses import replace

    from bevstack.synthetic.population.traffic import sample_tracks
    from bevstack.synthetic.recording.camera import freeze, take_sweep
    from bevstack.synthetic.scene import build_scene
    from bevstack.tables.names import CATEGORY_TO_CLASS

    for seed in range(3):
        spec = replace(SMALL, seed=seed, val_scenes=val_scenes, samples_per_scene=samples)
        shown = set()
        for name in spec.split_scenes["val"]:
            built = build_scene(spec, name)
            for index in range(samples):
                moment = freeze(built, index * 0.5)
                hits = take_sweep(built, moment, 542, np.random.default_rng(0)).hits
                offset = sample_tracks(built.poses, index * 0.5)[:, :2] - moment.ego_pose[:2]
                away = np.hypot(offset[:, 0], offset[:, 1])
                for item, points, distance in zip(built.objects, hits, away, strict=True):
                    label = CATEGORY_TO_CLASS.get(item.model.category)
                    if label and points and distance < DETECTION_RANGE_M[label]:
                        shown.add(label)
        assert shown == set(DETECTION_CLASSES), seed
