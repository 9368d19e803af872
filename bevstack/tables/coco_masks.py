"""Masks as runs of pixels in COCO's compressed form, and back.

Pixels are counted column by column. Runs of 0 and 1 alternate, starting with 0. From the third
one on, the difference to the run before the previous one is stored, five bits a character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.json_files import shorten

_FIRST = 48  # character of five zero bits
_MORE, _SIGN = 0x20, 0x10


def encode_mask(
    mask: NDArray[np.bool_],  # (H, W)
) -> dict[str, Any]:
    """Return {"size": [H, W], "counts": text} of a mask."""
    height, width = mask.shape
    pixels = mask.astype(np.int8).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    edges = np.concatenate([[0], changes, [pixels.size]])
    runs = np.diff(edges)
    if pixels.size and pixels[0]:
        runs = np.concatenate([[0], runs])
    return {"size": [height, width], "counts": _compress(runs.tolist())}


def _compress(runs: list[int]) -> str:
    characters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & _SIGN else 0)
            characters.append(chr(_FIRST + (bits | _MORE if more else bits)))
            if not more:
                break
    return "".join(characters)


def decode_mask(
    segmentation: Any,
    size: tuple[int, int],  # height, width
) -> NDArray[np.uint8]:  # (H, W) of 0 and 1
    """Return the mask of polygons, which needs pycocotools, or of runs, compressed or not.

    Raises:
        ValueError: there is no mask, or it is malformed or of another size.
        ModuleNotFoundError: polygons, and pycocotools is not installed.
    """
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"mask must be polygons or runs; got {shorten(segmentation)}")
    for polygon in segmentation:
        numbers = polygon if isinstance(polygon, list) else ()
        plain = all(isinstance(value, (int, float)) for value in numbers)
        if len(numbers) < 6 or len(numbers) % 2 or not plain:
            raise ValueError(
                f"polygon must hold x and y of at least 3 corners; got {shorten(polygon)}"
            )
    from pycocotools import mask as coco_mask

    runs = coco_mask.frPyObjects(segmentation, *size)
    decoded: NDArray[np.uint8] = coco_mask.decode(coco_mask.merge(runs))
    return decoded


def check_runs(segmentation: Mapping[str, Any], size: tuple[int, int]) -> list[int]:
    """Return the runs of a mask, compressed or not, after checks.

    Raises:
        ValueError: the runs are malformed, or the mask is not of this height and width.
    """
    if segmentation.get("size") != [*size]:
        raise ValueError(
            f"mask must have the size {[*size]} of its picture; got "
            f"{shorten(segmentation.get('size'))}"
        )
    counts = segmentation.get("counts")
    runs = _expand(counts) if isinstance(counts, str) else counts
    pixels = size[0] * size[1]
    numbers = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if not isinstance(runs, list) or not numbers or sum(runs) != pixels:
        raise ValueError(f"runs must add up to the {pixels} pixels; got {shorten(counts)}")
    return runs


def _decode_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    runs = check_runs(segmentation, size)
    flat = np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs)
    return np.ascontiguousarray(flat.reshape(size, order="F"))


def _expand(text: str) -> list[int] | None:
    """Return the runs of their compressed form; None for characters that it does not have."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs
