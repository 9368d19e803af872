r"""Measure what the detector's BEV map adds to the relevance of lights, on held-out scenes.

    python tools/study_relevance_map.py --weights tiny_cpu_t4_traffic --nuscenes lights \
        --version v1.0-synth --split synth_val --json relevance_map.json

Everything but the relevance head keeps its bits, so each sample runs once: the boxes stream through
a scene, and the head's inputs and the map's samples are kept. The scenes are divided into folds,
and each is judged by heads that learned on the remaining ones: the evidence of the map alone beside
the given head, the whole head with it, and the whole head without it. Cues are replayed at key
frames with the learned evidence alone and with all of it. Differences from the given weights have
intervals over scenes.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import bevstack
from bevstack.config.cues import CueConfig, EvidenceWeights, RelevanceConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.evaluation.traffic.cue_truth import relevance_moments, scenes_with_cues
from bevstack.evaluation.traffic.root_truth import RootTruth, read_root_truth
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame
from bevstack.files import write_text_atomically
from bevstack.losses.traffic_targets import region_targets
from bevstack.models.traffic.decode import decode
from bevstack.models.traffic.map_evidence import BEVMap, MapEvidence, sample_map
from bevstack.models.traffic.model import TrafficModel, TrafficOutput
from bevstack.models.traffic.relevance import RelevanceHead
from bevstack.runtime.detector import Detector
from bevstack.runtime.frame_cuer import CueSource, FrameCuer
from bevstack.runtime.predict_cues import traffic_frame
from bevstack.runtime.recorded_drives import RecordedElements, commanded, without_pixels
from bevstack.runtime.stream_protocol import StreamState
from bevstack.runtime.streaming import DetectorStream
from bevstack.runtime.traffic_predictor import TrafficPredictor
from bevstack.types import Batch, BEVMemory, Detections, Frame, Reset
from bevstack.types.traffic_batch import TrafficViews

Floats = NDArray[np.float64]

SAMPLES = 16  # of a training step
FOLDS = 5
ARMS = ("map alone", "whole head, map", "whole head, no map")
DRAWS = 1000


class WatchedDetector:
    """Detector for a ``DetectorStream`` that keeps the BEV map of the last step."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.config, self.device = detector.config, detector.device
        self.prepare, self.sector_watch = detector.prepare, detector.sector_watch
        self.bev: Tensor | None = None

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], Any]:
        """Run the model and keep its map."""
        detections, output = self.detector.run(batch, frames, memory)
        self.bev = output.bev.clone()
        return detections, output


class Case(NamedTuple):
    """One sample: all that the relevance head needs, and what it should answer."""

    frame: Frame  # without pixels
    output: TrafficOutput
    views: TrafficViews  # without pixels
    inputs: Tensor  # (R, D)
    sampled: Tensor  # (R, M, NUM_POINTS, C + 1) float16
    wanted: Tensor  # (R, M) int64, -1: unknown


@torch.no_grad()
def collect(
    predictor: TrafficPredictor, detector: Detector, dataset: NuScenesDataset
) -> list[Case]:
    """Return the cases of a split."""
    model, samples = predictor.model, FrontSamples.open(dataset, predictor.config)
    cases: list[Case] = []
    for scene, indices in dataset.scene_indices().items():
        watched = WatchedDetector(detector)
        stream = DetectorStream(watched)
        stream.ignore_health()
        own = [_case(index, stream, watched, model, samples, dataset) for index in indices]
        cases += [case for case in own if case is not None]
        print(f"{scene}: {len(own)} samples", flush=True)
    return cases


def _case(
    index: int,
    stream: DetectorStream,
    watched: WatchedDetector,
    model: TrafficModel,
    samples: FrontSamples,
    dataset: NuScenesDataset,
) -> Case | None:
    frame = watched.detector.place_in_bev(dataset.frame(index))
    stream.step(frame)
    batch = stack_samples([samples.prepare(index)])
    if not batch.num_images:
        return None
    assert watched.bev is not None and frame.bev_from_ego is not None
    views = batch.views
    output = model(views)
    found = region_targets(output.regions, batch.targets, batch.labelled)
    wanted = torch.full_like(output.relevance, -1, dtype=torch.int64)
    rows = (found.element >= 0).nonzero()[:, 0]
    wanted[rows] = batch.targets.relevance[found.element[rows]]
    inputs = model.relevance.inputs(views, output.regions, output.region, output.place)
    known = torch.ones(1, dtype=torch.bool)
    seen = BEVMap(watched.bev, frame.bev_from_ego[None].double(), known)
    position = output.place.position_m
    sampled = sample_map(seen, model.grid, views, position, views.sample[output.regions.image])
    return Case(
        without_pixels(frame),
        output._replace(dense=None),
        replace(views, images=views.images[..., :0, :0]),
        inputs,
        sampled.half(),
        wanted,
    )


