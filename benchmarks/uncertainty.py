"""Benchmark of boxes' uncertainty: coverage and existence on scenes that it was not fitted on.

    bevstack make-world world --preset small
    bevstack predict --weights tiny_cpu_t4 --nuscenes world --version v1.0-synth \
        --split synth_test --out detections.json
    python -m benchmarks.run uncertainty --weights tiny_cpu_t4 --nuscenes world \
        --split synth_test --results detections.json

With --folds, the stored calibration is left out: every fold of the split's scenes is measured with
a model that is fitted to the remaining ones. This tells errors of the model from a difference
between the scenes of the fit and those of a test.

Of the boxes that match a true box within 2 m, the share inside the ellipses of 50 and 90 %: with
the fitted radii, and with those of normal errors. Of all boxes, the expected calibration error of
the score and of the probability of existence. The baseline of the tracks is the tracker's own
covariance. --plots draws the reliability of existence.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.calibration_file import calibration_path
from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.analysis.calibration import reliability
from bevstack.evaluation.analysis.plots import reliability_plots
from bevstack.evaluation.uncertainty.coverage import Coverage, calibration_error, coverages
from bevstack.evaluation.uncertainty.fit import fit_model
from bevstack.evaluation.uncertainty.matched import MatchedBoxes, match_results
from bevstack.evaluation.uncertainty.scaled import groups_of, uncertainty_of
from bevstack.render.files import write_picture
from bevstack.runtime.shipped import weights_path
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.types.uncertainty import LEVELS, BoxUncertainty
from bevstack.uncertainty.calibration import BoxCalibration, read_box_calibration
from bevstack.vocabulary import DETECTION_CLASSES

SUMMARY = "coverage of the boxes' ellipses, and calibration of their existence"
GOAL = {"coverage_error": 0.03, "expected_calibration_error": 0.03}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the weights, the data and the detections."""
    parser.add_argument("--weights", type=Path, required=True, help="weights with a calibration")
    parser.add_argument("--nuscenes", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    parser.add_argument("--split", default="synth_test", help="split of the detections")
    parser.add_argument(
        "--results", type=Path, required=True, help="detections, untracked, of every sample"
    )
    parser.add_argument("--folds", type=int, default=0, help="parts of the split's scenes; 0: none")
    parser.add_argument("--plots", type=Path, help="also draw the reliability to this picture")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure detections and tracks, and return and print the figures.

    Raises:
        FileNotFoundError: the weights, the data set or the results do not exist.
        ValueError: the weights have no calibration, or the results lack samples of the split.
    """
    if arguments.folds:
        return run_folds(arguments)
    weights = weights_path(arguments.weights)
    calibration = read_box_calibration(weights, DETECTION_CLASSES)
    if calibration is None:
        raise ValueError(
            f"weights must have a calibration of boxes; got none in {calibration_path(weights)}: "
            "fit it with tools/calibrate_boxes.py"
        )
    tables = Tables(arguments.nuscenes, arguments.version)
    detected, tracked, samples = match_results(
        arguments.results, tables, arguments.split, calibration.tracking
    )
    kinds = {
        "detections": (detected, uncertainty_of(calibration.detections, detected)),
        "tracks": (tracked, uncertainty_of(calibration.tracks, tracked)),
    }
    own = tracker_alone(*kinds["tracks"])
    rows = {name: _figures(*kind, calibration) for name, kind in kinds.items()}
    baseline = {
        name: asdict(found)["normal"]
        for name, found in coverages(tracked, own).items()
        if name in ("position", "velocity")
    }
    for name, row in rows.items():
        print(name, {key: row[key] for key in ("boxes", "matched")}, row["existence"])
        for quantity, found in row["coverage"].items():
            print(
                f"  {quantity:10} fitted {_texts(found['fitted'])} normal {_texts(found['normal'])}"
            )
    if arguments.plots:
        write_picture(arguments.plots, _plots(*kinds["detections"], calibration))
    return {
        "command": (
            f"python -m benchmarks.run uncertainty --weights {arguments.weights} --nuscenes WORLD "
            f"--version {arguments.version} --split {arguments.split} --results DETECTIONS"
        ),
        "split": arguments.split,
        "samples": samples,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "results_sha256": hashlib.sha256(arguments.results.read_bytes()).hexdigest(),
        "fitted_on": dict(calibration.fitted_on),
        "goal": GOAL,
        "levels": LEVELS,
        "coverage_of_the_trackers_own_covariance": baseline,
        **rows,
    }


def run_folds(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the coverage of each fold with a model that is fitted to the rest.

    Raises:
        ValueError: the number of folds is 1, negative or above that of the scenes.
    """
    tables = Tables(arguments.nuscenes, arguments.version)
    scenes, folds = list(scenes_of_split(tables, arguments.split)), arguments.folds
    if not 2 <= folds <= len(scenes):
        raise ValueError(f"--folds must be 0 or 2 to {len(scenes)} scenes; got {folds}")
    shares: dict[str, dict[str, list[Coverage]]] = {"detections": {}, "tracks": {}}
    for number in range(folds):
        own = scenes[number::folds]
        rest = [scene for scene in scenes if scene not in own]
        fitted, measured = (
            match_results(arguments.results, tables, part, TrackingConfig())[:2]
            for part in (rest, own)
        )
        for kind, before, boxes in zip(shares, fitted, measured, strict=True):
            for name, found in coverages(boxes, uncertainty_of(fit_model(before), boxes)).items():
                shares[kind].setdefault(name, []).append(found)
    rows = {
        kind: {name: pooled(found) for name, found in by_name.items()}
        for kind, by_name in shares.items()
    }
    for kind, by_name in rows.items():
        for name, row in by_name.items():
            print(f"{kind:10} {name:10} {_texts(row['fitted'])}")
    return {
        "split": arguments.split,
        "scenes": len(scenes),
        "folds": folds,
        "results_sha256": hashlib.sha256(arguments.results.read_bytes()).hexdigest(),
        "levels": LEVELS,
        "coverage": rows,
    }


def pooled(parts: Sequence[Coverage]) -> dict[str, Any]:
    """Return the count and the shares of several parts together."""
    counts = np.array([part.count for part in parts])
    shares = counts @ np.array([part.fitted for part in parts]) / counts.sum()
    return {"count": int(counts.sum()), "fitted": tuple(shares.tolist())}


def tracker_alone(boxes: MatchedBoxes, uncertainty: BoxUncertainty) -> BoxUncertainty:
    """Return the uncertainty with the tracker's own covariance of position and velocity."""
    assert boxes.covariance is not None  # of tracks
    return replace(uncertainty, state=boxes.covariance)


def _figures(
    boxes: MatchedBoxes, uncertainty: BoxUncertainty, calibration: BoxCalibration
) -> dict[str, Any]:
    scores, correct = boxes.detections.scores.numpy(), boxes.is_matched.numpy()
    existence = uncertainty.existence.numpy()
    group, by_group = groups_of(boxes), {}
    for number, names in enumerate(calibration.groups):
        rows = group == number
        keep = rows.nonzero()[:, 0]
        own = boxes._replace(
            detections=boxes.detections[keep],
            ego_position=boxes.ego_position[keep],
            covariance=None if boxes.covariance is None else boxes.covariance[keep],
            seen=boxes.seen[keep],
            truth=boxes.truth[keep],
        )
        by_group[", ".join(names)] = {
            "matched": int(own.is_matched.sum()),
            "coverage": {k: asdict(v) for k, v in coverages(own, uncertainty[keep]).items()},
            "expected_calibration_error": calibration_error(
                existence[rows.numpy()], correct[rows.numpy()]
            ),
        }
    return {
        "boxes": len(scores),
        "matched": int(correct.sum()),
        "coverage": {name: asdict(found) for name, found in coverages(boxes, uncertainty).items()},
        "existence": {
            "expected_calibration_error": calibration_error(existence, correct),
            "score_error": calibration_error(scores, correct),
        },
        "groups": by_group,
    }


def _plots(boxes: MatchedBoxes, uncertainty: BoxUncertainty, calibration: BoxCalibration) -> Any:
    existence, correct = uncertainty.existence.numpy(), boxes.is_matched.numpy()
    group = groups_of(boxes).numpy()
    found = [reliability("all", existence, correct)]
    for number, names in enumerate(calibration.groups):
        rows = group == number
        found.append(reliability(names[0], existence[rows], correct[rows]))
    return reliability_plots(found)


def _texts(shares: tuple[float, ...]) -> str:
    return " ".join(f"{share:.3f}" for share in shares)
