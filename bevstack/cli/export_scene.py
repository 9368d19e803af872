"""The scene that exported models are compared with ours on."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.config import Config
    from bevstack.datasets.nuscenes import NuScenesDataset

SEED = 24  # of the scene without --nuscenes, as in the demo
NUM_FRAMES = 3


@contextmanager
def scene_dataset(args: argparse.Namespace, config: Config | None) -> Iterator[NuScenesDataset]:
    """Open the data set of --nuscenes, or make a scene in a temporary folder.

    Args:
        args: the parsed options.
        config: of the detector whose frame and classes the data set gets; None: any.
    """
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.synthetic import WorldSpec, make_world
    from bevstack.tables.reader import Tables

    def open_dataset(tables: Tables) -> NuScenesDataset:
        if config is None:
            return NuScenesDataset(tables)
        return NuScenesDataset(tables, bev_frame=config.grid.frame, class_names=config.class_names)

    if args.nuscenes is not None:
        yield open_dataset(Tables(args.nuscenes, args.version, allow_outside=args.allow_outside))
        return
    spec = WorldSpec(
        seed=SEED, train_scenes=0, val_scenes=0, test_scenes=1, samples_per_scene=NUM_FRAMES
    )
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder) / "world", spec)
        yield open_dataset(Tables(Path(folder) / "world", spec.version))