def judge(head: RelevanceHead, cases: Sequence[Case]) -> Tensor:  # (sum of R, M)
    """Return the log-odds of all regions of some samples."""
    counts = [len(case.inputs) for case in cases]
    sample = torch.repeat_interleave(torch.arange(len(cases)), torch.tensor(counts))
    inputs = torch.cat([case.inputs for case in cases])
    if head.map_evidence is None:
        return head.judge(inputs, sample, len(cases))
    sampled = torch.cat([case.sampled for case in cases]).float()
    return head.judge(
        inputs, sample, len(cases), sampled, torch.ones(len(inputs), dtype=torch.bool)
    )


def loss_of(head: RelevanceHead, cases: Sequence[Case]) -> Tensor:
    """Return the mean cross entropy of the known pairs, as in the losses of the task."""
    logits, wanted = judge(head, cases), torch.cat([case.wanted for case in cases])
    known = wanted >= 0
    return functional.binary_cross_entropy_with_logits(logits[known], wanted[known].float())


def train(
    head: RelevanceHead, cases: Sequence[Case], steps: int, seed: int, *, whole: bool
) -> RelevanceHead:
    """Return a trained copy of a head; without ``whole``, its evidence of the map alone learns."""
    torch.manual_seed(seed)
    trained = copy.deepcopy(head)
    trained.requires_grad_(whole)
    if trained.map_evidence is not None:
        trained.map_evidence.requires_grad_(True)
    learned = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    useful = [case for case in cases if bool((case.wanted >= 0).any())]
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = [
            useful[row] for row in rng.choice(len(useful), min(SAMPLES, len(useful)), replace=False)
        ]
        optimizer.zero_grad()
        loss_of(trained, chosen).backward()
        optimizer.step()
        schedule.step()
    return trained.requires_grad_(False).eval()


def with_map(head: RelevanceHead, seed: int) -> RelevanceHead:
    """Return the head with evidence of the map that changes nothing yet."""
    torch.manual_seed(seed)
    wider = copy.deepcopy(head)
    inner, width = head.output[0], int(head.bev.in_features) - 1
    assert isinstance(inner, torch.nn.Linear)
    wider.map_evidence = MapEvidence(bev_channels=width, element_channels=inner.in_features)
    return wider


@torch.no_grad()
def detections(
    heads: Mapping[str, RelevanceHead], predictor: TrafficPredictor, cases: Sequence[Case]
) -> RecordedElements:
    """Return the detections with the relevance of the head of each case's scene."""
    frames = []
    for case in cases:
        judged = case.output._replace(relevance=judge(heads[case.frame.scene_token], [case]))
        found = decode(judged, case.views, predictor.section, predictor.model.calibration)[0]
        state = StreamState(reset=Reset.NONE, elements=found)
        frames.append(traffic_frame(case.frame, state, predictor))
    return RecordedElements(frames)


@torch.no_grad()
def mean_loss(heads: Mapping[str, RelevanceHead], cases: Sequence[Case]) -> float:
    """Return the mean over the samples with known pairs of the loss."""
    useful = [case for case in cases if bool((case.wanted >= 0).any())]
    return float(
        np.mean([float(loss_of(heads[case.frame.scene_token], [case])) for case in useful])
    )


def cross_fitted(
    arm: str, given: RelevanceHead, cases: Sequence[Case], steps: int
) -> dict[str, RelevanceHead]:
    """Return for each scene the head of an arm that learned without the scene's fold."""
    scenes = sorted({case.frame.scene_token for case in cases})
    fold = {scene: number % FOLDS for number, scene in enumerate(scenes)}
    heads = []
    for number in range(FOLDS):
        start = given if arm.endswith("no map") else with_map(given, number)
        learned = [case for case in cases if fold[case.frame.scene_token] != number]
        heads.append(train(start, learned, steps, number, whole=arm.startswith("whole")))
        print(f"{arm}, fold {number}", flush=True)
    return {scene: heads[fold[scene]] for scene in scenes}


