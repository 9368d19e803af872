"""Options of ``bevstack train`` for traffic lights and signs, and the task they describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config import Config
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.datasets.traffic_view.samples import FrontSamples
    from bevstack.tasks.joint import JointTask


def add_traffic(parser: argparse.ArgumentParser) -> None:
    """Declare the options of lights and signs."""
    group = parser.add_argument_group("traffic lights and signs (configurations *_traffic)")
    group.add_argument(
        "--traffic-nuscenes",
        type=Path,
        metavar="ROOT",
        help="folder of the data set with lights and signs (default: that of the boxes)",
    )
    group.add_argument(
        "--traffic-version", help="folder of its tables (default: that of the boxes)"
    )
    group.add_argument(
        "--traffic-split", metavar="SPLIT", help="split to train lights on (default: as the boxes)"
    )
    group.add_argument(
        "--traffic-held-out",
        metavar="SPLIT",
        help="split to evaluate lights on (default: as the boxes)",
    )


def make_joint_task(
    args: argparse.Namespace,
    config: Config,
    dataset: NuScenesDataset,
    held_out: NuScenesDataset | None,
) -> JointTask:
    """Build the joint task of boxes, lights and signs.

    If all samples of a step are for lights and signs, the boxes keep their weights, and their
    score is not measured.

    Raises:
        FileNotFoundError: a data set or its table of lights and signs does not exist.
        ValueError: the options do not fit the data set.
    """
    from bevstack.tasks.detection3d import Detection3D
    from bevstack.tasks.joint import JointPart, JointTask
    from bevstack.tasks.traffic import Traffic

    section = config.traffic
    assert section is not None  # the caller checks it
    samples, judged = _traffic_samples(args, config, dataset, held_out)
    boxes = config.training.batch_size - section.samples
    detection = Detection3D(
        config, dataset if boxes else None, held_out=held_out if boxes else None
    )
    traffic = Traffic(config, samples, held_out=judged)
    parts = [
        JointPart(task=detection, num_samples=boxes),
        JointPart(task=traffic, num_samples=section.samples, weight=section.task_weight),
    ]
    return JointTask(parts, config.training)


def _traffic_samples(
    args: argparse.Namespace,
    config: Config,
    dataset: NuScenesDataset,
    held_out: NuScenesDataset | None,
) -> tuple[FrontSamples, FrontSamples | None]:
    """Return the samples to train on and those to evaluate on."""
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.datasets.traffic_view.samples import FrontSamples

    root, version = args.traffic_nuscenes, args.traffic_version or args.version
    judged = held_out
    if root is not None or args.traffic_version is not None:
        root = root or args.nuscenes
        split = args.traffic_split or args.split
        if split is None:
            raise ValueError(
                "--traffic-split must name a split of --traffic-nuscenes with --scene; got none"
            )
        own = NuScenesDataset(root, version, split=split)
        name = args.traffic_held_out or args.held_out
        judged = None if name is None else NuScenesDataset(own.tables, split=name)
    else:
        own = dataset
        if args.traffic_split is not None:
            own = NuScenesDataset(dataset.tables, split=args.traffic_split)
        if args.traffic_held_out is not None:
            judged = NuScenesDataset(dataset.tables, split=args.traffic_held_out)
    return (
        FrontSamples.open(own, config),
        None if judged is None else FrontSamples.open(judged, config),
    )
