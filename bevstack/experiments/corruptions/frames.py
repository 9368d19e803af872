"""A data set whose frames are corrupted as they are read."""

from __future__ import annotations

from bevstack.config import Config
from bevstack.datasets.corruptions import Corruption, corrupt_frame, lost_cameras
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.disturbances import ChangedFrames
from bevstack.types import Frame


class CorruptedFrames(ChangedFrames):
    """The same samples, with images decoded at full size and then corrupted.

    Args:
        dataset: source of the samples.
        corruption: the corruption; None changes nothing but the decoding, for the clean score.
        level: "easy", "moderate" or "hard".
        black: lost cameras give black pictures; see ``corrupt_frame``.
    """

    def __init__(
        self,
        dataset: NuScenesDataset,
        corruption: Corruption | None,
        *,
        level: str = "easy",
        black: bool = False,
    ) -> None:
        def change(_: int, frame: Frame) -> Frame:
            if corruption is None:
                return frame
            return corrupt_frame(frame, corruption, level, black=black)

        super().__init__(dataset, change)

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """Load one sample at full size, whatever ``images_for`` is, and corrupt it."""
        return super().frame(index, load_images, camera_annotations=camera_annotations)

    def neighbour(
        self,
        index: int,
        offset: int,
        load_images: bool = True,
        *,
        annotated: bool = True,
        images_for: Config | None = None,
    ) -> Frame | None:
        """Load a sample before or after this one like ``frame``."""
        return super().neighbour(index, offset, load_images, annotated=annotated)


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
