"""Clips: a sample with the key frames around it that a model takes as input."""

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
    """Load the frames at the given key-frame offsets from a sample, within its scene.

    Args:
        dataset: the samples.
        index: index of the current sample.
        offsets: offsets in key frames, ascending, with 0 among them, such as (-1, 0); positive
            offsets are future frames.
        load_images: False: load no image, so that every camera counts as lost.
        camera_annotations: also return the boxes that each camera sees.
        images_for: decode images no larger than this configuration needs; None: at full size.
        skip_missing: leave out a neighbour whose images are missing, instead of raising.

    Returns:
        A clip. A frame beyond the scene, or left out, is None. Only the current frame has
        annotations.

    Raises:
        FileNotFoundError: an image of the current frame is missing, or, without ``skip_missing``,
            an image of any frame.
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
