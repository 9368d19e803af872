"""Everything that can be said of a submission, in one object: what the report shows."""

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
from bevstack.evaluation.analysis.conditions import read_circumstances
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.precision_recall import ClassMatches
from bevstack.evaluation.scoring import Scored
from bevstack.tables.reader import Tables


@dataclass(frozen=True, kw_only=True)
class SceneFigures:
    """One scene scored alone; classes without true boxes in it count 0, as the metric has it."""

    name: str
    nds: float
    mean_average_precision: float


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A submission's scores and what lies behind them."""

    scored: Scored
    config: MetricConfig
    matches: dict[str, ClassMatches | None]
    groups: tuple[GroupMetrics, ...]
    intervals: tuple[Interval, ...]
    reliabilities: tuple[Reliability, ...]
    scenes: tuple[SceneFigures, ...]  # worst first


def analyse(
    scored: Scored,
    tables: Tables,
    config: MetricConfig | None = None,
    *,
    draws: int = DRAWS,
) -> Analysis:
    """Breaks scores down, and says how sure they are; seconds at the size of nuScenes val."""
    config = config or MetricConfig()
    boxes, truth = scored.loaded.submission.boxes, scored.loaded.truth
    circumstances = read_circumstances(tables, scored.loaded.samples)
    resampler = Resampler(boxes, truth, scene=circumstances.scene, config=config)
    one_by_one = np.eye(resampler.num_scenes, dtype=np.int64)
    scenes = [
        SceneFigures(name=name, nds=float(found[0]), mean_average_precision=float(found[1]))
        for name, found in zip(
            circumstances.scene_names, map(resampler.figures, one_by_one), strict=True
        )
    ]
    of_samples = boxes.of_samples(truth.boxes.sample_tokens)
    return Analysis(
        scored=scored,
        config=config,
        matches=match_classes(*scored_boxes(of_samples, truth, config), config),
        groups=break_down(boxes, truth, circumstances, config),
        intervals=intervals(resampler, draws=draws),
        reliabilities=reliabilities(boxes, truth, config),
        scenes=tuple(sorted(scenes, key=lambda scene: scene.mean_average_precision)),
    )


def compare(
    first: Scored,
    second: Scored,
    tables: Tables,
    config: MetricConfig | None = None,
    *,
    draws: int = DRAWS,
) -> tuple[Interval, ...]:
    """What the second has more than the first, with intervals over the scenes of both.

    Raises:
        ValueError: they were not scored on the same samples.
    """
    if not np.array_equal(first.loaded.samples, second.loaded.samples):
        raise ValueError(
            "both submissions must be scored on the same samples; got "
            f"{len(first.loaded.samples)} and {len(second.loaded.samples)}"
        )
    scene = read_circumstances(tables, first.loaded.samples).scene
    both = [
        Resampler(s.loaded.submission.boxes, s.loaded.truth, scene=scene, config=config)
        for s in (first, second)
    ]
    return difference_intervals(both[0], both[1], draws=draws)
