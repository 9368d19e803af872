"""COCO's average precision of boxes and masks, computed by pycocotools (extra [coco])."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bevstack.evaluation.detection2d.result_checks import check_results
from bevstack.json_files import expect_list, read_json

# Figures in pycocotools' order.
FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
KINDS = {"box": "bbox", "mask": "segm"}
MAX_BYTES = 1 << 34


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file of results.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no list of entries.
    """
    content = read_json(path, "COCO results", max_bytes=MAX_BYTES)
    entries = expect_list(str(path), content)
    needed = {"image_id", "category_id", "score"}
    for row, entry in enumerate(entries):
        if not isinstance(entry, dict) or not needed <= entry.keys():
            raise ValueError(
                f"{path}, entry {row} must have image_id, category_id and score; got "
                f"{sorted(entry) if isinstance(entry, dict) else type(entry).__name__}"
            )
    return entries


def score_results(
    annotations: Path,
    results: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return the twelve figures of boxes, and of masks if the results have any, by name.

    Names are such as "box_ap" and "mask_ap50". A figure without any object is -1, as pycocotools
    gives it.

    Args:
        annotations: COCO's file of annotations.
        results: entries with image_id, category_id, score, bbox and maybe segmentation.
        image_ids: pictures to score; None: all of the file.

    Raises:
        ValueError: a result does not fit the annotations, or is malformed; see ``check_results``.
        ModuleNotFoundError: pycocotools is not installed.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
    sizes = {number: (values["height"], values["width"]) for number, values in truth.imgs.items()}
    has_masks = check_results(results, sizes, set(truth.cats), annotations)
    kinds = ["box"] + ["mask"] * has_masks
    figures: dict[str, float] = {}
    for kind in kinds:
        values = _score(truth, results, KINDS[kind], image_ids)
        for name, value in zip(FIGURES, values, strict=True):
            figures[f"{kind}_{name}"] = value
    return figures


def _score(
    truth: Any,
    results: Sequence[Mapping[str, Any]],
    kind: str,
    image_ids: Sequence[int] | None,
) -> list[float]:
    from pycocotools.cocoeval import COCOeval

    if not results:
        return [0.0] * len(FIGURES)
    entries = [dict(entry) for entry in results]
    if kind == "segm":
        for entry in entries:
            entry.pop("bbox", None)  # else the area of the box decides which size an object has
    with contextlib.redirect_stdout(io.StringIO()):
        scored = COCOeval(truth, truth.loadRes(entries), kind)
        if image_ids is not None:
            scored.params.imgIds = list(image_ids)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return [float(value) for value in scored.stats]
