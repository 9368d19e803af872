"""The part of ``bevstack demo`` about lights and signs, for weights with the task "traffic"."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.runtime.detector import Detector
    from bevstack.runtime.scene_stream import StreamStep

CUES = "cues.json"
_DRAWS = 0  # of scenes for intervals: one scene has none


def print_traffic(
    steps: Sequence[StreamStep],
    detector: Detector,
    dataset: NuScenesDataset,
    out: Path,
    *,
    split: str,
) -> None:
    """Write the elements and cues of the streamed scene, score them and print their tables."""
    from bevstack.cli.evaluate_traffic import print_traffic as print_scores
    from bevstack.evaluation.traffic.root_score import score_root, write_traffic_metrics
    from bevstack.evaluation.traffic.root_truth import read_root_truth
    from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames, write_traffic_frames
    from bevstack.runtime.predict_cues import (
        CueOptions,
        describe_cues,
        require_cue_source,
        traffic_frame,
    )
    from bevstack.training.progress_bar import make_console

    console = make_console()
    predictor = require_cue_source(detector).predictor
    frames = [traffic_frame(step.frame, step.state, predictor) for step in steps]
    write_traffic_frames(out / CUES, frames, describe_cues(detector, CueOptions(out / CUES)))
    file = read_traffic_frames(out / CUES)
    scores = score_root(file, read_root_truth(dataset.tables, split), draws=_DRAWS)
    console.print(f"\ntraffic lights and signs on this scene, {len(frames)} samples:")
    print_scores(scores)
    console.print(
        f"lights, signs and cues: {out / CUES}, metrics: {write_traffic_metrics(out, scores)}"
    )
