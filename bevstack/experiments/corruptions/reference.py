"""The reference row of the mean corruption error: ``corruptions.json`` of another model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevstack.datasets.corruptions import LEVELS, Corruption
from bevstack.json_files import expect_field, expect_number, expect_object, expect_text, read_json

FORMAT = "bevstack-corruptions-1"


def read_reference(
    path: Path, corruptions: tuple[Corruption, ...], inputs: Mapping[str, Any]
) -> tuple[str, dict[str, list[float]]]:
    """Read the name of a model and its NDS by corruption and level.

    Args:
        path: ``corruptions.json`` of a run.
        corruptions: those that are needed.
        inputs: data and mode of this run, which must be equal.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not of the format, lacks a corruption, or is of other samples or of
            another treatment of lost cameras.
    """
    where = f"reference {path}"
    content = expect_object(where, read_json(path, "reference of corruptions"))
    if expect_field(where, content, "format") != FORMAT:
        raise ValueError(f"{where} must be of the format {FORMAT}; got {content['format']!r}")
    data = expect_object(f"data of {where}", expect_field(where, content, "data"))
    mode = expect_object(f"mode of {where}", expect_field(where, content, "mode"))
    for found, wanted, name in (
        (data, inputs["data"], "samples_sha256"),
        (mode, inputs["mode"], "as_published"),
    ):
        if expect_field(where, found, name) != wanted[name]:
            raise ValueError(
                f"{where} must have {name} {wanted[name]}, as this run; got {found[name]}: make "
                "the reference with the same scenes and options"
            )
    model = expect_object(f"model of {where}", expect_field(where, content, "model"))
    rows = expect_object(f"corruptions of {where}", expect_field(where, content, "corruptions"))
    scores = {}
    for corruption in corruptions:
        row = expect_object(
            f"{corruption.name} of {where}", expect_field(where, rows, corruption.name)
        )
        levels = [expect_object(f"{where}: {n}", expect_field(where, row, n)) for n in LEVELS]
        scores[corruption.name] = [
            expect_number(f"NDS of {where}", expect_field(where, level, "NDS")) for level in levels
        ]
    return expect_text(f"file of {where}", expect_field(where, model, "file")), scores
