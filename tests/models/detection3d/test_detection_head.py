from __future__ import annotations

import torch

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.detection_head import DetectionHead
from bevstack.models.layers.logits import inverse_sigmoid


def test_inverse_sigmoid_is_clamped_at_both_ends() -> None:
    x = torch.tensor((-1.0, 0.0, 0.25, 1.0, 2.0), dtype=torch.float64)
    top = torch.log(torch.tensor(1 / 1e-5, dtype=torch.float64))
    wanted = torch.stack((-top, -top, torch.log(torch.tensor(1 / 3).double()), top, top))
    torch.testing.assert_close(inverse_sigmoid(x), wanted, rtol=1e-7, atol=1e-7)


def test_every_class_starts_at_a_probability_of_one_percent() -> None:
    head = DetectionHead(BEVGrid(), channels=8, num_classes=7, num_layers=2)
    for branch in head.class_branches:
        torch.testing.assert_close(branch[-1].bias.sigmoid(), torch.full((7,), 0.01))


def test_box_without_refinement_stays_at_its_reference_point() -> None:
    grid = BEVGrid(x_range_m=(-10, 30), y_range_m=(-7, 5), z_range_m=(-2, 3), shape=(3, 4))
    head = DetectionHead(grid, channels=8, num_classes=3, num_layers=1)
    with torch.no_grad():
        head.box_branches[0][-1].weight.zero_()
        head.box_branches[0][-1].bias.copy_(torch.tensor((0.0, 0, 1, 2, 0, 3, 4, 5, 6, 7)))
    references = torch.tensor([[[0.25, 0.5, 0.4], [0.9, 0.1, 0.7]]])
    _, codes, refined = head(0, torch.randn(1, 2, 8), references)
    torch.testing.assert_close(refined, references)
    wanted = torch.tensor([[0.0, -1, 1, 2, 0, 3, 4, 5, 6, 7], [26, -5.8, 1, 2, 1.5, 3, 4, 5, 6, 7]])
    torch.testing.assert_close(codes[0], wanted, rtol=1e-5, atol=1e-5)
