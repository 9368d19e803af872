"""Mask R-CNN and Cascade Mask R-CNN against stored results of the released code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack.models.detection2d.masks import paste_masks
from bevstack.models.detection2d.model import RegionDetector, RegionStage
from bevstack.models.detection2d.regions import join_regions, region_features, region_levels
from bevstack.models.detection2d.rpn import flat
from bevstack.types.pictures2d import Detections2D
from tests import internimage_heads_oracle as oracle
from tests.models.detection2d.region_oracle import picture_size, stored_batch, stored_detector

LEVELS = ("p2", "p3", "p4", "p5", "p6")


@pytest.mark.parametrize("name", oracle.cases("op", name="roi_extractor"))
def test_features_of_regions_come_from_the_stored_levels(name: str) -> None:
    stored = oracle.tensors(name)
    pyramid = [stored[f"feat_{level}"] for level in range(4)]
    assert torch.equal(region_levels(stored["rois"], 4), stored["levels"])
    got = region_features(pyramid, stored["rois"], oracle.manifest()[name]["output_size"])
    oracle.assert_close("out", got, stored["out"], 2e-5)


def maps_of(stored: Mapping[str, Tensor]) -> list[Tensor]:
    return [stored[key] for key in ("c2", "c3", "c4", "c5")]


def same_rows(got: Tensor, wanted: Tensor, atol: float) -> None:
    """Check that two sets of proposals are equal; the order of equal scores is free."""
    assert got.shape == wanted.shape
    distance = (got[:, None] - wanted[None]).abs().amax(-1)
    assert distance.amin(1).max() <= atol
    assert distance.amin(0).max() <= atol


def check_proposals(model: RegionDetector, name: str, tolerance: float = 1.0) -> list[Tensor]:
    """Check pyramid, predictions for anchors, and proposals; return the pyramid."""
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    pyramid = model.neck(maps_of(stored))
    output = model.rpn(pyramid)
    for level, key in enumerate(LEVELS):
        oracle.assert_close(key, pyramid[level], stored[f"fpn_{key}"], 1e-5 * tolerance)
        logits, codes = output.logits[level], output.codes[level]
        oracle.assert_close(key, logits, stored[f"rpn_cls_{key}"], 1e-5 * tolerance)
        oracle.assert_close(key, codes, stored[f"rpn_reg_{key}"], 1e-5 * tolerance)
    anchors = model.rpn.anchors(output)
    for level, key in enumerate(LEVELS):
        assert len(anchors[level]) == flat(output)[0][level].shape[1]
        if f"anchors_{key}" in stored:
            assert torch.equal(anchors[level], stored[f"anchors_{key}"])
    sizes = [picture_size(meta).resized for meta in case["img_metas"]]
    for training, prefix in ((False, "proposals"), (True, "train_proposals")):
        for image, found in enumerate(model.rpn.propose(output, sizes, training=training)):
            got = torch.cat((found.boxes, found.scores[:, None]), 1)
            # A logit off by 1e-5 moves a box by the exponential of a code: 1e-3 pixel.
            same_rows(got, stored[f"{prefix}_{image}"], 1e-3 * tolerance)
    return list(pyramid)


def check_detections(
    got: Detections2D, stored: Mapping[str, Tensor], image: int, size: Any, tolerance: float = 1.0
) -> None:
    boxes = stored[f"det_boxes_{image}"]
    assert torch.equal(got.labels, stored[f"det_labels_{image}"])
    oracle.assert_close("boxes", got.boxes, boxes[:, :4], 1e-3 * tolerance)
    oracle.assert_close("scores", got.scores, boxes[:, 4], 1e-5 * tolerance)
    assert got.mask_values is not None
    masks = paste_masks(got.mask_values, got.boxes, size.original, threshold=0.5)
    different = (masks != stored[f"det_masks_{image}"]).sum()
    assert different <= 30 * tolerance  # README beside the cases


@pytest.mark.parametrize("name", oracle.cases("mask", "cascade", aspect="_detections"))
@torch.no_grad()
def test_detections_equal_the_stored_ones_at_every_step(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_detector(name)
    pyramid = check_proposals(model, name)
    proposals = [stored[f"proposals_{image}"][:, :4] for image in range(len(case["img_metas"]))]
    check_stages(model, stored, pyramid, proposals)
    for image, meta in enumerate(case["img_metas"]):
        level = [x[image : image + 1] for x in pyramid]
        found = model.detect_in_regions(level, proposals[image], picture_size(meta))
        check_detections(found, stored, image, picture_size(meta))


def check_stages(
    model: RegionDetector,
    stored: Mapping[str, Tensor],
    pyramid: list[Tensor],
    proposals: list[Tensor],
) -> None:
    """Check the predictions of each stage for its stored regions."""
    several = len(model.stages) > 1
    for index, stage in enumerate(model.stages):
        assert isinstance(stage, RegionStage)
        rois = stored[f"s{index}_rois"] if several else join_regions(proposals)
        output = stage.boxes(pyramid, rois)
        keys = (f"s{index}_cls", f"s{index}_reg") if several else ("bbox_cls", "bbox_reg")
        oracle.assert_close(keys[0], output.logits, stored[keys[0]], 5e-5)
        oracle.assert_close(keys[1], output.codes, stored[keys[1]], 5e-5)
        key = f"s{index}_mask_logits_first6" if several else "mask_logits_first10"
        masks = stage.masks(pyramid, stored["mask_rois"][: len(stored[key])])
        oracle.assert_close(key, masks, stored[key], 5e-5)
    if several:
        return
    rows = stored["rois_sel_index"]
    features = region_features(pyramid, join_regions(proposals)[rows], 7)
    oracle.assert_close("features", features, stored["roi_feats_sel"], 5e-5)


@pytest.mark.parametrize("name", oracle.cases("mask", "cascade", aspect="_from_image"))
@torch.no_grad()
def test_detections_of_an_image_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.arrays(name)
    model = stored_detector(name)
    sizes = [meta["img_shape"] for meta in case["img_metas"]]
    images = oracle.normalised_images(stored["image_u8"], sizes)
    batch = stored_batch(case, oracle.tensors(name), images)
    for key, got in zip(("c2", "c3", "c4", "c5"), model.backbone(images), strict=True):
        oracle.assert_close(key, got, stored[key], 5e-5)
    for image, found in enumerate(model.detect(batch)):
        check_detections(found, oracle.tensors(name), image, batch.sizes[image], tolerance=3)


@pytest.mark.parametrize("name", oracle.cases("op", name="masks"))
def test_pasted_masks_equal_the_stored_ones(name: str) -> None:
    from bevstack.models.detection2d.masks import mask_targets

    stored, (height, width) = oracle.tensors(name), oracle.manifest()[name]["image"]
    masks, boxes = stored["masks"][:, 0], stored["boxes"]
    pasted = paste_masks(masks, boxes, (height, width), threshold=0.5)
    assert torch.equal(pasted, stored["pasted_bool_per_mask_window"])
    targets = mask_targets(stored["gt_masks"], stored["target_boxes"], stored["target_inds"], 28)
    different = (targets.bool() != stored["target_28"]).float().mean()
    assert different <= 0.002  # exact halves; README beside the cases
