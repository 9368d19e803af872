"""Checks for rows that occur twice: tokens, names, key frames, annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import shorten
from bevstack.tables.text import HexText, TextColumn


def first_duplicate(column: TextColumn) -> tuple[int, int] | None:
    """Return two rows that hold the same string, or None if all strings differ."""
    if isinstance(column, HexText):
        halves = column.halves()
        keys = np.sort(halves[:, 0])
        if not (keys[1:] == keys[:-1]).any():
            return None
        return first_equal_rows(halves)
    first: dict[str, int] = {}
    for row, text in enumerate(column):
        if first.setdefault(text, row) != row:
            return first[text], row
    return None


def first_equal_rows(
    keys: NDArray[Any],  # (n, k)
) -> tuple[int, int] | None:
    """Return two rows with the same keys, or None if all rows differ."""
    order = np.lexsort(keys.T[::-1])  # stable: equal rows stay in file order
    equal = np.flatnonzero((keys[order[1:]] == keys[order[:-1]]).all(axis=1))
    if not len(equal):
        return None
    return int(order[equal[0]]), int(order[equal[0] + 1])


def _any_equal(
    keys: NDArray[Any],  # (n, 2) row numbers
) -> bool:
    """Return True if two rows have the same keys; ten times faster than to find them."""
    packed = np.sort(keys[:, 0].astype(np.int64) << 32 | keys[:, 1])
    return bool((packed[1:] == packed[:-1]).any())


def check_unique(path: Path, field: str, column: TextColumn) -> None:
    """Check that no two rows of a table have the same value of a field.

    Raises:
        ValueError: two rows have the same value; names table, value and rows.
    """
    rows = first_duplicate(column)
    if rows is not None:
        first, second = rows
        value = shorten(str(column[first]))
        raise ValueError(
            f"{field}s of {path} must be unique; got {value} twice, in rows {first} and {second}: "
            "remove or rename one of them"
        )


def check_keyframes(
    sample: NDArray[np.int32],  # (n,) rows of the samples, of each key frame
    sensor: NDArray[np.int32],  # (n,) rows of the calibrations
    channel: NDArray[np.str_],  # (K,) of each calibration, such as "CAM_FRONT"
    token: TextColumn,  # (n,)
    sample_token: NDArray[np.str_],  # (S,)
) -> None:
    """Check that every sample has at most one key frame of each sensor.

    Raises:
        ValueError: a sample has two; names sample, channel and tokens.
    """
    _, code = np.unique(channel, return_inverse=True)
    keys = np.stack((sample, code.reshape(-1)[sensor]), axis=1)
    if not _any_equal(keys):
        return
    rows = first_equal_rows(keys)
    if rows is not None:
        first, second = rows
        raise ValueError(
            f"every sample must have one key frame of each sensor in sample_data.json; got two of "
            f"{channel[sensor[first]]} in sample {str(sample_token[sample[first]])!r} (sample_data "
            f"{str(token[first])!r} and {str(token[second])!r}): remove one of them, or set its "
            "is_key_frame to false"
        )


def check_annotations(
    sample: NDArray[np.int32],  # (A,) rows
    instance: NDArray[np.int32],  # (A,) rows
    values: Sequence[NDArray[Any]],  # (A, k) centres, sizes, rotations, counts, codes of attributes
    token: TextColumn,  # (A,)
    sample_token: NDArray[np.str_],  # (S,)
) -> None:
    """Check that no sample holds a row twice, under two tokens.

    Several boxes of one instance in a sample are accepted if a value differs: data without tracks
    may share one instance among all objects of a category.

    Raises:
        ValueError: a box occurs twice; names sample and tokens.
    """
    if not _any_equal(np.stack((sample, instance), axis=1)):
        return
    order = np.lexsort((instance, sample))
    same = (sample[order[1:]] == sample[order[:-1]]) & (instance[order[1:]] == instance[order[:-1]])
    doubled = np.zeros(len(sample), dtype=np.bool_)
    doubled[order[1:][same]] = doubled[order[:-1][same]] = True
    candidates = np.flatnonzero(doubled)
    columns: list[NDArray[Any]] = [sample, instance, *values]
    rows = first_equal_rows(np.column_stack([column[candidates] for column in columns]))
    if rows is not None:
        first, second = candidates[list(rows)]
        raise ValueError(
            f"annotations of an object must differ in sample_annotation.json; got the same values "
            f"twice in sample {str(sample_token[sample[first]])!r} (annotations "
            f"{str(token[first])!r} and {str(token[second])!r}): remove one of them"
        )
