"""AMOTA and the further figures of the nuScenes tracking metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.evaluation.tracking.class_scores import LEVEL_FIGURES, ClassScores, score_class
from bevstack.evaluation.tracking.interpolation import with_filled_holes, with_mean_scores
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.track_truth import label_of
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES, TrackingMetricConfig

FIGURES = ("amota", "amotp", *LEVEL_FIGURES)  # in the order of the summary
SUMMED = ("mt", "ml", "tp", "fp", "fn", "ids", "frag")  # over classes; the remaining are averaged


@dataclass(frozen=True)
class TrackingMetrics:
    """Figures of the seven classes.

    nuScenes, arXiv 1903.11027, section 3.2; AMOTA and AMOTP: X. Weng et al., arXiv 1907.03961.
    """

    classes: tuple[ClassScores, ...]
    no_predictions: bool = False  # no predicted box counts

    def figures(self) -> dict[str, float]:
        """Return the figures over all classes with true boxes; NaN if there is none.

        Counts of errors and objects are sums, the remaining figures means.
        """
        by_class = self.by_class()
        return {name: _over_classes(name, list(by_class[name].values())) for name in FIGURES}

    def by_class(self) -> dict[str, dict[str, float]]:
        """Return each figure of each class, by figure and class."""
        summaries = {scores.name: scores.summary() for scores in self.classes}
        return {
            figure: {name: summary[figure] for name, summary in summaries.items()}
            for figure in FIGURES
        }


def evaluate_tracks(
    predictions: TrackColumns,
    truth: TrackColumns,
    frames: Frames,
    config: TrackingMetricConfig | None = None,
) -> TrackingMetrics:
    """Score tracks: average their scores, fill holes, match class by class, and average.

    Args:
        predictions: the predicted boxes that count, with their own scores.
        truth: the true boxes that count.
        frames: all samples of the scored scenes.
        config: settings of the metric; None: ``tracking_nips_2019``.

    Raises:
        ValueError: two boxes of a sample with the same identity match.
    """
    config = config or TrackingMetricConfig()
    filled = with_filled_holes(with_mean_scores(predictions), frames)
    true_boxes = with_filled_holes(truth, frames)
    return TrackingMetrics(
        tuple(
            score_class(
                name,
                filled[filled.label == label_of(name)],
                true_boxes[true_boxes.label == label_of(name)],
                len(frames),
                config,
            )
            for name in TRACKING_CLASSES
        ),
        no_predictions=not len(predictions),
    )


def _over_classes(figure: str, values: list[float]) -> float:
    if figure in SUMMED:
        return float(np.nansum(values))
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
