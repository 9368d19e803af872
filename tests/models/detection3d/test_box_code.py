from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bevstack.models.detection3d.box_code import DecoderOutput, decode, detections_from, encode
from bevstack.types import Boxes3D
from tests.models.bevformer_oracle import assert_close, legacy_codes, read_case
from tests.models.layers.test_bev_nms import naive_greedy
from tests.models.small_models import make_annotations

POST_RANGE_M = (61.2, 61.2, 10.0)


def from_legacy_boxes(boxes: Tensor) -> Boxes3D:
    """Convert (x, y, z, w, l, h, yaw', vx, vy), where (x, y, z) is the centre of gravity."""
    return Boxes3D(
        boxes[..., :3], boxes[..., (4, 3, 5)], -boxes[..., 6] - math.pi / 2, boxes[..., 7:9]
    )


def same_boxes(got: Boxes3D, wanted: Boxes3D, tolerance: float) -> None:
    for field in ("center", "size", "velocity"):
        assert_close(getattr(got, field), getattr(wanted, field), tolerance)
    turned = torch.remainder(got.yaw - wanted.yaw + math.pi, 2 * math.pi) - math.pi
    assert_close(turned, torch.zeros_like(turned), tolerance)


@pytest.mark.oracle("box_codec")
def test_codes_match_the_published_code_in_its_order() -> None:
    case = read_case("box_codec")
    boxes = from_legacy_boxes(case.inputs["boxes"])
    assert_close(legacy_codes(encode(boxes)), case.outputs["normalized"], case.tolerance)
    wanted = from_legacy_boxes(case.outputs["denormalized"])
    same_boxes(decode(encode(boxes)), wanted, case.tolerance)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(c, marks=pytest.mark.oracle(c))
        for c in ("nms_free_coder_0", "nms_free_coder_1")
    ],
)
def test_detections_match_the_published_coder(name: str) -> None:
    case = read_case(name)
    # legacy_codes is its own inverse: it swaps and negates
    codes = legacy_codes(case.inputs["all_bbox_preds"])
    output = DecoderOutput(case.inputs["all_cls_scores"], codes)
    found = detections_from(output, max_detections=case.cfg["max_num"], post_range_m=POST_RANGE_M)
    assert len(found) == codes.shape[1]
    for sample, detections in enumerate(found):
        assert_close(detections.scores, case.outputs[f"{sample}.scores"], case.tolerance)
        assert torch.equal(detections.labels, case.outputs[f"{sample}.labels"])
        wanted = from_legacy_boxes(case.outputs[f"{sample}.bboxes"])
        same_boxes(detections.boxes, wanted, case.tolerance)


def test_decoding_undoes_encoding() -> None:
    boxes = make_annotations(9, 3).boxes
    same_boxes(decode(encode(boxes)), boxes, 1e-6)  # float32 logarithms and angles
    empty = Boxes3D.empty()
    assert encode(empty).shape == (0, 10) and len(decode(encode(empty))) == 0


def test_code_order_is_length_before_width_and_counter_clockwise_yaw() -> None:
    box = Boxes3D(
        torch.tensor([1.0, 2, 3]),
        torch.tensor([4.0, 2, 1]),
        torch.tensor(math.pi / 6),
        torch.tensor([5.0, math.nan]),
    )
    code = encode(box)
    wanted = (1, 2, math.log(4), math.log(2), 3, 0, 0.5, math.sqrt(3) / 2, 5)
    torch.testing.assert_close(code[:9], torch.tensor(wanted))
    assert code[9].isnan()


def test_detections_are_the_best_pairs_of_a_plain_sort() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, 4, generator=generator)
    codes = torch.randn(2, 3, 7, 10, generator=generator)
    codes[..., :2] *= 3
    found = detections_from(
        DecoderOutput(logits, codes), max_detections=11, post_range_m=(4.0, 3.0, 1.5)
    )
    for b, detections in enumerate(found):
        pairs = [(float(logits[1, b, q, k]), q, k) for q in range(7) for k in range(4)]
        best = sorted(pairs, reverse=True)[:11]
        limits = ((0, 4.0), (1, 3.0), (4, 1.5))
        kept = [p for p in best if all(abs(codes[1, b, p[1], i]) <= m for i, m in limits)]
        assert 0 < len(kept) < 11
        assert detections.labels.tolist() == [k for _, _, k in kept]
        scores = torch.sigmoid(torch.tensor([s for s, _, _ in kept]))
        torch.testing.assert_close(detections.scores, scores)
        for row, (_, q, _) in enumerate(kept):
            assert torch.equal(detections.boxes.center[row], codes[1, b, q, [0, 1, 4]])


def test_inactive_queries_detect_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, 4, generator=generator)
    codes = torch.randn(2, 3, 7, 10, generator=generator)
    active = torch.rand(3, 7, generator=generator) < 0.5
    active[2] = False
    logits[:, ~active] = 50.0
    limits = {"max_detections": 19, "post_range_m": (4.0, 3.0, 1.5)}
    found = detections_from(DecoderOutput(logits, codes, active=active), **limits)
    for b, detections in enumerate(found):
        rows = active[b]
        alone = DecoderOutput(logits[:, b : b + 1, rows], codes[:, b : b + 1, rows])
        (wanted,) = detections_from(alone, **limits)
        assert len(detections) == len(wanted) and (len(wanted) > 0) == (b < 2)
        assert torch.equal(detections.scores, wanted.scores)
        assert torch.equal(detections.boxes.center, wanted.boxes.center)


def test_active_queries_must_be_given_for_each_sample() -> None:
    logits, codes = torch.zeros(2, 3, 7, 4), torch.zeros(2, 3, 7, 10)
    with pytest.raises(ValueError, match=r"active must have shape \(B=3, Q=7\); got \(2, 7\)"):
        DecoderOutput(logits, codes, active=torch.ones(2, 7, dtype=torch.bool))


@pytest.mark.parametrize(("queries", "classes"), [(0, 3), (2, 3)])
def test_all_pairs_are_returned_if_there_are_fewer_than_the_maximum(
    queries: int, classes: int
) -> None:
    output = DecoderOutput(torch.zeros(1, 1, queries, classes), torch.zeros(1, 1, queries, 10))
    (found,) = detections_from(output, max_detections=300, post_range_m=POST_RANGE_M)
    assert len(found) == queries * classes


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.2])
def test_boxes_that_a_better_one_of_their_class_overlaps_are_suppressed(iou: float) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, 2, 60, 3, generator=generator)
    codes = torch.randn(1, 2, 60, 10, generator=generator)
    codes[..., :2] *= 3  # metres: some boxes do not overlap
    limits = {"post_range_m": (7.0, 5.0, 2.5)}
    everything = detections_from(DecoderOutput(logits, codes), max_detections=180, **limits)
    found = detections_from(DecoderOutput(logits, codes), max_detections=25, nms_iou=iou, **limits)
    for unsuppressed, got in zip(everything, found, strict=True):
        boxes = unsuppressed.boxes
        parts = (boxes.center[:, :2], boxes.size[:, :2], boxes.yaw[:, None])
        valid = [True] * len(unsuppressed)
        kept = naive_greedy(torch.cat(parts, 1), unsuppressed.labels, valid, iou)
        wanted = unsuppressed[torch.tensor(kept)][:25]
        assert len(wanted) == 25 < sum(kept) < len(unsuppressed)
        assert torch.equal(got.boxes.center, wanted.boxes.center)
        assert torch.equal(got.scores, wanted.scores) and torch.equal(got.labels, wanted.labels)
