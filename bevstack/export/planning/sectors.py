"""Trust in the sectors of a data set's samples, for results in which every camera was used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bevstack.datasets.camera_rows import camera_rows
from bevstack.datasets.image_sizes import image_sizes
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tables.reader import Tables
from bevstack.types.sectors import SectorTrust
from bevstack.uncertainty.sector_watch import SectorWatch
from bevstack.uncertainty.sectors import SectorModel


def sector_trusts(tables: Tables, scene: str, model: SectorModel) -> dict[str, SectorTrust]:
    """Return the trust in the sectors of a scene's samples, by sample token.

    ``bevstack predict`` uses all pictures of a data set as recorded. So the trust follows from the
    rig and its motion alone, and no picture is read; only cameras that are too old for their sample
    count as lost.

    Raises:
        ValueError: the scene does not exist.
    """
    dataset = NuScenesDataset(tables, scenes=[scene]).without_annotations()
    watch, found = SectorWatch(model), {}
    for index in range(len(dataset)):
        frame = dataset.frame(index, load_images=False)
        sample = tables.sample_row(dataset.sample_token(index))
        sizes = image_sizes(tables, camera_rows(tables, sample)).tolist()
        blank = np.zeros((1, 1, 3), np.uint8)  # the size of a picture counts alone
        images = [np.broadcast_to(blank, (height, width, 3)) for height, width in sizes]
        found[frame.sample_token] = watch.look(replace(frame, images=images, camera_mask=None), {})
    return found
