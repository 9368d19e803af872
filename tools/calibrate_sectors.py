"""Fit the trust in sectors of a detector on held-out scenes, and store it beside the weights.

    python tools/calibrate_sectors.py --weights NAME.safetensors --nuscenes ROOT --version V
        --split synth_val

writes the section "sectors" of NAME.calibration.json, which `bevstack.load` reads. The weights stay
as they are. The scenes are streamed without faults, and --repeats times with faults of the cameras
that are drawn for each scene and injected into its frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bevstack.calibration_file import write_calibration
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.uncertainty.sectors import fit_sectors
from bevstack.experiments.sectors.faults import FIT_FAULTS
from bevstack.experiments.sectors.observe import observe_runs
from bevstack.runtime.loading import load
from bevstack.runtime.shipped import weights_path
from bevstack.uncertainty.sector_watch import memory_of
from bevstack.uncertainty.sectors import SECTION, SectorModel


def fit(weights: Path, dataset: NuScenesDataset, split: str, repeats: int) -> SectorModel:
    """Stream the split and fit the model."""
    seeds = range(1, repeats + 1)
    detector = load(weights, calibrated=False)
    found = observe_runs(detector, dataset, FIT_FAULTS, seeds, progress=print)
    fitted_on = {
        "split": split,
        "samples": len(dataset),
        "runs": 1 + repeats,
        "objects": len(found),
        "faults": {name: list(strengths) for name, strengths in FIT_FAULTS.items()},
    }
    return fit_sectors(found, fitted_on, memory_s=memory_of(detector.config))


def main() -> None:
    """Fit, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--repeats", type=int, default=4, help="runs with faults (default 4)")
    parser.add_argument("--out", type=Path, help="default: NAME.calibration.json")
    arguments = parser.parse_args()
    weights = weights_path(arguments.weights)
    dataset = NuScenesDataset(arguments.nuscenes, arguments.version, split=arguments.split)
    model = fit(weights, dataset, arguments.split, arguments.repeats)
    path = write_calibration(weights, SECTION, model.to_entry(), out=arguments.out)
    print(f"{model.fitted_on['objects']} objects in {model.fitted_on['runs']} runs: {path}")


if __name__ == "__main__":
    main()
