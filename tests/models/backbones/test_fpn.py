from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bevstack.models.backbones.fpn import FPN
from tests.models.bevformer_oracle import assert_close, load_published, read_case


@pytest.mark.oracle("resnet_fpn_eval")
def test_pyramid_matches_the_published_code() -> None:
    case = read_case("resnet_fpn_eval")
    fpn = FPN((64, 128, 256), num_outputs=5, channels=32)
    weights = {n: w for n, w in case.weights.items() if n.startswith("img_neck.")}
    load_published(fpn, weights, published="", ours="neck.")
    levels = fpn([case.outputs[f"C.{level}"] for level in range(3)])
    for level, got in enumerate(levels):
        assert_close(got, case.outputs[f"P.{level}"], case.tolerance)


def nearest(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    rows = [r * x.shape[2] // size[0] for r in range(size[0])]
    columns = [c * x.shape[3] // size[1] for c in range(size[1])]
    return x[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_pyramid_sums_laterals_and_upsampled_coarser_levels(batch: int) -> None:
    torch.manual_seed(0)
    fpn = FPN((3, 5), num_outputs=4, channels=6)
    fine, coarse = torch.randn(batch, 3, 7, 11), torch.randn(batch, 5, 4, 5)  # odd, not halves
    top = fpn.lateral_convs[1](coarse)
    bottom = fpn.lateral_convs[0](fine) + nearest(top, (7, 11))
    p0, p1 = fpn.output_convs[0](bottom), fpn.output_convs[1](top)
    p2 = functional.conv2d(
        p1, fpn.output_convs[2].weight, fpn.output_convs[2].bias, stride=2, padding=1
    )
    p3 = functional.conv2d(
        p2.clamp(min=0), fpn.output_convs[3].weight, fpn.output_convs[3].bias, stride=2, padding=1
    )
    for got, wanted in zip(fpn((fine, coarse)), (p0, p1, p2, p3), strict=True):
        torch.testing.assert_close(got, wanted)


def test_fewer_outputs_than_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least the number of backbone maps, 3, which"):
        FPN((3, 4, 5), num_outputs=2, channels=6)
