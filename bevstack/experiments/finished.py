"""Files of finished figures, which a later run of a judge or a study reuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_number,
    expect_object,
    read_json,
    shorten,
)

_REMEDY = "remove it, and its figures are computed again"


def read_finished_file(
    path: Path, key: str, columns: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the marks of a file, which identify its inputs, and its figures.

    Args:
        path: the file.
        key: the field of the figures.
        columns: figures that must be numbers, or null for a missing one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a field is of another kind; names it.
    """
    subject = "file of finished figures"
    try:
        content = expect_object(str(path), read_json(path, subject))
        marks = expect_object(f"marks of {path}", expect_field(str(path), content, "marks"))
        figures = expect_object(f"{key} of {path}", expect_field(str(path), content, key))
        for name in columns:
            value = expect_field(f"{key} of {path}", figures, name)
            if value is not None:
                expect_number(f"{name} of {path}", value)
        if "boxes" in figures:
            expect_integer(f"boxes of {path}", figures["boxes"], low=0)
        if "classes" in figures:
            _check_classes(path, figures["classes"])
    except ValueError as error:
        raise ValueError(f"{error}: {_REMEDY}") from None
    return marks, figures


def _check_classes(path: Path, classes: object) -> None:
    for name, values in expect_object(f"classes of {path}", classes).items():
        where = f"class {shorten(name)} of {path}"
        precision = expect_field(where, expect_object(where, values), "AP")
        if precision is not None:
            expect_number(f"AP of {where}", precision)
