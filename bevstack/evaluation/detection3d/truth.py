"""Ground truth of a split, read from the tables as nuscenes-devkit loads it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import (
    NO_ATTRIBUTE,
    UNKNOWN_POINTS,
    BicycleRacks,
    BoxColumns,
    GroundTruth,
)
from bevstack.tables.annotation_checks import check_attributes, check_numbers, check_sizes
from bevstack.tables.names import BICYCLE_RACK_CATEGORY
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.tables.time_checks import check_time_unit
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

RACK, UNSCORED = -1, -2  # labels of annotations outside the detection classes
MAX_POINTS = np.iinfo(np.int32).max


def samples_of_split(tables: Tables, split: str | Sequence[str]) -> NDArray[np.int64]:
    """Return the rows of a split's samples, in the order of the sample table, as in the devkit.

    Raises:
        ValueError: the version does not have the split or a scene.
    """
    scenes = tables.scene_rows(scenes_of_split(tables, split))
    return np.flatnonzero(np.isin(tables.samples.scene, scenes))


def ground_truth(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows of the sample table
    *,
    strict: bool = False,
) -> GroundTruth:
    """Read the true boxes of some samples, and the ego positions and racks that filtering needs.

    Samples have the given order; the boxes of one sample have the order of their table.

    Args:
        tables: the version's tables.
        samples: the scored samples.
        strict: accept boxes without size, as the devkit does as long as nothing matches them.

    Raises:
        ValueError: a sample has no reference key frame; times are not in microseconds; no sample
            has a box of the detection classes; or a box is not finite, has no size or an unknown
            attribute (names the annotation).
    """
    check_time_unit(tables, samples)
    rows, sample = rows_of_samples(tables, samples)
    table = tables.annotations
    label = _labels(tables, table.category[rows].tolist())
    if not (label >= 0).any():
        raise ValueError(
            f"the scored samples must have true boxes of the detection classes; got none in the "
            f"{len(samples)} samples of {tables.version}: {_reason(tables, rows)}"
        )
    check_numbers(tables, rows[label != UNSCORED])
    if not strict:
        check_sizes(tables, rows[label >= 0])
    check_attributes(tables, rows[label >= 0])
    code_from_attribute = {name: number for number, name in enumerate(ATTRIBUTES)}
    boxes, racks = rows[label >= 0], rows[label == RACK]
    attribute = [
        code_from_attribute.get(name, NO_ATTRIBUTE) for name in table.attribute[boxes].tolist()
    ]
    box_sample = sample[label >= 0]
    num_points = np.clip(table.num_points[boxes], UNKNOWN_POINTS, MAX_POINTS)
    keyframes = tables.reference_keyframes(samples)
    return GroundTruth(
        boxes=BoxColumns(
            sample_tokens=np.asarray(tables.samples.token)[samples],
            sample=box_sample,
            named_sample=box_sample,
            translation=table.translation[boxes],
            size=table.size[boxes],
            rotation=table.rotation[boxes],
            velocity=table.velocity[boxes],
            label=label[label >= 0].astype(np.int8),
            attribute=np.array(attribute, dtype=np.int8),
            score=np.full(len(boxes), -1.0),
            num_points=num_points.astype(np.int32),
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
    samples: NDArray[np.int64],  # (S,) rows of the sample table
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:  # (n,) rows, (n,) indices into ``samples``
    """Return the rows of the samples' annotations, sample by sample, in the order of the table."""
    sample_index = np.full(len(tables.samples.token), -1, dtype=np.int32)
    sample_index[samples] = np.arange(len(samples), dtype=np.int32)
    index = sample_index[tables.annotations.sample]
    rows = np.flatnonzero(index >= 0)
    rows = rows[np.argsort(index[rows], kind="stable")]
    return rows, index[rows]


def _labels(tables: Tables, categories: Sequence[str]) -> NDArray[np.int64]:
    """Return the class index of each category; ``RACK`` or ``UNSCORED`` without a class."""
    label_from_category = {BICYCLE_RACK_CATEGORY: RACK}
    for name, class_name in tables.class_by_category.items():
        label_from_category[name] = DETECTION_CLASSES.index(class_name)
    return np.array(
        [label_from_category.get(name, UNSCORED) for name in categories], dtype=np.int64
    )


def _reason(tables: Tables, rows: NDArray[np.int64]) -> str:
    """Return why no annotation of some samples is a true box, and the remedy."""
    if not len(tables.annotations.token):
        return "sample_annotation.json is empty, so this version serves for prediction only"
    if not len(rows):
        return "they have no row in sample_annotation.json: choose another split"
    names = dict.fromkeys(map(str, tables.annotations.category[rows]))
    return (
        f"their {len(rows)} annotations are of {', '.join(names)}: choose another split, or map "
        "them to classes with --classes FILE"
    )
