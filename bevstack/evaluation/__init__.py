"""From detections to scores: nuScenes submissions, the official metric, and baselines."""

from bevstack.evaluation.baselines import best_bev_prior, bev_prior, random_boxes
from bevstack.evaluation.devkit import evaluate_with_devkit
from bevstack.evaluation.metrics import DetectionMetrics, format_table
from bevstack.evaluation.submission import read_submission, results_of_frame, write_submission

__all__ = [
    "DetectionMetrics",
    "best_bev_prior",
    "bev_prior",
    "evaluate_with_devkit",
    "format_table",
    "random_boxes",
    "read_submission",
    "results_of_frame",
    "write_submission",
]
