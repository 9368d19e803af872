"""The samples of a split as a configuration wants them."""

from __future__ import annotations

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.experiments.judge.rows import whole_scenes
from bevstack.tables.reader import Tables


def open_split(
    tables: Tables, split: str, config: Config, max_samples: int | None = None
) -> NuScenesDataset:
    """A split in the configuration's bev frame; its first whole scenes of so many samples."""
    view = {"bev_frame": config.grid.frame, "class_names": config.class_names}
    whole = NuScenesDataset(tables, split=split, **view)
    if max_samples is None:
        return whole
    scenes = whole_scenes(whole.scene_indices(), max_samples)
    return NuScenesDataset(tables, scenes=scenes, **view)
