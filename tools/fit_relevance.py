"""Fit the weights of the evidence that a light governs the vehicle, on recorded detections.

    python tools/fit_relevance.py --cues val_cues.json --nuscenes ROOT --version V
        --split synth_val --json relevance_weights.json

`bevstack predict` writes the detections. A logistic regression at the key frames gives a factor of
0 or more for pieces that repeat what the head has seen, drawn towards 1, and an offset. Motion and
the nearest junction keep the factor 1: they reject tail lamps, advertisements and passed lights,
which are no lights in sight. The printed accuracies are held out: each scene is scored with the
weights of the remaining folds. The last lines are the weights of all scenes, for `EvidenceWeights`
of `bevstack/config/cues.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bevstack.config.cues import CueConfig, EvidenceWeights
from bevstack.evaluation.traffic.cue_scores import RelevanceMoment, score_relevance
from bevstack.evaluation.traffic.cue_truth import (
    SceneCues,
    governs,
    relevance_moments,
    scenes_with_cues,
)
from bevstack.evaluation.traffic.root_truth import RootTruth
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame
from bevstack.files import write_text_atomically
from bevstack.planning.cues import surroundings
from bevstack.planning.map_match import match_map
from bevstack.planning.relevance import weigh_evidence
from bevstack.planning.stream import CueMemory, update_cues
from bevstack.runtime.predict_cues import traffic_frame
from bevstack.runtime.recorded_drives import RecordedElements, read_recorded_drives
from bevstack.runtime.stream_protocol import StreamState
from bevstack.types import Frame, Reset
from bevstack.types.rig_view import RigView
from bevstack.vocabulary import MANOEUVRES

Floats = NDArray[np.float64]

PIECES = tuple(item.name for item in fields(EvidenceWeights) if item.name != "offset")
FIXED = ("motion", "nearest")
FOLDS = 5
TOWARDS_ONE = 1.0  # precision of the normal prior of each factor around 1
ALIKE = 10.0  # key frames of one junction that count as one: they repeat one another


@dataclass(frozen=True)
class Moment:
    """The E lights in sight at a key frame with their evidence; NaN for a light without a cue."""

    scene: str
    pieces: Floats  # (E, 2, P) for the intended manoeuvre, and for straight on
    truth: RelevanceMoment

    def log_odds(self, weights: Floats, *, commanded: bool) -> Floats:  # (E,)
        """Return the weighted sum; a light without a cue has the least."""
        total = self.pieces[:, 0 if commanded else 1] @ weights[:-1] + weights[-1]
        return np.where(np.isnan(total), -50.0, total)


def unweighted(config: CueConfig) -> CueConfig:
    """Return a configuration whose pieces of evidence have the factor 1."""
    ones = EvidenceWeights(**{**dict.fromkeys(PIECES, 1.0), "offset": 0.0})
    return replace(config, relevance=replace(config.relevance, with_head=ones))


def collect(
    scenes: Sequence[Sequence[Frame]], predictor: RecordedElements, truth: RootTruth
) -> list[Moment]:
    """Return the evidence at the key frames of recorded detections."""
    config, moments = unweighted(CueConfig()), []
    for frames in scenes:
        memory: CueMemory | None = None
        reports: list[TrafficFrame] = []
        evidence: dict[str, dict[str, Floats]] = {}
        for frame in frames:
            view = RigView.from_frame(frame)
            found = predictor.predict(frame)
            cues, memory = update_cues(
                memory, view, found, config=config, manoeuvre=frame.manoeuvre or None
            )
            state = StreamState(
                reset=Reset.NONE, cues=cues.elements, ego_cues=cues.ego, elements=found
            )
            reports.append(traffic_frame(frame, state, predictor))
            if frame.sample_token in truth.elements:
                evidence[frame.sample_token] = _evidence(memory, view, config)
        for scene in scenes_with_cues(reports, truth):
            moments += _moments(scene, evidence)
    return moments


def _evidence(memory: CueMemory, view: RigView, config: CueConfig) -> dict[str, Floats]:
    """Return the pieces (M, P) of every element by its id."""
    elements = memory.elements
    match = match_map(None, elements.scene.elements, view.world_from_ego, config.relevance)
    around = surroundings(elements, view, match, memory.curvature_per_m)
    pieces = weigh_evidence(around, config.relevance)
    table = np.stack([getattr(pieces, name) for name in PIECES], axis=-1)  # (E, M, P)
    return dict(zip(elements.scene.elements.identity.tolist(), table, strict=True))


def _moments(scene: SceneCues, evidence: dict[str, dict[str, Floats]]) -> list[Moment]:
    moments = []
    # The truth of relevance_moments has the same order: keyframes with a known lane and lights.
    truths = iter(relevance_moments(scene))
    for frame in scene.keyframes:
        lane, lights = scene.truth.ego_lanes.get(frame.sample_token), scene.lights_in_sight(frame)
        if lane is None or not lights:
            continue
        truth, cues = next(truths), scene.cues_of(frame)
        columns = [MANOEUVRES.index(lane.manoeuvre), MANOEUVRES.index("straight")]
        missing = np.full((len(MANOEUVRES), len(PIECES)), np.nan)
        rows = [
            evidence[frame.sample_token][cues[light].id] if light in cues else missing
            for light in lights
        ]
        assert [governs(e, lane) for e in lights.values()] == truth.governs.tolist()
        moments.append(Moment(frame.scene_token, np.stack(rows)[:, columns], truth))
    return moments


def fit(moments: Sequence[Moment]) -> Floats:  # (P + 1,) factors and offset
    """Return the factors and the offset of the most probable logistic regression."""
    rows = np.concatenate([moment.pieces[:, 0] for moment in moments])
    answers = np.concatenate([moment.truth.governs for moment in moments])
    known = ~np.isnan(rows).any(1)
    rows, signs = rows[known], np.where(answers[known], 1.0, -1.0)

    def loss(weights: Floats) -> float:
        odds = signs * (rows @ weights[:-1] + weights[-1])
        prior = TOWARDS_ONE / 2 * ((weights[:-1] - 1) ** 2).sum()
        return float(np.logaddexp(0, -odds).sum() / ALIKE + prior)

    start = np.append(np.ones(len(PIECES)), CueConfig().relevance.prior_log_odds)
    bounds = [(1.0, 1.0) if name in FIXED else (0.0, None) for name in PIECES]
    bounds.append((None, None))
    return np.asarray(minimize(loss, start, bounds=bounds).x)


def choice(moments: Sequence[Moment], weights: Sequence[Floats], *, commanded: bool) -> float:
    """Return the share of moments in which the most relevant light governs."""
    scored = [
        replace(moment.truth, relevance=moment.log_odds(own, commanded=commanded))
        for moment, own in zip(moments, weights, strict=True)
    ]
    return score_relevance(scored).choice_accuracy


def held_out(moments: Sequence[Moment], folds: int = FOLDS) -> list[Floats]:
    """Return for each moment the weights that were fitted without its fold of the scenes."""
    names = sorted({moment.scene for moment in moments})
    fold = {name: number % folds for number, name in enumerate(names)}
    fits = [fit([m for m in moments if fold[m.scene] != number]) for number in range(folds)]
    return [fits[fold[moment.scene]] for moment in moments]


def main() -> None:
    """Fit, print the accuracies and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cues", type=Path, required=True, help="file of `bevstack predict`")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file to write")
    args = parser.parse_args()
    drives = read_recorded_drives(args.cues, args.nuscenes, args.version, args.split)
    moments = collect(drives.scenes, drives.predictor, drives.truth)
    plain = np.append(np.ones(len(PIECES)), CueConfig().relevance.prior_log_odds)
    result: dict[str, object] = {"moments": sum(m.truth.lanes_differ for m in moments)}
    for name, weights in (
        ("all factors 1", [plain] * len(moments)),
        ("fitted, held out", held_out(moments)),
    ):
        shares = [choice(moments, weights, commanded=flag) for flag in (True, False)]
        result[name] = dict(zip(("commanded", "uncommanded"), shares, strict=True))
        print(f"{name:20} commanded {shares[0]:.3f}  uncommanded {shares[1]:.3f}")
    fitted = fit(moments)
    offset = float(fitted[-1]) - CueConfig().relevance.prior_log_odds
    values = dict(zip((*PIECES, "offset"), [*fitted[:-1].tolist(), offset], strict=True))
    result["weights"] = {name: round(value, 2) for name, value in values.items()}
    for name, value in values.items():
        print(f"    {name}: float = {value:.2f}")
    write_text_atomically(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
