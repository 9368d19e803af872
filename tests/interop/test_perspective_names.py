from __future__ import annotations

import json

import pytest
import torch
from torch import Size

from bevstack.config.perspective import PerspectiveConfig
from bevstack.interop.bevformer_names import NOT_WEIGHTS, PERSPECTIVE, length_before_width
from bevstack.interop.public_weights import convert_weights
from bevstack.models.perspective.head import PerspectiveHead
from tests.conftest import shared_dir
from tests.models.perspective.perspective_cases import OURS, PUBLISHED


@pytest.mark.oracle("keys_bevformerv2_r50_t1-base")
def test_every_key_of_the_published_perspective_head_has_a_counterpart() -> None:
    shared = shared_dir()
    assert shared is not None
    path = shared / "oracle" / "bevformer_v2" / "keys_bevformerv2_r50_t1-base.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["state_dict"]
    published = {
        entry["key"]: torch.empty(entry["shape"], device="meta")
        for entry in listed
        if entry["key"].startswith(PUBLISHED)
    }
    with torch.device("meta"):
        head = PerspectiveHead(PerspectiveConfig(), channels=256)
    wanted = {OURS + name: value for name, value in head.state_dict().items()}
    converted, report = convert_weights(published, wanted, PERSPECTIVE, allow_left_over=NOT_WEIGHTS)
    assert converted.keys() == wanted.keys()
    assert len(report.left_over) == 2  # the depth statistics
    assert len(report.matched) == len(published) - 2 == len(wanted)


def test_sizes_are_reordered_class_by_class() -> None:
    """Check rows of (w, l, h), each for 4 classes."""
    rows = torch.tensor([[100.0 * d + k] for d in range(3) for k in range(4)])
    got = length_before_width(rows, Size((12, 1))).view(3, 4)
    assert got.tolist() == [[100, 101, 102, 103], [0, 1, 2, 3], [200, 201, 202, 203]]
    odd = torch.zeros(4)
    assert length_before_width(odd, Size((4,))) is odd
