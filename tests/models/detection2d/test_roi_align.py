"""RoIAlign against stored numbers of the released kernel and against loops of its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bevstack.models.detection2d import roi_align as module
from bevstack.models.detection2d.roi_align import roi_align
from tests import internimage_heads_oracle as oracle


def pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@pytest.mark.parametrize("limit", [2**23, 50])
@pytest.mark.parametrize("name", oracle.cases("op", name="roi_align"))
def test_values_and_gradients_equal_the_stored_ones(
    name: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WINDOW_VALUES", limit)
    stored, case = oracle.tensors(name), oracle.manifest()[name]
    for index, options in enumerate(case["cases"]):
        maps = stored["input"].clone().requires_grad_()
        got = roi_align(
            maps,
            stored["rois"],
            pair(options["output_size"]),
            spatial_scale=case["spatial_scale"],
            sampling_ratio=options["sampling_ratio"],
            aligned=options["aligned"],
        )
        oracle.assert_close(f"out_{index}", got, stored[f"out_{index}"], 2e-5)
        got.backward(stored[f"grad_out_{index}"])
        oracle.assert_close(f"grad_{index}", maps.grad, stored[f"grad_in_{index}"], 5e-5)


def sample(plane: Tensor, y: float, x: float) -> float:
    """Return the bilinear sample of one map, by its definition."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return float(upper * (1 - y + top) + lower * (y - top))


def by_loops(maps: Tensor, rois: Tensor, bins: tuple[int, int]) -> Tensor:
    output = maps.new_zeros((len(rois), maps.shape[1], *bins))
    for r, (batch, x1, y1, x2, y2) in enumerate(rois.tolist()):
        high, wide = (y2 - y1) / bins[0], (x2 - x1) / bins[1]
        rows, columns = math.ceil(high), math.ceil(wide)
        for c in range(maps.shape[1]):
            for i in range(bins[0]):
                for j in range(bins[1]):
                    values = [
                        sample(
                            maps[int(batch), c],
                            y1 - 0.5 + (i + (a + 0.5) / rows) * high,
                            x1 - 0.5 + (j + (b + 0.5) / columns) * wide,
                        )
                        for a in range(rows)
                        for b in range(columns)
                    ]
                    output[r, c, i, j] = sum(values) / max(len(values), 1)
    return output


def test_values_equal_loops_and_gradients_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 3, 9, 13, generator=generator, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(
        [
            [0, 1.3, 0.2, 8.9, 5.1],
            [1, -6.0, -3.0, 4.2, 2.2],
            [1, 5.0, 2.0, 30.0, 40.0],
            [0, 3.0, 3.0, 3.0, 8.0],
            [1, 40.0, 40.0, 50.0, 50.0],
        ],
        dtype=torch.float64,
    )
    got = roi_align(maps, rois, (2, 3), spatial_scale=1.0)
    torch.testing.assert_close(got, by_loops(maps.detach(), rois, (2, 3)))
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 3), spatial_scale=1.0), maps)


def test_no_region_gives_no_rows_and_a_zero_gradient() -> None:
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    got = roi_align(maps, torch.zeros(0, 5), (7, 7), spatial_scale=0.25)
    assert got.shape == (0, 2, 7, 7)
    got.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()
    with pytest.raises(ValueError, match="rois"):
        roi_align(maps, torch.zeros(3, 4), (7, 7), spatial_scale=0.25)
