"""Replay the cues of recorded detections: with dropped frames, and without pieces of evidence.

    python tools/study_cues.py --cues results_cues.json --nuscenes ROOT --version V
        --split synth_test --json cues.json

`bevstack predict --traffic-rate sweeps` writes the detections. Each row of the table is another
`CueConfig` or another loss of frames on the same detections. A dropped frame is not processed: the
report before it is held. The navigation's command is the intended manoeuvre of `ego_lane.json`;
`--no-command` takes straight on for all frames. `--rows` takes some rows alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.config.cues import CueConfig, EvidenceWeights, RelevanceConfig
from bevstack.evaluation.traffic.root_score import TrafficScores, metrics_to_json, score_root
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, TrafficFrames
from bevstack.files import write_text_atomically
from bevstack.runtime.frame_cuer import CueSource, FrameCuer
from bevstack.runtime.predict_cues import traffic_frame
from bevstack.runtime.recorded_drives import RecordedElements, read_recorded_drives
from bevstack.runtime.stream_protocol import StreamState
from bevstack.types import Frame, Reset
from bevstack.types.traffic_detections import TrafficDetections

DROPPED = 0.3  # share of the frames
EVIDENCE = tuple(name for name in RelevanceConfig.__annotations__ if name.startswith("use_"))
_FIGURES = ("state_accuracy", "false_green_per_red_s", "red_delay_s", "green_delay_s", "relevance")


@dataclass
class Variant:
    """One row of the table: parameters, and the frames that it sees."""

    config: CueConfig
    dropped: float = 0.0

    def replay(
        self, scenes: Sequence[Sequence[Frame]], predictor: RecordedElements, seed: int
    ) -> list[TrafficFrame]:
        """Return the frames with the cues of this row."""
        rng = np.random.default_rng(seed)
        source = CueSource(predictor=predictor, config=self.config)
        found: list[TrafficFrame] = []
        for scene in scenes:
            cuer, last = FrameCuer(source), None
            for frame in scene:
                if last is not None and rng.random() < self.dropped:
                    last = replace(
                        last,
                        timestamp_us=frame.timestamp_us,
                        sample_token=frame.sample_token,
                        elements=TrafficDetections.empty(),
                    )
                else:
                    cuer.step(frame)
                    last = traffic_frame(
                        frame, cuer.state(StreamState(reset=Reset.NONE)), predictor
                    )
                found.append(last)
        return found


def variants() -> dict[str, Variant]:
    """Return the rows of the table by name."""
    whole = CueConfig()
    rows = {"all": Variant(whole), "30 % of the frames dropped": Variant(whole, DROPPED)}
    for name in EVIDENCE:
        without = replace(whole.relevance, **{name: False})
        rows[f"without {name.removeprefix('use_')}"] = Variant(replace(whole, relevance=without))
    ones = EvidenceWeights(**{**dict.fromkeys(asdict(EvidenceWeights()), 1.0), "offset": 0.0})
    equal = replace(whole, relevance=replace(whole.relevance, with_head=ones))
    rows["all with the factor 1"] = Variant(equal)
    off: Mapping[str, Any] = dict.fromkeys(EVIDENCE, False)
    for name in ("use_heading", "use_learned"):
        alone = RelevanceConfig(**{**off, name: True})
        rows[f"{name.removeprefix('use_')} alone"] = Variant(replace(whole, relevance=alone))
    return rows


def chosen_variants(names: Sequence[str] | None) -> dict[str, Variant]:
    """Return the rows of the given names; None: all.

    Raises:
        ValueError: there is no such row.
    """
    rows = variants()
    unknown = [name for name in names or () if name not in rows]
    if unknown:
        raise ValueError(f"--rows must be of {', '.join(rows)}; got {unknown[0]!r}")
    return rows if names is None else {name: rows[name] for name in names}


def figures_of(scores: TrafficScores) -> tuple[float, ...]:
    """Return the figures of the printed table, in the order of its columns."""
    assert scores.states is not None and scores.relevance is not None  # the file has cues
    return (
        scores.states.accuracy,
        scores.states.false_green_per_red_s,
        scores.states.red_delay_median_s,
        scores.states.green_delay_median_s,
        scores.relevance.choice_accuracy,
    )


def main() -> None:
    """Run every row, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cues", type=Path, required=True, help="file of `bevstack predict`")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument("--no-command", action="store_true", help="command no manoeuvre")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="rows of the table (default all)")
    parser.add_argument("--seed", type=int, default=0, help="of the dropped frames")
    args = parser.parse_args()
    drives = read_recorded_drives(
        args.cues, args.nuscenes, args.version, args.split, with_commands=not args.no_command
    )
    print(f"{'':28}", *(f"{name:>22}" for name in _FIGURES))
    content = {}
    for name, variant in chosen_variants(args.rows).items():
        frames = tuple(variant.replay(drives.scenes, drives.predictor, args.seed))
        scores = score_root(TrafficFrames(frames=frames, meta=drives.meta), drives.truth, draws=0)
        content[name] = metrics_to_json(scores)
        print(f"{name:28}", *(f"{value:22.4f}" for value in figures_of(scores)), flush=True)
    write_text_atomically(args.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
