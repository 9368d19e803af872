"""Fit the uncertainty of a detector's boxes on held-out scenes, and store it beside the weights.

    python tools/calibrate_boxes.py --weights NAME.safetensors --nuscenes ROOT --version V
        --split synth_val

writes the section "boxes" of NAME.calibration.json, which `bevstack.load` reads. The weights stay
as they are. With --results, the boxes of a results file are used, which the same weights must have
made with `bevstack predict`, without --track and --mirror.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bevstack.calibration_file import write_calibration
from bevstack.config.tracking import TrackingConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.uncertainty.fit import fit_calibration
from bevstack.evaluation.uncertainty.matched import match_results
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.shipped import weights_path
from bevstack.tables.reader import Tables
from bevstack.uncertainty.calibration import SECTION, BoxCalibration


def fit(weights: Path, results: Path | None, tables: Tables, split: str) -> BoxCalibration:
    """Predict the split unless there are results, and fit the calibration."""
    tracking = TrackingConfig()
    with tempfile.TemporaryDirectory() as folder:
        if results is None:
            results = Path(folder) / "results.json"
            dataset = NuScenesDataset(tables.root, tables.version, split=split)
            predict_dataset(load(weights, calibrated=False), dataset, results)
        detected, tracked, samples = match_results(results, tables, split, tracking)
    fitted_on = {"split": split, "samples": samples}
    return fit_calibration(detected, tracked, tracking, fitted_on)


def main() -> None:
    """Fit, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--results", type=Path, help="boxes of these weights; default: predict")
    parser.add_argument("--out", type=Path, help="default: NAME.calibration.json")
    arguments = parser.parse_args()
    weights = weights_path(arguments.weights)
    tables = Tables(arguments.nuscenes, arguments.version)
    calibration = fit(weights, arguments.results, tables, arguments.split)
    path = write_calibration(weights, SECTION, calibration.to_entry(), out=arguments.out)
    counts = calibration.fitted_on
    print(
        f"{counts['matched_detections']} detections and {counts['matched_tracks']} tracked boxes "
        f"of {counts['samples']} samples: {path}"
    )


if __name__ == "__main__":
    main()
