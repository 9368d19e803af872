"""Benchmark of the trust in sectors: predicted against measured recall under other faults.

    bevstack make-world world --preset small
    python -m benchmarks.run sectors --weights tiny_cpu_t4 --nuscenes world --split synth_test

Every scene is streamed without faults, and --repeats times with faults drawn for it: cameras,
times, kinds and strengths. Most kinds and strengths are not those of the fit, which
tools/calibrate_sectors.py makes. An object is found if a box of its class lies within 2 m of it and
has at least the score of the calibration. The expected calibration error is the mean over the
objects of the difference of trust and recall, in ten bins of the trust. Sectors without objects
have no recall and do not count. Baselines: one trust for all sectors, and the trust by distance as
if every camera worked.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.calibration_file import calibration_path
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.analysis.calibration import reliability
from bevstack.evaluation.uncertainty.sectors import (
    BINS,
    SectorObservations,
    predicted_recall,
    score_sectors,
)
from bevstack.experiments.sectors.faults import TEST_FAULTS
from bevstack.experiments.sectors.observe import observe_runs
from bevstack.runtime.loading import load
from bevstack.runtime.shipped import weights_path
from bevstack.types.sectors import NUM_BEARINGS
from bevstack.uncertainty.sectors import KINDS, SEEN, SectorModel, read_sector_model

SUMMARY = "trust in sectors against measured recall, with faults of the cameras"
GOAL = 0.05  # expected calibration error
FIRST_SEED = 11  # the fit takes smaller ones


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the weights, the data and the number of runs."""
    parser.add_argument("--weights", type=Path, required=True, help="weights with a calibration")
    parser.add_argument("--nuscenes", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    parser.add_argument("--split", default="synth_test", help="split of the scenes")
    parser.add_argument("--repeats", type=int, default=4, help="runs with faults (default 4)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream the split, and return and print the figures.

    Raises:
        FileNotFoundError: the weights or the data set do not exist.
        ValueError: the weights have no calibration of sectors.
    """
    weights = weights_path(arguments.weights)
    model = read_sector_model(weights)
    if model is None:
        raise ValueError(
            f"weights must have a calibration of sectors; got none in {calibration_path(weights)}: "
            "fit it with tools/calibrate_sectors.py"
        )
    dataset = NuScenesDataset(arguments.nuscenes, arguments.version, split=arguments.split)
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.repeats)
    found = observe_runs(load(weights), dataset, TEST_FAULTS, seeds, progress=print)
    figures = measure(model, found)
    show(figures)
    return {
        "command": (
            f"python -m benchmarks.run sectors --weights {arguments.weights} --nuscenes WORLD "
            f"--version {arguments.version} --split {arguments.split} --repeats {arguments.repeats}"
        ),
        "split": arguments.split,
        "samples": len(dataset),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "fitted_on": dict(model.fitted_on),
        "faults": {name: list(strengths) for name, strengths in TEST_FAULTS.items()},
        "goal": GOAL,
        **figures,
    }


def measure(model: SectorModel, found: SectorObservations) -> dict[str, Any]:
    """Return the agreement of trust and recall: of all objects, and of parts of them."""
    trust, is_found = predicted_recall(model, found), found.score >= model.min_score
    seen = replace(found, kind=np.full_like(found.kind, SEEN))
    constant = np.full(len(found), float(is_found.mean()))
    is_clear = (found.kind == SEEN).mean(1)
    edges = model.range_edges_m
    bins = reliability("all", trust, is_found, BINS)

    def row(rows: NDArray[np.bool_], values: NDArray[np.float64] = trust) -> dict[str, float]:
        scores = score_sectors(values[rows], is_found[rows])._asdict()
        return {name: round(value, 4) for name, value in scores.items()}

    every = np.ones(len(found), np.bool_)
    return {
        "min_score": round(model.min_score, 4),
        "all": row(every),
        "as_if_every_camera_worked": row(every, predicted_recall(model, seen)),
        "one_trust_for_all": row(every, constant),
        "by_fault": {str(name): row(found.label == name) for name in np.unique(found.label)},
        "by_range_m": {
            f"{edges[ring]:g} to {edges[ring + 1]:g}": row(found.ring == ring)
            for ring in range(len(edges) - 1)
        },
        "by_bearing": {
            str(bearing): row(found.bearing == bearing) for bearing in range(NUM_BEARINGS)
        },
        "by_share_seen": {
            "none": row(is_clear == 0),
            "a part": row((is_clear > 0) & (is_clear < 1)),
            "all": row(is_clear == 1),
        },
        "share_of_views": {
            name: round(float((found.kind == kind).mean()), 4) for kind, name in enumerate(KINDS)
        },
        "bins": [
            {"objects": int(count), "trust": _rounded(mean), "recall": _rounded(share)}
            for count, mean, share in zip(bins.count, bins.confidence, bins.precision, strict=True)
        ],
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rows = {name: figures[name] for name in ("all", "as_if_every_camera_worked")}
    rows["one_trust_for_all"] = figures["one_trust_for_all"]
    for part in ("by_fault", "by_range_m", "by_bearing", "by_share_seen"):
        rows |= {f"{part} {name}": row for name, row in figures[part].items()}
    for name, row in rows.items():
        print(
            f"{name:28s} {row['objects']:6d} objects: trust {row['trust']:.3f}, recall "
            f"{row['recall']:.3f}, error {row['expected_calibration_error']:.3f}, Brier "
            f"{row['brier']:.3f}"
        )


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
