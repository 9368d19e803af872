"""Benchmark of the tracker: AMOTA of several trackers on the same detections.

    bevstack make-world world --preset small
    bevstack predict --weights tiny_cpu_t4 --nuscenes world --version v1.0-synth \
        --split synth_test --out detections.json
    python -m benchmarks.run tracking --nuscenes world --split synth_test --results detections.json

Rows: greedy nearest centres (the baseline); the tracker as `bevstack predict --track --tracks`
writes it; the same with objects that have no box in a frame; and the tracker with the settings that
were chosen by NDS alone. Intervals are percentiles of a bootstrap over scenes; differences are
paired, so they share the draws.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.nearest_tracks import nearest_tracks
from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.analysis.bootstrap import (
    Interval,
    SceneFigures,
    difference_intervals,
    intervals,
)
from bevstack.evaluation.detection3d.truth import samples_of_split
from bevstack.evaluation.results.submission import read_submission
from bevstack.evaluation.tracking.offline import track_results
from bevstack.evaluation.tracking.track_file import parse_tracks
from bevstack.evaluation.tracking.track_truth import predicted_tracks, tracking_truth, true_tracks
from bevstack.evaluation.tracking.tracking_config import TrackingMetricConfig
from bevstack.evaluation.tracking.tracking_resampler import TrackingResampler
from bevstack.tables.reader import Tables

SUMMARY = "AMOTA of the tracker and of a baseline on the same detections"
GOAL = {"AMOTA": 0.30, "IDS": 50}  # on synth_test of the world `small`
OWN = "tracker"
# Settings chosen by NDS alone, where they differ: narrow gates, every box starts a track, and less
# noise of motion.
BY_NDS = TrackingConfig(
    reach_m=0.5,
    reach_per_m=0.1,
    start_gap_m=0.0,
    new_score=0.6,
    acceleration_mps2=0.3,
    bearing_sigma_per_m=0.02,
    first_speed_sigma_mps=3.0,
    max_unseen_s=3.0,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the data, the detections and the number of draws."""
    parser.add_argument("--nuscenes", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    parser.add_argument("--split", default="synth_test", help="split of the detections")
    parser.add_argument(
        "--results", type=Path, required=True, help="detections, untracked, of every sample"
    )
    parser.add_argument("--draws", type=int, default=1000, help="draws of the bootstrap")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Track the detections, score every tracker, and return and print the comparison."""
    resamplers = score_trackers(arguments)
    draws = arguments.draws
    rows = {name: _figures(intervals(r, draws=draws)) for name, r in resamplers.items()}
    differences = {
        f"{OWN} minus {name}": _figures(difference_intervals(r, resamplers[OWN], draws=draws))
        for name, r in resamplers.items()
        if name != OWN
    }
    for title, found in (*rows.items(), *differences.items()):
        texts = [f"{n} {found[n][0]:.4f} [{found[n][1]:.4f}, {found[n][2]:.4f}]" for n in _PRINTED]
        print(f"{title:28}{'  '.join(texts)}")
    return {
        "command": (
            f"python -m benchmarks.run tracking --nuscenes WORLD --version {arguments.version} "
            f"--split {arguments.split} --results DETECTIONS --draws {draws}"
        ),
        "split": arguments.split,
        "num_scenes": resamplers[OWN].num_scenes,
        "results_sha256": hashlib.sha256(arguments.results.read_bytes()).hexdigest(),
        "goal": GOAL,
        "columns": "value, and the bounds of 95 % of the draws",
        "trackers": rows,
        "differences": differences,
    }


_PRINTED = ("AMOTA", "AMOTP", "IDS", "FRAG", "MOTA")


class _Kept:
    """Figures that are computed once for equal weights: all intervals have the same draws."""

    def __init__(self, resampler: TrackingResampler) -> None:
        self._resampler = resampler
        self._known: dict[bytes, NDArray[np.float64]] = {}
        self.num_scenes = resampler.num_scenes

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the figures."""
        return self._resampler.names

    def figures(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the figures, or return those of an earlier call."""
        key = weights.tobytes()
        if key not in self._known:
            self._known[key] = self._resampler.figures(weights)
        return self._known[key]


def score_trackers(arguments: argparse.Namespace) -> Mapping[str, SceneFigures]:
    """Return the metric of every tracker as a function of the scenes' weights.

    Raises:
        FileNotFoundError: the data set or the results do not exist.
        ValueError: the split does not exist, or the results lack samples of it.
    """
    tables = Tables(arguments.nuscenes, arguments.version)
    samples = samples_of_split(tables, arguments.split)
    boxes = read_submission(arguments.results).boxes
    metric, truth = TrackingMetricConfig(), tracking_truth(tables, samples)
    wanted, config = true_tracks(truth, metric), TrackingConfig()
    trackers: dict[str, Callable[[], Mapping[str, list[dict[str, object]]]]] = {
        "nearest": lambda: nearest_tracks(boxes, tables, samples),
        f"{OWN}, coasted": lambda: track_results(boxes, tables, samples, config, coasted=True),
        OWN: lambda: track_results(boxes, tables, samples, config),
        f"{OWN}, settings by NDS": lambda: track_results(boxes, tables, samples, BY_NDS),
    }
    return {
        name: _Kept(
            TrackingResampler(
                predicted_tracks(parse_tracks(track()), truth, metric),
                wanted,
                frames=truth.frames,
                config=metric,
            )
        )
        for name, track in trackers.items()
    }


def _figures(found: tuple[Interval, ...]) -> dict[str, list[float | None]]:
    """Return value, lower and upper bound of each figure; None for an undefined one."""
    return {
        one.name: [None if np.isnan(v) else round(v, 6) for v in (one.value, one.low, one.high)]
        for one in found
    }
