"""Observation of sectors: drives with faults, streamed through a detector."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.columns import GroundTruth
from bevstack.evaluation.detection3d.evaluator import scored_rows
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.truth import ground_truth
from bevstack.evaluation.uncertainty.matched import BoxCollector, MatchedBoxes
from bevstack.evaluation.uncertainty.sectors import SectorObservations
from bevstack.experiments.sectors.faults import (
    NO_FAULT,
    Fault,
    FaultyDrive,
    Range,
    draw_faults,
)
from bevstack.runtime.detector import Detector
from bevstack.runtime.stream_protocol import admit
from bevstack.times import StaleCameraWarning
from bevstack.types import Detections, Frame
from bevstack.uncertainty.sector_watch import SectorWatch, memory_of
from bevstack.uncertainty.sectors import KINDS, SectorModel, sector_indices

Progress = Callable[[str], None]


def observe_runs(
    detector: Detector,
    dataset: NuScenesDataset,
    faults: Mapping[str, Range],
    seeds: Sequence[int],
    *,
    progress: Progress | None = None,
) -> SectorObservations:
    """Return the observations of a split without faults, and with faults drawn from each seed."""
    runs = [observe_split(detector, dataset, None, seed=0, progress=progress)]
    for seed in seeds:
        runs.append(observe_split(detector, dataset, faults, seed=seed, progress=progress))
    return SectorObservations.concatenate(runs)


def observe_split(
    detector: Detector,
    dataset: NuScenesDataset,
    faults: Mapping[str, Range] | None,
    *,
    seed: int,
    progress: Progress | None = None,
) -> SectorObservations:
    """Stream each scene once, with faults drawn for it, and return its objects in their sectors.

    The stream judges its cameras, as on a vehicle. A frame whose cameras are all unusable has no
    boxes and does not count.

    Args:
        detector: the weights whose recall is measured.
        dataset: the scenes.
        faults: kinds and strengths; None: no fault.
        seed: of faults and noise.
        progress: is called with the name of each scene.
    """
    tables, steps, samples = dataset.tables, list[_Step](), list[int]()
    for number, (scene, indices) in enumerate(dataset.scene_indices().items()):
        draw = np.random.default_rng((seed, number))
        steps += _steps(detector, dataset, indices, faults, draw)
        samples += [tables.sample_row(dataset.sample_token(index)) for index in indices]
        if progress is not None:
            progress(scene)
    truth = ground_truth(tables, np.array(samples, np.int64))
    collector = BoxCollector(truth)
    for row, step in enumerate(steps):
        if step.boxes is not None:
            collector.add(row, step.world_from_ego[:2, 3], step.boxes)
    return _observations(steps, truth, collector.matched())


def _observations(
    steps: Sequence[_Step], truth: GroundTruth, matched: MatchedBoxes
) -> SectorObservations:
    """Return the true objects that the metric counts, in the frames that have a result."""
    hits = matched.is_matched.numpy()
    score = np.full(len(truth.boxes), -1.0)
    score[matched.truth.numpy()[hits]] = matched.detections.scores.numpy()[hits]
    counted = scored_rows(truth.boxes, truth, MetricConfig()).rows
    sample = truth.boxes.sample[counted]
    poses = torch.stack([step.world_from_ego for step in steps]).numpy()
    centers = _in_ego(truth.boxes.translation[counted], poses[sample])
    bearing, ring = sector_indices(centers[:, :2])
    has_result = np.array([step.boxes is not None for step in steps])
    keep = (ring >= 0) & has_result[sample]
    labels = np.array([step.label for step in steps])
    return SectorObservations(
        kind=np.stack([step.kinds for step in steps])[sample, bearing, ring][keep],
        bearing=bearing[keep],
        ring=ring[keep],
        score=score[counted][keep],
        label=labels[sample][keep],
        sample=sample[keep].astype(np.int64),
        box_score=matched.detections.scores.numpy(),
        box_matched=hits,
    )


class _Step(NamedTuple):
    boxes: Detections | None  # in the world frame; None: no camera was usable
    kinds: NDArray[np.int8]  # (B, R, P)
    world_from_ego: Tensor  # (4, 4)
    label: str  # kind of the drive's faults


def _steps(
    detector: Detector,
    dataset: NuScenesDataset,
    indices: list[int],
    faults: Mapping[str, Range] | None,
    draw: np.random.Generator,
) -> Iterator[_Step]:
    """Stream a drive with its faults."""
    stream = detector.stream()
    watch = SectorWatch(_any_model(memory_of(detector.config)))
    drawn: tuple[Fault, ...] = ()
    if faults is not None:
        num_cameras = dataset.frame(indices[0], load_images=False).num_cameras
        drawn = draw_faults(faults, num_cameras, len(indices), draw)
    drive = FaultyDrive(drawn, draw)
    for index in indices:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StaleCameraWarning)  # a fault
            frame = drive.inject(dataset.frame(index, images_for=detector.config))
            admitted = admit(stream, frame)
            kinds = watch.kinds(admitted, stream.state.health)
        boxes = None
        assert admitted.camera_mask is not None  # Frame sets it
        if bool(admitted.camera_mask.any()):
            found = stream.step(frame)
            exact = replace(
                found, boxes=found.boxes.to(torch.float64), scores=found.scores.to(torch.float64)
            )
            boxes = exact.transformed(_world_from_bev(frame))
        assert frame.world_from_ego is not None  # the tables hold every pose
        label = drawn[0].kind if drawn else NO_FAULT
        yield _Step(boxes, kinds.astype(np.int8), frame.world_from_ego, label)


def _any_model(memory_s: float) -> SectorModel:
    """Return a model that gives the kinds of view alone their meaning."""
    zeros = np.zeros(len(KINDS))
    return SectorModel(offset=zeros, slope=zeros, min_score=0.0, memory_s=memory_s)


def _world_from_bev(frame: Frame) -> Tensor:  # (4, 4)
    pose = frame.world_from_bev()
    assert pose is not None  # the tables hold every pose
    return pose


def _in_ego(
    points: NDArray[np.float64],  # (M, 3) world
    world_from_ego: NDArray[np.float64],  # (M, 4, 4)
) -> NDArray[np.float64]:  # (M, 3)
    away = points - world_from_ego[:, :3, 3]
    inside: NDArray[np.float64] = np.einsum("mji,mj->mi", world_from_ego[:, :3, :3], away)
    return inside
