"""Results in COCO's format and their scores by pycocotools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.datasets.detection2d.coco import CocoDataset
from bevstack.evaluation.detection2d.coco_results import result_entries
from bevstack.evaluation.detection2d.coco_scores import read_results, score_results
from bevstack.tables.coco_masks import encode_mask
from bevstack.types.pictures2d import Detections2D
from tests.datasets.detection2d.coco_files import usual, write_coco

coco_mask = pytest.importorskip("pycocotools.mask")


def masks() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    blobs = [generator.random((h, w)) > p for h, w, p in ((5, 7, 0.5), (40, 33, 0.9), (1, 1, 0.2))]
    large = np.zeros((700, 900), bool)
    large[3:690, 5:] = True
    return [*blobs, large, np.zeros((4, 6), bool), np.ones((4, 6), bool)]


@pytest.mark.parametrize("index", range(6))
def test_runs_equal_those_of_pycocotools(index: int) -> None:
    mask = masks()[index]
    wanted = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    got = encode_mask(mask)
    assert got["size"] == list(wanted["size"])
    assert got["counts"] == wanted["counts"].decode()
    assert np.array_equal(coco_mask.decode(got), mask)


def entries_of_truth(dataset: CocoDataset) -> list[dict[str, object]]:
    """Return the true objects as results."""
    entries = []
    for index, own in enumerate(dataset.pictures):
        found = Detections2D(
            boxes=torch.tensor([item.box for item in own.objects]).reshape(-1, 4),
            scores=torch.ones(len(own.objects)),
            labels=torch.tensor([item.label for item in own.objects]).long(),
        )
        entries += result_entries(
            found,
            dataset.masks(index).astype(bool),
            image_id=own.image_id,
            category_numbers=dataset.category_ids,
        )
    return entries


def test_true_objects_score_1_and_none_score_0(tmp_path: Path) -> None:
    # pycocotools counts objects without area, or outside of the picture, as true ones too.
    dataset = CocoDataset(write_coco(tmp_path, usual()[:4]), "train")
    entries = entries_of_truth(dataset)
    assert entries[0]["bbox"] == [10, 12, 20, 16]
    assert entries[0]["category_id"] == 3
    figures = score_results(dataset.annotations, entries)
    assert figures["box_ap"] == pytest.approx(1)
    assert figures["mask_ap"] == pytest.approx(1)
    assert score_results(dataset.annotations, [])["box_ap"] == 0


def test_a_shifted_box_scores_less_and_a_wrong_picture_is_refused(tmp_path: Path) -> None:
    dataset = CocoDataset(write_coco(tmp_path, usual()[:4]), "train")
    entries = [{**entry, "bbox": [11, 12, 20, 16]} for entry in entries_of_truth(dataset)[:1]]
    figures = score_results(dataset.annotations, entries, image_ids=[7])
    # Overlap 19 / 21 = 0.905: nine of ten thresholds; the class of the other object is missed.
    assert figures["box_ap"] == pytest.approx(0.9 / 2)
    with pytest.raises(ValueError, match="picture 8"):
        score_results(dataset.annotations, [{**entries[0], "image_id": 8}])


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text, message in (('{"a": 1}', "list"), ('[{"image_id": 1}]', "entry 0"), ("[", "JSON")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_results(path)


RUNS = {"size": [48, 64], "counts": encode_mask(np.ones((48, 64), bool))["counts"]}
RESULT = {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [1, 1, 4, 4]}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([RESULT | {"image_id": 5}], "picture 5"),
        ([RESULT | {"category_id": 99}], "category_id 99"),
        ([RESULT | {"score": "1"}], "must be a number; got '1'"),
        ([RESULT | {"score": True}], "must be a number; got True"),
        ([RESULT | {"bbox": [1, 1, 4]}], "must be 4 numbers"),
        ([RESULT | {"bbox": [1, 1, -4, 4]}], "not below 0"),
        ([{name: RESULT[name] for name in ("image_id", "category_id", "score")}], "bbox or segm"),
        ([RESULT, RESULT | {"segmentation": RUNS}], r"results\[1\] must have the fields"),
        ([RESULT | {"segmentation": RUNS}, RESULT], r"results\[1\] must have the fields"),
        ([RESULT | {"segmentation": {"size": [64, 48], "counts": RUNS["counts"]}}], "the size"),
        ([RESULT | {"segmentation": {"size": [48, 64], "counts": "zz"}}], "add up to"),
        ([RESULT | {"segmentation": {"size": [48, 64], "counts": [0, 3072]}}], "compressed runs"),
        ([RESULT | {"segmentation": [[1, 1, 2, 2, 3, 3]]}], "must be a JSON object"),
    ],
)
def test_results_that_pycocotools_would_misread_are_refused(
    tmp_path: Path, entries: list[dict[str, object]], message: str
) -> None:
    path = write_coco(tmp_path) / "annotations" / "instances_train.json"
    with pytest.raises(ValueError, match=message):
        score_results(path, entries)


def test_masks_without_boxes_are_scored(tmp_path: Path) -> None:
    dataset = CocoDataset(write_coco(tmp_path, usual()[:4]), "train")
    entries = entries_of_truth(dataset)
    for entry in entries:
        del entry["bbox"]
    figures = score_results(dataset.annotations, entries)
    assert figures["mask_ap"] == pytest.approx(1.0)
