"""Checks of results in COCO's format, which pycocotools would score wrongly or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_number,
    expect_numbers,
    expect_object,
    shorten,
)
from bevstack.tables.coco_masks import check_runs


def check_results(
    results: Sequence[Mapping[str, Any]],
    sizes: Mapping[int, tuple[int, int]],
    categories: set[int],
    annotations: Path,
) -> bool:
    """Return True if the results have masks.

    Args:
        results: entries with image_id, category_id, score, and bbox or segmentation or both.
        sizes: height and width of each picture of the annotations, by its number.
        categories: numbers of the classes of the annotations.
        annotations: file of the annotations, for the messages.

    Raises:
        ValueError: a result is of a picture or class that the annotations lack; a field is missing
            or no number; a box is no box; a mask does not fit its picture; or some results have
            masks, or boxes, and not all have.
    """
    has_masks, has_boxes = (
        bool(results) and name in results[0] for name in ("segmentation", "bbox")
    )
    if results and not has_masks and not has_boxes:
        raise ValueError(f"results[0] must have bbox or segmentation; got {sorted(results[0])}")
    for row, entry in enumerate(results):
        where = f"results[{row}]"
        number = expect_integer(where, expect_field(where, entry, "image_id"))
        if number not in sizes:
            raise ValueError(
                f"{where} must be of a picture of {annotations}; got picture {number}: "
                "check the split"
            )
        category = expect_integer(where, expect_field(where, entry, "category_id"))
        if category not in categories:
            raise ValueError(
                f"{where} must be of a class of {annotations}; got category_id {category}: "
                "check the numbers of the classes"
            )
        expect_number(where, expect_field(where, entry, "score"))
        if ("segmentation" in entry) != has_masks or ("bbox" in entry) != has_boxes:
            raise ValueError(
                f"{where} must have the fields of results[0], {sorted(results[0])}; got "
                f"{sorted(entry)}"
            )
        if has_boxes:
            _check_box(f"{where}.bbox", entry["bbox"])
        if has_masks:
            _check_mask(f"{where}.segmentation", entry["segmentation"], sizes[number])
    return has_masks


def _check_box(where: str, value: object) -> None:
    box = expect_numbers(where, value, (4,))
    if box[2] < 0 or box[3] < 0:
        raise ValueError(
            f"{where} must be left, top, width and height, not below 0; got {shorten(value)}"
        )


def _check_mask(where: str, value: object, size: tuple[int, int]) -> None:
    mask = expect_object(where, value)
    if not isinstance(mask.get("counts"), str):
        raise ValueError(
            f"{where}.counts must be compressed runs, a text; got {shorten(mask.get('counts'))}"
        )
    try:
        check_runs(mask, size)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
