"""Checks of the true boxes that are used, which name the annotation at fault."""

from __future__ import annotations

import difflib

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import shorten
from bevstack.tables.reader import Tables
from bevstack.vocabulary import ATTRIBUTES

NOT_COUNTED = -1  # number of points inside a box whose points were not counted
# Of the length of a quaternion from 1. Two decimals a component change it by at most 0.01; an angle
# in place of a quaternion, or degrees, changes it more.
MAX_LENGTH_ERROR = 0.01
EDGES_M = (1e-9, 1e3)  # beyond lie sizes of 0, of another unit, or without a float32


def points_inside(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
) -> NDArray[np.int64]:  # (n,)
    """Return the number of lidar and radar points inside each box, or ``NOT_COUNTED``.

    Points were not counted if one of the two counts is negative. Training uses such boxes. The
    metric counts a box unless the sum of both counts is 0, as in nuscenes-devkit.
    """
    table = tables.annotations
    return np.where(table.counted[annotations], table.num_points[annotations], NOT_COUNTED)


def check_boxes(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
) -> None:
    """Check that boxes have a finite centre, positive sizes in metres and a unit quaternion.

    Raises:
        ValueError: one has not; names its annotation, sample, field and values.
    """
    check_numbers(tables, annotations)
    check_sizes(tables, annotations)
    rotation = tables.annotations.rotation[annotations]
    error = np.abs(np.sqrt((rotation**2).sum(-1)) - 1)
    requirement = "be a quaternion (w, x, y, z) of length 1"
    _refuse(tables, annotations, "rotation", error > MAX_LENGTH_ERROR, requirement)


def check_sizes(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
) -> None:
    """Check that boxes have positive sizes in metres.

    Raises:
        ValueError: one has not; names its annotation, sample and size.
    """
    size = tables.annotations.size[annotations]
    outside = ((size < EDGES_M[0]) | (size > EDGES_M[1])).any(-1)
    requirement = f"be positive and at most {EDGES_M[1]:g} m in width, length and height"
    _refuse(tables, annotations, "size", outside, requirement)


def check_numbers(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
) -> None:
    """Check that centre, size and rotation of boxes are finite, as nuscenes-devkit requires.

    Raises:
        ValueError: one is not; names its annotation, sample, field and values.
    """
    for field in ("translation", "size", "rotation"):
        values = getattr(tables.annotations, field)[annotations]
        _refuse(tables, annotations, field, ~np.isfinite(values).all(-1), "be finite")


def check_attributes(
    tables: Tables,
    annotations: NDArray[np.int64],  # (n,) rows of Tables.annotations
) -> None:
    """Check that attributes are nuScenes' or none, as nuscenes-devkit requires.

    Raises:
        ValueError: one is unknown; names its annotation and suggests the closest name.
    """
    column = tables.annotations.attribute
    unknown = [str(name) for name in column.names if name and name not in ATTRIBUTES]
    for name in unknown:
        rows = annotations[np.isin(column.codes[annotations], np.flatnonzero(column.names == name))]
        if len(rows):
            closest = difflib.get_close_matches(name[:100], ATTRIBUTES, n=1, cutoff=0.0)
            token = str(tables.annotations.token[rows[0]])
            raise ValueError(
                f"attribute of annotation {token!r} must be one of {', '.join(ATTRIBUTES)}; got "
                f"{shorten(name)}; did you mean {closest[0]!r}? Rename it in attribute.json, or "
                "empty the attribute_tokens of its annotations"
            )


def _refuse(
    tables: Tables,
    annotations: NDArray[np.int64],
    field: str,
    faulty: NDArray[np.bool_],
    requirement: str,
) -> None:
    """Raise an error that names the first faulty annotation, if there is one."""
    if not faulty.any():
        return
    row = annotations[int(faulty.argmax())]
    table = tables.annotations
    values = getattr(table, field)[row].tolist()
    raise ValueError(
        f"{field} of annotation {str(table.token[row])!r} (sample "
        f"{str(tables.samples.token[table.sample[row]])!r}) must {requirement}; got {values}: "
        "correct or remove it in sample_annotation.json"
    )
