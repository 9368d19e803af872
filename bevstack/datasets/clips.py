"""Clips: a sample with the key frames around it that a model asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Clip, Frame


def load_clip(
    dataset: NuScenesDataset,
    index: int,
    offsets: Sequence[int] = (0,),
    load_images: bool = True,
) -> Clip:
    """The frames at the given key-frame offsets from a sample, within its scene.

    Args:
        dataset: where the samples come from.
        index: the current sample.
        offsets: ascending, 0 among them, such as (-1, 0); positive ones look ahead.
        load_images: without, every camera counts as lost.

    Returns:
        A clip whose frames beyond the scene are None; only the current one has annotations.
    """

    def load(offset: int) -> Frame | None:
        frame = dataset.neighbour(index, offset, load_images)
        if frame is None or offset == 0:
            return frame
        return replace(frame, annotations=None)

    return Clip(tuple(load(offset) for offset in offsets), tuple(offsets))
