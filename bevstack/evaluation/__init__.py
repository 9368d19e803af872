"""From detections to scores: nuScenes submissions, the metric, and baselines."""

from bevstack.evaluation.baselines import best_bev_prior, bev_prior, random_boxes
from bevstack.evaluation.columns import BoxColumns, GroundTruth
from bevstack.evaluation.evaluator import evaluate
from bevstack.evaluation.metric_config import MetricConfig
from bevstack.evaluation.metrics import DetectionMetrics, format_table
from bevstack.evaluation.result_boxes import results_of_frame
from bevstack.evaluation.scoring import evaluate_results
from bevstack.evaluation.submission import read_submission, write_submission
from bevstack.evaluation.truth import ground_truth, samples_of_split

__all__ = [
    "BoxColumns",
    "DetectionMetrics",
    "GroundTruth",
    "MetricConfig",
    "best_bev_prior",
    "bev_prior",
    "evaluate",
    "evaluate_results",
    "format_table",
    "ground_truth",
    "random_boxes",
    "read_submission",
    "results_of_frame",
    "samples_of_split",
    "write_submission",
]
