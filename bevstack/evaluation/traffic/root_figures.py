"""The elements and cues of a file matched to the truth, and their figures in draws of scenes."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.evaluation.analysis.bootstrap import (
    DRAWS,
    Interval,
    SceneFigures,
    difference_intervals,
)
from bevstack.evaluation.traffic.cue_scores import RelevanceMoment
from bevstack.evaluation.traffic.cue_truth import (
    SceneCues,
    relevance_moments,
    reported_states,
    scenes_with_cues,
)
from bevstack.evaluation.traffic.element_columns import predicted_columns
from bevstack.evaluation.traffic.element_scores import MatchedElements
from bevstack.evaluation.traffic.resampling import (
    DelayFigures,
    ElementFigures,
    RelevanceFigures,
    StateFigures,
)
from bevstack.evaluation.traffic.root_truth import Ints, RootTruth, key_frames
from bevstack.evaluation.traffic.state_scores import StateSums, sum_states
from bevstack.evaluation.traffic.traffic_frames import TrafficFrames


@dataclass(frozen=True, kw_only=True)
class RootMatches:
    """The elements and cues of a file beside the truth of a split."""

    elements: MatchedElements
    image_scene: Ints  # (I,) scene of each image
    num_scenes: int
    scenes: tuple[SceneCues, ...]  # of all scenes; empty: the file has no cues
    sums: tuple[StateSums, ...]  # of each scene with cues
    moments: tuple[tuple[RelevanceMoment, ...], ...]  # of each scene with cues

    @property
    def has_cues(self) -> bool:
        """Return True if the file has cues."""
        return bool(self.scenes)

    def figures(self) -> tuple[SceneFigures, ...]:
        """Return the figures of elements and, with cues, those of states, delays and relevance."""
        elements = ElementFigures(self.elements, scene=self.image_scene, num_scenes=self.num_scenes)
        if not self.has_cues:
            return (elements,)
        return (
            elements,
            StateFigures(self.sums),
            DelayFigures(self.sums),
            RelevanceFigures(self.moments),
        )


def match_root(file: TrafficFrames, truth: RootTruth) -> RootMatches:
    """Match the elements and cues of a file to the truth.

    Raises:
        ValueError: a sample of the split has no frame.
    """
    keys = key_frames(file, truth)
    predicted = predicted_columns([frame.elements for frame in keys.frames], keys.images)
    has_cues = any(frame.cues or frame.ego_cues for frame in file.frames)
    scenes = tuple(scenes_with_cues(file.frames, truth)) if has_cues else ()
    return RootMatches(
        elements=MatchedElements(keys.truth, predicted),
        image_scene=keys.image_scene,
        num_scenes=len(truth.scene_tokens),
        scenes=scenes,
        sums=tuple(sum_states(reported_states(scene)) for scene in scenes),
        moments=tuple(tuple(relevance_moments(scene)) for scene in scenes),
    )


def compare_roots(
    first: RootMatches, second: RootMatches, *, draws: int = DRAWS
) -> tuple[Interval, ...]:
    """Return the differences "second minus first" over draws of scenes that both share.

    Cues are compared if both files have them.

    Raises:
        ValueError: the files were matched to different splits, or there are no draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1 for a comparison; got {draws}")
    pairs = zip(first.figures(), second.figures(), strict=False)  # elements come first
    return tuple(i for pair in pairs for i in difference_intervals(*pair, draws=draws))
