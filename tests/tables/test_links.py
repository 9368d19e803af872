from __future__ import annotations

import numpy as np
import pytest

from bevstack.tables.fields import Tokens
from bevstack.tables.links import NO_ROW, link_rows
from bevstack.tables.text import TextColumn


def _column(tokens: list[str]) -> TextColumn:
    return Tokens().join([Tokens().pack(tokens)])


def _naive(tokens: list[str], target: list[str]) -> list[int]:
    return [target.index(token) if token in target else NO_ROW for token in tokens]


@pytest.mark.parametrize("form", ["{:032x}", "t{}"])
@pytest.mark.parametrize("seed", range(4))
def test_tokens_resolve_to_the_rows_that_hold_them(form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = [int.from_bytes(rng.bytes(16), "big") | 1 for _ in range(50)]
    target = [form.format(number) for number in numbers]
    tokens = [target[row] for row in rng.integers(50, size=70 * seed)]
    for queries in (tokens, target, target[1:], ["", *target[:-1]], []):
        links = link_rows(_column(queries), _column(target), optional=True)
        assert links.rows.tolist() == _naive(queries, target)
        assert links.missing is None and links.duplicate is None


@pytest.mark.parametrize("form", ["{:032x}", "t{}"])
def test_the_first_token_without_a_row_is_reported(form: str) -> None:
    target = [form.format(number) for number in (5, 9, 2**100)]
    column = _column([target[1], form.format(7), "", form.format(8)])
    assert link_rows(column, _column(target), optional=True).missing == 1
    assert link_rows(column.select(slice(2, 3)), _column(target), optional=False).missing == 0
    assert link_rows(column.select(slice(2, 3)), _column([]), optional=True).missing is None
    assert link_rows(column, _column([]), optional=True).missing == 0


def test_tokens_that_differ_in_one_half_only_are_distinguished() -> None:
    target = [f"{7:016x}{k:016x}" for k in (1, 2, 3)] + [f"{k:016x}{7:016x}" for k in (1, 2, 3)]
    queries = [target[4], target[2], target[0], target[5]]
    links = link_rows(_column(queries), _column(target), optional=False)
    assert links.rows.tolist() == [4, 2, 0, 5]
    similar = link_rows(_column([f"{1:016x}{8:016x}"]), _column(target[3:]), optional=False)
    assert similar.missing == 0


@pytest.mark.parametrize("form", ["{:032x}", "t{}"])
def test_a_duplicate_token_is_reported(form: str) -> None:
    target = [form.format(number) for number in (3, 4, 5, 4)]
    assert link_rows(_column(target[:1]), _column(target), optional=False).duplicate == target[1]


def test_packed_and_plain_tokens_resolve_to_each_other() -> None:
    packed, plain = _column([f"{9:032x}"]), _column(["1", f"{9:032x}"])
    assert link_rows(packed, plain, optional=False).rows.tolist() == [1]
    assert link_rows(plain.select([1]), packed, optional=False).rows.tolist() == [0]
