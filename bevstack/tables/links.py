"""Joins of the tables: the resolution of tokens to rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.text import HexText, TextColumn

NO_ROW = -1  # the row of an empty token


class Links(NamedTuple):
    """The rows that tokens resolve to, and the first fault of each kind."""

    rows: NDArray[np.int32]  # (n,) rows of the target, NO_ROW for none
    missing: int | None  # the first row whose token does not occur in the target
    duplicate: str | None  # a token that occurs twice in the target


def link_rows(tokens: TextColumn, target: TextColumn, *, optional: bool) -> Links:
    """Return the row of ``target`` with each token; with ``optional``, "" becomes ``NO_ROW``."""
    if isinstance(tokens, HexText) and isinstance(target, HexText):
        rows = _match_halves(tokens.halves(), target.halves())
        empty = tokens.is_empty() if optional else None
    else:
        rows = None
        empty = None
    if rows is None:  # tokens that are no HexText, or a duplicate token
        strings = target.tolist()
        index = {token: row for row, token in enumerate(strings)}
        if len(index) != len(strings):
            duplicate = next(token for row, token in enumerate(strings) if index[token] != row)
            return Links(np.empty(0, dtype=np.int32), None, duplicate)
        rows = np.array([index.get(token, NO_ROW) for token in tokens], dtype=np.int32)
        empty = np.asarray(tokens) == "" if optional else None
    unresolved = rows == NO_ROW
    if empty is not None:
        unresolved &= ~empty
        rows[empty] = NO_ROW
    return Links(rows, int(unresolved.argmax()) if unresolved.any() else None, None)


def _match_halves(
    tokens: NDArray[np.uint64],  # (n, 2)
    target: NDArray[np.uint64],  # (m, 2)
) -> NDArray[np.int32] | None:  # (n,)
    """Match tokens by their sorted first halves; return None if two target tokens share one."""
    keys = np.sort(target[:, 0])
    if (keys[1:] == keys[:-1]).any():
        return None
    rows = np.full(len(tokens), NO_ROW, dtype=np.int32)
    for shift in (0, 1, -1):  # shortcut for tables in the same order, and for neighbouring rows
        first, last = max(0, -shift), min(len(tokens), len(target) - shift)
        if first < last:
            matches = _rows_equal(tokens[first:last], target[first + shift : last + shift])
            rows[first:last][matches] = np.flatnonzero(matches) + first + shift
    remaining = np.flatnonzero(rows == NO_ROW)
    if len(remaining) and len(target):
        queries, order = tokens[remaining], np.argsort(target[:, 0])
        candidates = order[np.minimum(np.searchsorted(keys, queries[:, 0]), len(keys) - 1)]
        rows[remaining] = np.where(_rows_equal(target[candidates], queries), candidates, NO_ROW)
    return rows


def _rows_equal(
    first: NDArray[np.uint64],  # (n, 2)
    second: NDArray[np.uint64],  # (n, 2)
) -> NDArray[np.bool_]:  # (n,)
    """Compare row by row; this is several times faster than ``all`` over an axis of two."""
    equal: NDArray[np.bool_] = (first[:, 0] == second[:, 0]) & (first[:, 1] == second[:, 1])
    return equal
