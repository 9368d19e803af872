"""One side of the scoring benchmark, run in a separate process to measure its memory.

    python -m benchmarks.evaluate_sides SIDE ROOT

The program prints CPU and wall seconds of each stage and the peak of memory, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION, SPLIT = "v1.0-trainval", "val"


class Stages:
    """Times of stages by name; the minimum if a stage is repeated."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of a with statement."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        for times, taken in (
            (self.cpu_s, time.process_time() - cpu),
            (self.wall_s, time.perf_counter() - wall),
        ):
            times[name] = min(taken, times.get(name, taken))

    def figures(self) -> dict[str, object]:
        """Return all times and the peak of memory so far."""
        status = Path("/proc/self/status").read_text()  # getrusage would start at the parent's peak
        peak_gb = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
        cpu_s, wall_s = (
            {name: round(seconds, 6) for name, seconds in times.items()}
            for times in (self.cpu_s, self.wall_s)
        )
        return {"cpu_s": cpu_s, "wall_s": wall_s, "peak_gb": round(peak_gb, 2)}


def devkit(root: Path) -> dict[str, object]:
    """Measure nuscenes-devkit, from its tables and the JSON file to its metrics files."""
    from nuscenes import NuScenes
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.loaders import (
        add_center_dist,
        filter_eval_boxes,
        load_gt,
        load_prediction,
    )
    from nuscenes.eval.detection.data_classes import DetectionBox
    from nuscenes.eval.detection.evaluate import DetectionEval

    stages, config = Stages(), config_factory("detection_cvpr_2019")
    with stages.stage("tables"):
        tables = NuScenes(VERSION, str(root), verbose=False)
    with stages.stage("results"):
        predictions, meta = load_prediction(str(root / "results.json"), 500, DetectionBox)
    with stages.stage("truth"):
        truth = load_gt(tables, SPLIT, DetectionBox)
    with stages.stage("filter"):
        predictions = filter_eval_boxes(
            tables, add_center_dist(tables, predictions), config.class_range
        )
        truth = filter_eval_boxes(tables, add_center_dist(tables, truth), config.class_range)
    evaluation = DetectionEval.__new__(DetectionEval)
    evaluation.gt_boxes, evaluation.pred_boxes = truth, predictions
    evaluation.cfg, evaluation.verbose = config, False
    with stages.stage("accumulate"):
        metrics, details = evaluation.evaluate()
    summary = metrics.serialize() | {"meta": meta}
    for name, content in (("metrics_summary", summary), ("metrics_details", details.serialize())):
        path = root / "devkit" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2))
    return stages.figures() | {"nds": metrics.nd_score}


def bevstack(root: Path, results: str = "results.json") -> dict[str, object]:
    """Measure bevstack, from the same input files to the same output files."""
    from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
    from bevstack.evaluation.results.submission import read_submission
    from bevstack.evaluation.scoring import load, score, write_metrics
    from bevstack.tables.reader import Tables

    stages = Stages()
    with stages.stage("tables and truth"):
        tables = Tables(root, VERSION)
        ground_truth(tables, samples_of_split(tables, SPLIT))
    with stages.stage("results"):
        read_submission(root / results)
    peaks = Stages()
    with peaks.stage("all"):
        loaded = load(root / results, Tables(root, VERSION), SPLIT)
        scored = score(loaded)
        write_metrics(root / "bevstack", scored)
    return stages.figures() | {"all_cpu_s": peaks.figures()["cpu_s"], "nds": scored.metrics.nds}


def columns(root: Path) -> dict[str, object]:
    """Measure bevstack from the file of columns."""
    return bevstack(root, "results.safetensors")


def arrays(root: Path, times: int = 5) -> dict[str, object]:
    """Measure bevstack from arrays: filter, then matching and curves, then all with checks."""
    from bevstack.evaluation.detection3d.evaluator import evaluate, evaluate_filtered, scored_rows
    from bevstack.evaluation.detection3d.metric_config import MetricConfig
    from bevstack.evaluation.detection3d.precision_recall import Selection
    from bevstack.evaluation.scoring import load
    from bevstack.tables.reader import Tables

    loaded = load(root / "results.safetensors", Tables(root, VERSION), SPLIT)
    boxes, truth, config = loaded.submission.boxes, loaded.truth, MetricConfig()
    evaluate(boxes[:1], truth)  # loads the compiled functions
    stages = Stages()
    for _ in range(times):
        with stages.stage("filter"):
            predicted = Selection(boxes, scored_rows(boxes, truth, config).rows)
            true = Selection(truth.boxes, scored_rows(truth.boxes, truth, config).rows)
        with stages.stage("accumulate"):
            evaluate_filtered(predicted, true, config)
        with stages.stage("evaluate"):
            evaluate(boxes, truth)
    counts = {"predictions": len(boxes), "true boxes": len(truth.boxes)}
    counts |= {"scored predictions": len(predicted.rows), "scored true boxes": len(true.rows)}
    counts |= {"samples": len(truth.boxes.sample_tokens), "racks": len(truth.racks.sample)}
    return stages.figures() | {"counts": counts}


SIDES = {"devkit": devkit, "bevstack": bevstack, "columns": columns, "arrays": arrays}

if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](Path(sys.argv[2]))))
