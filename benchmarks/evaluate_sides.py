"""One side of the comparison, in a process of its own for its memory.

    python -m benchmarks.evaluate_sides SIDE ROOT

Prints seconds of processor and wall time of each stage, and the peak of memory, as JSON.
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
    """Times stages by name; of repeated ones the quickest."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        for times, taken in (
            (self.cpu_s, time.process_time() - cpu),
            (self.wall_s, time.perf_counter() - wall),
        ):
            times[name] = min(taken, times.get(name, taken))

    def figures(self) -> dict[str, object]:
        """All that was measured, with the peak of memory up to now."""
        status = Path("/proc/self/status").read_text()  # getrusage begins with the parent's peak
        peak_gb = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
        cpu_s, wall_s = (
            {name: round(seconds, 6) for name, seconds in times.items()}
            for times in (self.cpu_s, self.wall_s)
        )
        return {"cpu_s": cpu_s, "wall_s": wall_s, "peak_gb": round(peak_gb, 2)}


def devkit(root: Path) -> dict[str, object]:
    """nuscenes-devkit from its tables and the JSON file to its metrics files."""
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
        found, meta = load_prediction(str(root / "results.json"), 500, DetectionBox)
    with stages.stage("truth"):
        wanted = load_gt(tables, SPLIT, DetectionBox)
    with stages.stage("filter"):
        found = filter_eval_boxes(tables, add_center_dist(tables, found), config.class_range)
        wanted = filter_eval_boxes(tables, add_center_dist(tables, wanted), config.class_range)
    evaluation = DetectionEval.__new__(DetectionEval)
    evaluation.gt_boxes, evaluation.pred_boxes = wanted, found
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
    """Ours from the same files to the same files."""
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
    """Ours from the file of columns."""
    return bevstack(root, "results.safetensors")


def arrays(root: Path, times: int = 5) -> dict[str, object]:
    """Ours from arrays: filter, matching and curves, and all with the checks of the boxes."""
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
            found = Selection(boxes, scored_rows(boxes, truth, config).rows)
            wanted = Selection(truth.boxes, scored_rows(truth.boxes, truth, config).rows)
        with stages.stage("accumulate"):
            evaluate_filtered(found, wanted, config)
        with stages.stage("evaluate"):
            evaluate(boxes, truth)
    counts = {"predictions": len(boxes), "true boxes": len(truth.boxes)}
    counts |= {"scored predictions": len(found.rows), "scored true boxes": len(wanted.rows)}
    counts |= {"samples": len(truth.boxes.sample_tokens), "racks": len(truth.racks.sample)}
    return stages.figures() | {"counts": counts}


SIDES = {"devkit": devkit, "bevstack": bevstack, "columns": columns, "arrays": arrays}

if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](Path(sys.argv[2]))))
