"""A data set whose frames are corrupted as they are read."""

from __future__ import annotations

from bevstack.datasets.corruptions import Corruption, corrupt_frame, lost_cameras
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.disturbances import ChangedFrames
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
