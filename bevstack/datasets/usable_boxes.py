"""Check before a training that its samples have boxes to learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.config import Config
from bevstack.datasets.collate import inside_grid
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tables.annotation_checks import (
    NOT_COUNTED,
    check_attributes,
    check_boxes,
    points_inside,
)
from bevstack.tables.calibration import detection_labels

_SHOWN = 12  # names of categories in a message


def check_usable_boxes(dataset: NuScenesDataset, config: Config) -> None:
    """Check that a training has boxes to learn, and that each of them is sound.

    A box is learned if its category has a class of the configuration, a lidar or radar point lies
    inside or points were not counted, and its centre lies in the grid. A perspective head requires
    more points (``perspective.min_points``). Faulty boxes are left to the training's
    ``on_bad_sample`` if that is "skip".

    Args:
        dataset: the samples.
        config: classes, grid and recipe.

    Raises:
        FileNotFoundError: a table of the annotations does not exist.
        ValueError: no box can be learned (gives the reason), or a box has no volume, is not finite
            or has an unknown attribute (names its annotation).
    """
    if not len(dataset):
        raise ValueError("dataset must hold at least one sample to train on; got none")
    tables = dataset.tables
    samples = np.array(
        [tables.sample_row(dataset.sample_token(index)) for index in range(len(dataset))],
        dtype=np.int64,
    )
    rows = np.flatnonzero(np.isin(tables.annotations.sample, samples))
    where = f"the {len(dataset)} training samples of {tables.folder}"
    if not len(rows):
        raise ValueError(
            f"{where} must have true boxes; got none in sample_annotation.json: choose a split "
            "with annotations"
        )
    labels = detection_labels(tables, rows, config.class_names)
    known = rows[labels >= 0]
    if not len(known):
        raise ValueError(
            f"{where} must have boxes of the classes {', '.join(config.class_names)}; got the "
            f"categories {_categories(dataset, rows)}: map them to classes with --classes FILE (in "
            "Python: classes=), or choose another split"
        )
    _check_points(dataset, known, config, where)
    check_attributes(tables, known)
    if config.training.on_bad_sample != "skip":
        check_boxes(tables, known)
    if not _any_in_grid(dataset, config):
        raise ValueError(
            f"{where} must have boxes inside the grid ({config.grid.x_range_m} by "
            f"{config.grid.y_range_m} m around the vehicle); got {len(known)} boxes, all outside "
            "it: check the ego poses and the unit of the centres"
        )


def _check_points(
    dataset: NuScenesDataset, rows: NDArray[np.int64], config: Config, where: str
) -> None:
    """Check that a box has enough points to be learned."""
    points = points_inside(dataset.tables, rows)
    least = 1 if config.perspective is None else max(1, config.perspective.min_points)
    if not ((points >= least) | (points == NOT_COUNTED)).any():
        raise ValueError(
            f"{where} must have a box with at least {least} lidar or radar points inside; got "
            f"{len(rows)} boxes with at most {points.max()}: correct num_lidar_pts and "
            "num_radar_pts in sample_annotation.json, or give -1 where points were not counted"
        )


def _any_in_grid(dataset: NuScenesDataset, config: Config) -> bool:
    """Return True as soon as a sample has a box that is learned.

    Raises:
        ValueError: no sample can be read; the error of the last one.
    """
    fault: ValueError | None = None
    num_read = 0
    for index in range(len(dataset)):
        try:
            annotations = dataset.frame(index, load_images=False).annotations
        except ValueError as error:  # a training with on_bad_sample="skip" leaves it out
            fault = error
            continue
        num_read += 1
        if annotations is not None:
            inside = inside_grid(annotations, config.grid)
            if (inside.num_points != 0).any():
                return True
    if fault is not None and not num_read:
        raise fault
    return False


def _categories(dataset: NuScenesDataset, rows: NDArray[np.int64]) -> str:
    names = list(dict.fromkeys(map(str, dataset.tables.annotations.category[rows])))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
