"""Readers of the fields of JSON objects: each takes a place and a value, and returns it checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import (
    expect_field,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
    shorten,
)

FieldReader = Callable[[str, Any], Any]


def read_fields(where: str, value: Any, readers: Mapping[str, FieldReader]) -> dict[str, Any]:
    """Return the fields of an object, which must be exactly those that have a reader.

    Raises:
        ValueError: a field is missing, unknown or not of its kind; names the place and the field.
    """
    values = expect_object(where, value)
    for name in values:
        if name not in readers:
            raise ValueError(
                f"{where} must have the fields {', '.join(readers)} and no other; "
                f"got {shorten(name)}"
            )
    return {
        name: read(f"{name} of {where}", expect_field(where, values, name))
        for name, read in readers.items()
    }


def text(where: str, value: Any) -> str:
    """Return a text that is not empty."""
    return expect_text(where, value)


def text_or_empty(where: str, value: Any) -> str:
    """Return a text, which may be empty."""
    return value if value == "" else expect_text(where, value)


def probability(where: str, value: Any) -> float:
    """Return a number from 0 to 1."""
    number = expect_number(where, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{where} must be from 0 to 1; got {shorten(value)}")
    return number


def duration(where: str, value: Any) -> float:
    """Return a number that is not negative."""
    number = expect_number(where, value)
    if number < 0:
        raise ValueError(f"{where} must not be negative; got {shorten(value)}")
    return number


def member(names: tuple[str, ...]) -> FieldReader:
    """Return the reader of one of some names."""

    def read(where: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"{where} must be one of {', '.join(names)}; got {shorten(value)}")
        return value

    return read


def optional(read: FieldReader) -> FieldReader:
    """Return the reader of a value or null."""
    return lambda where, value: None if value is None else read(where, value)


def tuple_of(read: FieldReader) -> FieldReader:
    """Return the reader of a list as a tuple."""

    def read_all(where: str, value: Any) -> tuple[Any, ...]:
        items = enumerate(expect_list(where, value))
        return tuple(read(f"{where}[{index}]", item) for index, item in items)

    return read_all


def numbers(*shape: int) -> FieldReader:
    """Return the reader of nested lists of numbers as an array."""

    def read(where: str, value: Any) -> NDArray[np.float64]:
        return expect_numbers(where, value, shape)

    return read


def number_tuple(length: int) -> FieldReader:
    """Return the reader of a list of numbers as a tuple of floats."""
    return lambda where, value: tuple(expect_numbers(where, value, (length,)).tolist())


def json_value(value: Any) -> Any:
    """Return a dataclass, array or tuple, and all in it, as values of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: json_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [json_value(item) for item in value]
    return value