def configs() -> dict[str, CueConfig]:
    """Return the parameters of the cues by the name of their evidence."""
    whole = CueConfig()
    off: dict[str, Any] = {n: False for n in RelevanceConfig.__annotations__ if n.startswith("use")}
    plain = EvidenceWeights()
    learned = RelevanceConfig(**{**off, "use_learned": True}, with_head=plain)
    heading = RelevanceConfig(**{**off, "use_heading": True}, with_head=plain)
    return {
        "learned alone": replace(whole, relevance=learned),
        "all evidence": whole,
        "heading alone": replace(whole, relevance=heading),
    }


def choices(
    predicted: RecordedElements, cases: Sequence[Case], truth: RootTruth, config: CueConfig
) -> dict[str, list[tuple[bool, float]]]:
    """Return for each scene whether the light chosen governs, and the share of right decisions."""
    frames: list[TrafficFrame] = []
    cuer, scene = None, ""
    ordered = sorted((case.frame for case in cases), key=lambda f: (f.scene_token, f.timestamp_us))
    for frame in commanded(ordered, truth.ego_lanes):
        if cuer is None or frame.scene_token != scene:
            cuer = FrameCuer(CueSource(predictor=predicted, config=config))
            scene = frame.scene_token
        cuer.step(frame)
        frames.append(traffic_frame(frame, cuer.state(StreamState(reset=Reset.NONE)), predicted))
    right: dict[str, list[tuple[bool, float]]] = {}
    for cues in scenes_with_cues(frames, truth):
        for moment in relevance_moments(cues):
            if moment.lanes_differ:
                name = cues.frames[0].scene_token
                decided = float(((moment.relevance >= 0.5) == moment.governs).mean())
                chosen = bool(moment.governs[int(moment.relevance.argmax())])
                right.setdefault(name, []).append((chosen, decided))
    return right


def compared(
    first: Mapping[str, list[tuple[bool, float]]], second: Mapping[str, list[tuple[bool, float]]]
) -> dict[str, Any]:
    """Return both means of choice and decision, and intervals of the second minus the first."""
    scenes, rng, result = sorted(first), np.random.default_rng(0), {}
    for column, name in enumerate(("choice", "decision")):
        a = [np.array([pair[column] for pair in first[scene]], float) for scene in scenes]
        b = [np.array([pair[column] for pair in second[scene]], float) for scene in scenes]
        draws = []
        for _ in range(DRAWS):
            rows = rng.integers(len(scenes), size=len(scenes))
            draws.append(
                float(
                    np.concatenate([b[row] for row in rows]).mean()
                    - np.concatenate([a[row] for row in rows]).mean()
                )
            )
        low, high = np.quantile(draws, (0.025, 0.975))
        result[name] = {
            "accuracy": round(float(np.concatenate(b).mean()), 4),
            "minus_given_weights": round(
                float(np.concatenate(b).mean() - np.concatenate(a).mean()), 4
            ),
            "interval": [round(float(low), 4), round(float(high), 4)],
        }
    return {"moments": sum(len(some) for some in first.values()), "scenes": len(scenes), **result}


def main() -> None:
    """Collect, train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", required=True, help="a file or name with boxes and lights")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--steps", type=int, default=400, help="of each training (default 400)")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file to write")
    args = parser.parse_args()
    detector = bevstack.load(args.weights)
    predictor = detector.further["traffic"]
    assert isinstance(predictor, TrafficPredictor)
    dataset = NuScenesDataset(args.nuscenes, args.version, split=args.split)
    cases = collect(predictor, detector, dataset)
    truth = read_root_truth(dataset.tables, args.split)
    given = predictor.model.relevance.requires_grad_(False)
    scenes = {case.frame.scene_token for case in cases}
    arms = {"given weights": dict.fromkeys(scenes, given)}
    arms |= {arm: cross_fitted(arm, given, cases, args.steps) for arm in ARMS}
    baseline: dict[str, Any] = {}
    result: dict[str, Any] = {"steps": args.steps, "samples": len(cases)}
    for label, heads in arms.items():
        predicted = detections(heads, predictor, cases)
        rows: dict[str, Any] = {"loss": round(mean_loss(heads, cases), 4)}
        for evidence, config in configs().items():
            if evidence == "heading alone" and label != "given weights":
                continue  # it needs no head
            right = choices(predicted, cases, truth, config)
            baseline.setdefault(evidence, right)
            rows[evidence] = compared(baseline[evidence], right)
        if label == "given weights":
            rows["heading alone"] = compared(baseline["learned alone"], baseline["heading alone"])
        result[label] = rows
        print(label, json.dumps(rows), flush=True)
    write_text_atomically(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
