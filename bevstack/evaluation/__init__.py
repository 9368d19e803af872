"""Scoring of detections: nuScenes submissions, the detection metric, and baselines.

Modules that need torch are imported under their own names: ``baselines`` and ``result_boxes``.
"""

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.metrics import DetectionMetrics, format_table
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.submission import read_submission, write_submission
from bevstack.evaluation.scoring import evaluate_results

__all__ = [
    "BoxColumns",
    "DetectionMetrics",
    "GroundTruth",
    "MetricConfig",
    "evaluate",
    "evaluate_results",
    "format_table",
    "ground_truth",
    "read_submission",
    "samples_of_split",
    "write_submission",
]
