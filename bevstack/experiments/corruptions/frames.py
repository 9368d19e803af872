"""A data set whose frames are corrupted as they are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.corruptions import Corruption, corrupt_frame, lost_cameras
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.experiments.judge.disturbances import ChangedFrames
from bevstack.geometry import invert_se3, transform_points
from bevstack.types import Frame


def corrupted_frames(
    dataset: NuScenesDataset,
    corruption: Corruption | None,
    *,
    level: str = "easy",
    black: bool = False,
) -> ChangedFrames:
    """Decode the images of all samples at full size and corrupt them.

    Args:
        dataset: source of the samples.
        corruption: the corruption; None changes nothing but the decoding, for the clean score.
        level: "easy", "moderate" or "hard".
        black: lost cameras give black pictures; see ``corrupt_frame``.
    """

    def change(_: int, frame: Frame) -> Frame:
        if corruption is None:
            return frame
        return corrupt_frame(frame, corruption, level, black=black)

    return ChangedFrames(dataset, change, full_size=True)


def share_of_cameras(dataset: NuScenesDataset, corruption: Corruption, level: str) -> float:
    """Return the share of all pictures of a data set that a corruption does not lose."""
    if not corruption.loses_cameras:
        return 1.0
    kept = total = 0
    for index in range(len(dataset)):
        cameras = dataset.frame(index, load_images=False).camera_labels()
        token = dataset.sample_token(index)
        total += len(cameras)
        kept += len(cameras) - len(lost_cameras(corruption, level, token, cameras))
    return kept / max(total, 1)


def in_cameras_left(
    dataset: NuScenesDataset,
    boxes: BoxColumns,  # M boxes in the world
    corruption: Corruption,
    level: str,
) -> NDArray[np.bool_]:  # (M,)
    """Return True for boxes whose centre is in the picture of a camera that is not lost.

    Boxes of a run without corruption, chosen so, are those of a detector that the loss of cameras
    costs nothing but their view.
    """
    kept = np.zeros(len(boxes), dtype=bool)
    rows = {token: row for row, token in enumerate(boxes.sample_tokens.tolist())}
    for index in range(len(dataset)):
        token = dataset.sample_token(index)
        if token not in rows:
            continue
        frame = dataset.frame(index)  # with pictures, for their sizes
        names = frame.camera_labels()
        lost = lost_cameras(corruption, level, token, names)
        left = torch.tensor([name not in lost for name in names])
        rig = replace(frame.rig(), camera_mask=left)
        chosen = boxes.sample == rows[token]
        points = torch.from_numpy(boxes.translation[chosen])
        world_from_bev = frame.world_from_bev()
        assert world_from_bev is not None  # samples of a data set have poses
        centers = transform_points(invert_se3(world_from_bev), points)
        kept[chosen] = rig.visible(*rig.project(centers)).any(0).numpy()
    return kept
