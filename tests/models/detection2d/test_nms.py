"""Suppression within groups against lists of the released kernel."""

from __future__ import annotations

import pytest
import torch

from bevstack.models.layers.nms import suppress_within
from tests import internimage_heads_oracle as oracle


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", oracle.cases("op", name="nms", aspect="_lists"))
def test_lists_of_kept_boxes_equal_the_stored_ones(name: str, iou: float) -> None:
    stored = oracle.tensors(name)
    boxes, scores, ids = stored["boxes"], stored["scores"], stored["ids"]
    assert torch.equal(suppress_within(boxes, scores, None, iou), stored[f"nms_keep_{iou}"])
    kept = suppress_within(boxes, scores, ids, iou)
    assert torch.equal(kept, stored[f"batched_keep_{iou}"])
    assert set(kept.tolist()) == set(stored[f"batched_split_keep_{iou}"].tolist())
    dets = torch.cat((boxes[kept], scores[kept, None]), -1)
    assert torch.equal(dets, stored[f"batched_dets_{iou}"])


def test_no_box_remains_of_none() -> None:
    assert suppress_within(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), 0.5).shape == (
        0,
    )
