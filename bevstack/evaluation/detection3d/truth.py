"""The truth of a split, read from the tables as nuscenes-devkit loads it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import (
    NO_ATTRIBUTE,
    BicycleRacks,
    BoxColumns,
    GroundTruth,
)
from bevstack.tables.names import BICYCLE_RACK_CATEGORY, CATEGORY_TO_CLASS
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

RACK, UNSCORED = -1, -2  # labels of annotations that are no boxes of a class


def samples_of_split(tables: Tables, split: str | Sequence[str]) -> NDArray[np.int64]:
    """Rows of a split's samples, in the order of the sample table, as the devkit has them.

    Raises:
        ValueError: a split or scene that is not in the version.
    """
    scenes = tables.scene_rows(scenes_of_split(tables, split))
    return np.flatnonzero(np.isin(tables.samples.scene, scenes))


def ground_truth(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows
) -> GroundTruth:
    """The true boxes of the detection classes of some samples, and what decides which count.

    Samples in the given order, boxes of one sample in that of their table.

    Raises:
        ValueError: a sample without a key frame of LIDAR_TOP, or not one box of the classes.
    """
    rows, sample = rows_of_samples(tables, samples)
    table = tables.annotations
    label = _labels(table.category[rows].tolist())
    if not (label >= 0).any():
        raise ValueError(
            f"the scored samples must have true boxes of the detection classes; got none in the "
            f"{len(samples)} samples of {tables.version}: choose another split"
        )
    code = {name: number for number, name in enumerate(ATTRIBUTES)}
    boxes, racks = rows[label >= 0], rows[label == RACK]
    attribute = [code.get(name, NO_ATTRIBUTE) for name in table.attribute[boxes].tolist()]
    own_sample = sample[label >= 0]
    keyframes = tables.reference_keyframes(samples)
    return GroundTruth(
        boxes=BoxColumns(
            sample_tokens=np.asarray(tables.samples.token)[samples],
            sample=own_sample,
            named_sample=own_sample,
            translation=table.translation[boxes],
            size=table.size[boxes],
            rotation=table.rotation[boxes],
            velocity=table.velocity[boxes],
            label=label[label >= 0].astype(np.int8),
            attribute=np.array(attribute, dtype=np.int8),
            score=np.full(len(boxes), -1.0),
            num_points=table.num_points[boxes].astype(np.int32),
        ),
        ego_translation=tables.keyframes.translation[keyframes],
        racks=BicycleRacks(
            sample=sample[label == RACK],
            translation=table.translation[racks],
            size=table.size[racks],
            rotation=table.rotation[racks],
        ),
    )


def rows_of_samples(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:  # (n,) rows, (n,) which of the samples
    """Rows of the samples' annotations, sample by sample, each in the order of the table."""
    number = np.full(len(tables.samples.token), -1, dtype=np.int32)
    number[samples] = np.arange(len(samples), dtype=np.int32)
    of_row = number[tables.annotations.sample]
    rows = np.flatnonzero(of_row >= 0)
    rows = rows[np.argsort(of_row[rows], kind="stable")]
    return rows, of_row[rows]


def _labels(categories: Sequence[str]) -> NDArray[np.int64]:
    label_of = {name: DETECTION_CLASSES.index(c) for name, c in CATEGORY_TO_CLASS.items()}
    label_of[BICYCLE_RACK_CATEGORY] = RACK
    return np.array([label_of.get(name, UNSCORED) for name in categories], dtype=np.int64)
