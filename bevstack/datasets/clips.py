"""Clips: a sample with the key frames around it that a model asks for."""

from __future__ import annotations

from collections.abc import Sequence

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Clip, Frame


def load_clip(
    dataset: NuScenesDataset,
    index: int,
    offsets: Sequence[int] = (0,),
    load_images: bool = True,
    *,
    camera_annotations: bool = False,
    images_for: Config | None = None,
    skip_missing: bool = False,
) -> Clip:
    """The frames at the given key-frame offsets from a sample, within its scene.

    Args:
        dataset: where the samples come from.
        index: the current sample.
        offsets: ascending, 0 among them, such as (-1, 0); positive ones look ahead.
        load_images: without, every camera counts as lost.
        camera_annotations: also the boxes that each camera sees.
        images_for: decode images no larger than it needs; None: as they are stored.
        skip_missing: leave out a neighbour whose images are missing, instead of raising.

    Returns:
        A clip whose frames beyond the scene are None; only the current one has annotations.

    Raises:
        FileNotFoundError: an image is missing: of the current frame, or of any without
            ``skip_missing``.
    """

    def load(offset: int) -> Frame | None:
        if offset == 0:
            return dataset.frame(
                index, load_images, camera_annotations=camera_annotations, images_for=images_for
            )
        try:
            return dataset.neighbour(
                index, offset, load_images, annotated=False, images_for=images_for
            )
        except FileNotFoundError:
            if not skip_missing:
                raise
            return None

    return Clip(tuple(load(offset) for offset in offsets), tuple(offsets))
