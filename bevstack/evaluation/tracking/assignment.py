"""Assignment of least total cost, for compiled loops, which cannot call scipy.

D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace
and Electronic Systems 52(4), 2016, section IV: shortest augmenting paths. Rows and columns are
visited as in ``scipy.optimize.linear_sum_assignment``, so equal totals give the same pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.cached_loop import cached_loop

NONE = -1


@cached_loop
def _extend(
    cost: NDArray[np.float64],  # (R, C), R <= C, finite
    first_row: int,
    column_of_row: NDArray[np.int64],  # (R,) changed
    row_of_column: NDArray[np.int64],  # (C,) changed
    row_price: NDArray[np.float64],  # (R,) dual variables, changed
    column_price: NDArray[np.float64],  # (C,) dual variables, changed
) -> None:
    """Assign one more row along the shortest augmenting path."""
    rows, columns = cost.shape
    length = np.full(columns, np.inf)
    previous = np.full(columns, NONE)
    open_columns = np.arange(columns - 1, -1, -1)  # a constant matrix gives the diagonal
    num_open = columns
    row_is_reached = np.zeros(rows, dtype=np.bool_)
    column_is_reached = np.zeros(columns, dtype=np.bool_)
    row, end, reached = first_row, NONE, 0.0
    while end == NONE:
        row_is_reached[row] = True
        shortest, place = np.inf, NONE
        for k in range(num_open):
            column = open_columns[k]
            step = reached + cost[row, column] - row_price[row] - column_price[column]
            if step < length[column]:
                length[column], previous[column] = step, row
            # Of equal lengths, a free column ends the search earlier.
            is_free = row_of_column[column] == NONE
            if length[column] < shortest or (length[column] == shortest and is_free):
                shortest, place = length[column], k
        reached, column = shortest, open_columns[place]
        column_is_reached[column] = True
        num_open -= 1
        open_columns[place] = open_columns[num_open]
        if row_of_column[column] == NONE:
            end = column
        else:
            row = row_of_column[column]
    row_price[first_row] += reached
    for i in range(rows):
        if row_is_reached[i] and i != first_row:
            row_price[i] += reached - length[column_of_row[i]]
    for j in range(columns):
        if column_is_reached[j]:
            column_price[j] -= reached - length[j]
    column = end
    while True:
        row = previous[column]
        row_of_column[column] = row
        column, column_of_row[row] = column_of_row[row], column
        if row == first_row:
            return


@cached_loop
def assign(
    cost: NDArray[np.float64],  # (R, C) finite
) -> NDArray[np.int64]:  # (R,) column of each row, or NONE
    """Assign as many rows as possible to different columns, with the least total cost."""
    rows, columns = cost.shape
    matrix = cost if rows <= columns else cost.T.copy()
    column_of_row = np.full(matrix.shape[0], NONE)
    row_of_column = np.full(matrix.shape[1], NONE)
    row_price, column_price = np.zeros(matrix.shape[0]), np.zeros(matrix.shape[1])
    for row in range(matrix.shape[0]):
        _extend(matrix, row, column_of_row, row_of_column, row_price, column_price)
    return column_of_row if rows <= columns else row_of_column
