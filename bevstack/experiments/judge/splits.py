"""The samples of a split, for a configuration."""

from __future__ import annotations

from functools import partial

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.rows import whole_scenes
from bevstack.tables.reader import Tables


def open_split(
    tables: Tables, split: str, config: Config, max_samples: int | None = None
) -> NuScenesDataset:
    """Open a split in the configuration's bev frame and classes.

    Args:
        tables: the version's tables.
        split: name of the split.
        config: configuration of the detector.
        max_samples: keep the first whole scenes with at most this number of samples; None: all
            scenes.

    Raises:
        ValueError: the split does not exist.
    """
    open_dataset = partial(
        NuScenesDataset, tables, bev_frame=config.grid.frame, class_names=config.class_names
    )
    whole = open_dataset(split=split)
    if max_samples is None:
        return whole
    return open_dataset(scenes=whole_scenes(whole.scene_indices(), max_samples))
