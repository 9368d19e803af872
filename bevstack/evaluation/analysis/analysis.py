"""Full analysis of a submission: all numbers that the report shows, in one object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.evaluation.analysis.bootstrap import (
    DRAWS,
    Interval,
    Resampler,
    difference_intervals,
    intervals,
)
from bevstack.evaluation.analysis.breakdown import GroupMetrics, break_down
from bevstack.evaluation.analysis.calibration import Reliability, reliabilities
from bevstack.evaluation.analysis.conditions import read_conditions
from bevstack.evaluation.analysis.reach import Reach, reaches
from bevstack.evaluation.analysis.substitution import Substitution, substitute
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.precision_recall import ClassMatches
from bevstack.evaluation.scoring import Scored
from bevstack.tables.reader import Tables


@dataclass(frozen=True, kw_only=True)
class SceneFigures:
    """Metrics of a single scene; a class without true boxes in it counts 0, as in the metric."""

    name: str
    nds: float
    mean_average_precision: float


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Scores of a submission with groups, intervals, calibration, and scores by scene."""

    scored: Scored
    config: MetricConfig
    matches: dict[str, ClassMatches | None]
    groups: tuple[GroupMetrics, ...]
    intervals: tuple[Interval, ...]
    reliabilities: tuple[Reliability, ...]
    scenes: tuple[SceneFigures, ...]  # worst first
    substitutions: tuple[Substitution, ...]
    reaches: tuple[Reach, ...]


def analyse(
    scored: Scored,
    tables: Tables,
    config: MetricConfig | None = None,
    *,
    draws: int = DRAWS,
) -> Analysis:
    """Compute the metrics by group and by scene, bootstrap intervals, and the calibration.

    Takes seconds at the size of nuScenes val.

    Args:
        scored: the scored submission.
        tables: the version's tables.
        config: settings of the metric; None: ``detection_cvpr_2019``.
        draws: bootstrap draws of the scenes for each interval.
    """
    config = config or MetricConfig()
    boxes, truth = scored.loaded.submission.boxes, scored.loaded.truth
    conditions = read_conditions(tables, scored.loaded.samples)
    resampler = Resampler(boxes, truth, scene=conditions.scene, config=config)
    single_scenes = np.eye(resampler.num_scenes, dtype=np.int64)
    scenes = [
        SceneFigures(name=name, nds=float(figures[0]), mean_average_precision=float(figures[1]))
        for name, figures in zip(
            conditions.scene_names, map(resampler.figures, single_scenes), strict=True
        )
    ]
    predictions = boxes.select_samples(truth.boxes.sample_tokens)
    return Analysis(
        scored=scored,
        config=config,
        matches=match_classes(*scored_boxes(predictions, truth, config), config),
        groups=break_down(boxes, truth, conditions, config),
        intervals=intervals(resampler, draws=draws),
        reliabilities=reliabilities(boxes, truth, config),
        scenes=tuple(sorted(scenes, key=lambda scene: scene.mean_average_precision)),
        substitutions=substitute(boxes, truth, config),
        reaches=reaches(boxes, truth, conditions, config),
    )


def compare(
    first: Scored,
    second: Scored,
    tables: Tables,
    config: MetricConfig | None = None,
    *,
    draws: int = DRAWS,
) -> tuple[Interval, ...]:
    """Return the differences "second minus first", with intervals over the scenes of both.

    Raises:
        ValueError: the two submissions were not scored on the same samples.
    """
    if not np.array_equal(first.loaded.samples, second.loaded.samples):
        raise ValueError(
            "both submissions must be scored on the same samples; got "
            f"{len(first.loaded.samples)} and {len(second.loaded.samples)}"
        )
    scene = read_conditions(tables, first.loaded.samples).scene
    resamplers = [
        Resampler(s.loaded.submission.boxes, s.loaded.truth, scene=scene, config=config)
        for s in (first, second)
    ]
    return difference_intervals(resamplers[0], resamplers[1], draws=draws)
