"""Boxes, anchors and their codes against stored numbers of the released code."""

from __future__ import annotations

import pytest
import torch

from bevstack.models.detection2d.anchors import (
    anchors_within,
    cell_anchors,
    cells_in_picture,
    map_anchors,
)
from bevstack.models.detection2d.boxes import BoxCoder, clip_boxes, pairwise_giou, pairwise_iou
from tests import internimage_heads_oracle as oracle

SIZE = (60, 80)  # of the stored clipped boxes
STDS = {
    "rpn": (1.0, 1.0, 1.0, 1.0),
    "s0": (0.1, 0.1, 0.2, 0.2),
    "s1": (0.05, 0.05, 0.1, 0.1),
    "s2": (0.033, 0.033, 0.067, 0.067),
}


@pytest.mark.parametrize("name", oracle.cases("op", name="boxes", aspect="_codes"))
@pytest.mark.parametrize("stds", STDS)
def test_codes_equal_the_stored_ones(name: str, stds: str) -> None:
    stored = oracle.tensors(name)
    coder = BoxCoder(STDS[stds])
    boxes, deltas = stored["boxes"], stored["deltas"]
    # Relative to the largest number: one rounding a step of float32.
    for key, got in (
        (f"encode_{stds}", coder.encode(boxes, stored["gt"])),
        (f"decode_{stds}", coder.decode(boxes, deltas)),
        (f"decode_clip_{stds}", coder.decode(boxes, deltas, SIZE)),
    ):
        torch.testing.assert_close(got, stored[key], rtol=1e-6, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", oracle.cases("op", name="boxes", aspect="_anchors"))
def test_anchors_and_their_cells_equal_the_stored_ones(name: str) -> None:
    stored = oracle.tensors(name)
    for level, stride in enumerate((4, 8, 16, 32, 64)):
        cell = cell_anchors(stride, scale=8, ratios=(0.5, 1, 2))
        assert torch.equal(cell, stored[f"base_anchors_{level}"])
        grid = stored[f"grid_{level}"]
        size = grid_size(grid, stride)
        assert torch.equal(map_anchors(cell, size, stride), grid)


def grid_size(grid: torch.Tensor, stride: int) -> tuple[int, int]:
    """Return rows and columns of a stored grid, by its last anchor."""
    shift = (grid[-1] - grid[2]) / stride
    return int(shift[1]) + 1, int(shift[0]) + 1


@pytest.mark.parametrize("name", oracle.cases("op", name="boxes", aspect="_overlaps"))
def test_overlaps_equal_the_stored_ones(name: str) -> None:
    stored = oracle.tensors(name)
    gt, boxes = stored["iou_gt"], stored["iou_boxes"]
    assert torch.equal(pairwise_iou(gt, boxes), stored["iou"])
    torch.testing.assert_close(pairwise_giou(gt, boxes), stored["giou"], rtol=1e-6, atol=1e-6)


def test_a_code_decodes_to_its_target_inside_the_picture() -> None:
    torch.manual_seed(0)
    low = torch.rand(2, 7, 2, dtype=torch.float64) * 30
    boxes, targets = torch.cat((low, low + 1 + 20 * torch.rand(2, 7, 2).double()), -1)
    coder = BoxCoder((0.1, 0.2, 0.3, 0.4))
    decoded = coder.decode(boxes, coder.encode(boxes, targets))
    torch.testing.assert_close(decoded, targets)
    cut = clip_boxes(targets, (11, 23))
    assert cut[:, 2].max() <= 23
    assert cut[:, 3].max() <= 11


def test_cells_beyond_the_padding_and_anchors_over_an_edge_are_left_out() -> None:
    inside = cells_in_picture((3, 4), (17, 24), 8, num_anchors=2)
    assert inside.view(3, 4, 2)[..., 0].tolist() == [[True, True, True, False]] * 3
    anchors = torch.tensor([[0.0, 0, 9, 7], [-1, 0, 4, 4], [0, 0, 10, 7], [0, 0, 9, 8]])
    assert anchors_within(anchors, (8, 10)).tolist() == [True, False, False, False]
