"""RoIAlign against stored numbers of the released kernel and against loops of its definition."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor

from bevstack import ops
from bevstack.ops import roi_align as public
from bevstack.ops.roi_align import reference, reference_backward
from tests import internimage_heads_oracle as oracle

# One call for each form of the options.
OPTIONS = [(0, True), (2, True), (0, False), (3, False)]


class _Reference(torch.autograd.Function):
    """The operator by its reference."""

    @staticmethod
    def forward(ctx, maps, rois, options):
        ctx.save_for_backward(maps, rois)
        ctx.options = options
        return reference(maps, rois, **options)

    @staticmethod
    def backward(ctx, grad_output):
        return reference_backward(grad_output, *ctx.saved_tensors, **ctx.options), None, None


@pytest.fixture(params=["reference", "dispatched"])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the public function on the reference, or on the kernel of this machine."""
    name = "bevstack.ops.roi_align"
    module = sys.modules[name]
    if request.param == "dispatched":
        yield request.param
        return
    run = lambda maps, rois, **options: _Reference.apply(maps, rois, options)  # noqa: E731
    with mock.patch.object(module, "_OPERATOR", run):
        yield request.param


def pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@pytest.mark.parametrize("limit", [2**23, 50])
@pytest.mark.parametrize("name", oracle.cases("op", name="roi_align"))
def test_values_and_gradients_equal_the_stored_ones(
    name: str, limit: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["bevstack.ops.roi_align"], "MAX_WINDOW_VALUES", limit)
    stored, case = oracle.tensors(name), oracle.manifest()[name]
    for index, options in enumerate(case["cases"]):
        maps = stored["input"].clone().requires_grad_()
        got = public(
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


def by_loops(
    maps: Tensor,
    rois: Tensor,
    bins: tuple[int, int],
    *,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    output = maps.new_zeros((len(rois), maps.shape[1], *bins))
    for r, (batch, *sides) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (side * spatial_scale - (0.5 if aligned else 0.0) for side in sides)
        least = -math.inf if aligned else 1.0
        high, wide = max(y2 - y1, least) / bins[0], max(x2 - x1, least) / bins[1]
        rows, columns = (sampling_ratio or max(math.ceil(side), 0) for side in (high, wide))
        for c in range(maps.shape[1]):
            for i in range(bins[0]):
                for j in range(bins[1]):
                    values = [
                        sample(
                            maps[int(batch), c],
                            y1 + (i + (a + 0.5) / rows) * high,
                            x1 + (j + (b + 0.5) / columns) * wide,
                        )
                        for a in range(rows)
                        for b in range(columns)
                    ]
                    output[r, c, i, j] = sum(values) / max(len(values), 1)
    return output


def case(dtype: torch.dtype = torch.float64, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return maps of an odd size, and regions within, across edges, empty and outside."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, channels, 9, 13, generator=generator, dtype=torch.float64)
    rois = torch.tensor(
        [
            [0, 1.3, 0.2, 8.9, 5.1],
            [1, -6.0, -3.0, 4.2, 2.2],
            [1, 5.0, 2.0, 30.0, 40.0],
            [0, 3.0, 3.0, 3.0, 8.0],
            [1, 40.0, 40.0, 50.0, 50.0],
            [0, -0.4, -0.3, 13.2, 9.1],
            [1, 4.25, 3.5, 4.5, 3.75],
        ],
        dtype=torch.float64,
    )
    return maps.to(dtype), rois.to(dtype)


@pytest.mark.parametrize(("sampling_ratio", "aligned"), OPTIONS)
def test_values_equal_loops_and_gradients_finite_differences(
    sampling_ratio: int, aligned: bool, kernel: str
) -> None:
    maps, rois = case()
    options = {"spatial_scale": 0.75, "sampling_ratio": sampling_ratio, "aligned": aligned}
    got = public(maps, rois, (2, 3), **options)
    torch.testing.assert_close(got, by_loops(maps, rois, (2, 3), **options))
    leaf = maps.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: public(x, rois, (2, 3), **options), leaf)


# More channels than a thread's share in the backward pass, and not a multiple of it.
@pytest.mark.parametrize("channels", [1, 16, 37])
def test_float32_and_half_equal_float64(channels: int, kernel: str) -> None:
    maps, rois = case(channels=channels)
    grad = torch.randn(len(rois), channels, 5, 7, generator=torch.Generator().manual_seed(2))
    wanted = _value_and_gradient(maps, rois, grad.double())
    # Rounding of sums of products of order one: 24, 11 and 8 bits.
    for dtype, bound in ((torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 6e-2)):
        got = _value_and_gradient(maps.to(dtype), rois.float(), grad.to(dtype))
        for ours, exact in zip(got, wanted, strict=True):
            assert ours.dtype == dtype
            assert (ours.double() - exact).abs().max() <= bound * exact.abs().max()


def _value_and_gradient(maps: Tensor, rois: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    leaf = maps.detach().clone().requires_grad_()
    output = public(leaf, rois, (5, 7), spatial_scale=0.5)
    (gradient,) = torch.autograd.grad(output, leaf, grad)
    return output.detach(), gradient


def test_results_do_not_depend_on_threads_or_layout() -> None:
    maps, rois = case(torch.float32, channels=40)
    grad = torch.randn(len(rois), 40, 5, 7, generator=torch.Generator().manual_seed(2))
    wanted = _value_and_gradient(maps, rois, grad)
    last = maps.contiguous(memory_format=torch.channels_last)
    for threads, given in ((2, maps), (3, last), (1, last)):
        torch.set_num_threads(threads)
        try:
            got = _value_and_gradient(given, rois, grad)
        finally:
            torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_regions_that_are_not_finite_or_far_larger_than_the_map_are_harmless() -> None:
    maps = torch.ones(1, 2, 4, 6)
    odd = [[math.nan, 0, 3, 3], [-math.inf, 0, math.inf, 3], [5, 5, 1, 1], [1e20, 0, 2e20, 3]]
    huge = [-1e6, -1e6, 1e6, 1e6]
    rois = torch.tensor([[0.0, *sides] for sides in [*odd, huge]])
    got = public(maps, rois, (1, 1), spatial_scale=1.0)
    assert not got[:4].any()
    # One sample a cell, of 2e6 cells along an axis. Those from -1 to the map's size count: 5 or 6
    # along the 4 rows and 7 or 8 along the 6 columns, as places of 1e6 cells are rounded.
    assert (got[4] > 4.9 * 6.9 / 4e12).all() and (got[4] < 6.1 * 8.1 / 4e12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    maps, rois = case(torch.float32)
    maps = maps.to(dtype)
    options = {"output_size": [5, 7], "spatial_scale": 0.5, "sampling_ratio": 0, "aligned": True}
    operators = torch.ops.bevstack
    torch.library.opcheck(operators.roi_align, (maps.requires_grad_(), rois), options)
    grad = torch.randn(len(rois), 3, 5, 7).to(dtype)
    torch.library.opcheck(operators.roi_align_backward, (grad, maps.detach(), rois), options)


def test_second_derivatives_are_refused() -> None:
    maps, rois = case()
    output = public(maps.requires_grad_(), rois, (2, 2), spatial_scale=1.0)
    (gradient,) = torch.autograd.grad(
        output, maps, torch.ones_like(output).requires_grad_(), create_graph=True
    )
    with pytest.raises(NotImplementedError, match="twice"):
        gradient.sum().backward()


def test_no_region_gives_no_rows_and_a_zero_gradient(kernel: str) -> None:
    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    got = public(maps, torch.zeros(0, 5), (7, 7), spatial_scale=0.25)
    assert got.shape == (0, 2, 7, 7)
    got.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def test_wrong_input_is_named(kernel: str) -> None:
    maps = torch.randn(2, 2, 4, 4)
    with pytest.raises(ValueError, match="rois"):
        public(maps, torch.zeros(3, 4), (7, 7), spatial_scale=0.25)
    with pytest.raises(ValueError, match="output_size"):
        public(maps, torch.zeros(3, 5), (0, 7), spatial_scale=0.25)
    with pytest.raises(TypeError, match="maps"):
        public(maps.int(), torch.zeros(3, 5), (7, 7), spatial_scale=0.25)
    for index in (-1.0, 2.0):
        rois = torch.tensor([[index, 0.0, 0.0, 3.0, 3.0]])
        with pytest.raises(ValueError, match=r"rois must be of images 0\.\.1"):
            public(maps, rois, (7, 7), spatial_scale=1.0)


def test_the_compiled_kernel_is_used_if_it_exists() -> None:
    infos = {i.operator: i.kernel for i in ops.kernels() if i.device == "cpu"}
    wanted = "native" if ops.native_problem() is None else "reference"
    assert infos["roi_align"] == infos["roi_align_backward"] == wanted
