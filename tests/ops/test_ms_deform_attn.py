from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from bevstack import ops
from tests.ops import naive
from tests.ops.calls import KERNELS, TOLERANCE, assert_close, values_and_gradients

NAMES = ("output", "grad_value", "grad_locations", "grad_weights")
SHAPES = ((5, 7), (3, 4), (1, 2))


class Case(NamedTuple):
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray]  # value, locations, weights
    grad_output: np.ndarray
    spatial_shapes: tuple[tuple[int, int], ...]
    value_index: np.ndarray | None

    def wanted(self) -> tuple[np.ndarray, ...]:
        value, locations, weights = self.tensors
        images = self.value_index
        if images is None:
            images = np.repeat(np.arange(value.shape[0]), weights.shape[1])
        got = naive.ms_deform_attn(
            value,
            self.spatial_shapes,
            locations.reshape(len(images), *locations.shape[-4:]),
            weights.reshape(len(images), *weights.shape[-3:]),
            images.tolist(),
            self.grad_output.reshape(len(images), self.grad_output.shape[-1]),
        )
        inputs = (self.grad_output, value, locations, weights)
        return tuple(a.reshape(b.shape) for a, b in zip(got, inputs, strict=True))

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
        arrays = (*self.tensors, self.grad_output)
        return tuple(torch.tensor(a, dtype=dtype, device=device) for a in arrays)

    def options(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        index = None if self.value_index is None else torch.tensor(self.value_index, device=device)
        return {"spatial_shapes": self.spatial_shapes, "value_index": index}


def make_case(
    batch: int = 2,
    queries: int = 5,
    heads: int = 3,
    depth: int = 4,
    points: int = 2,
    spatial_shapes: tuple[tuple[int, int], ...] = SHAPES,
    index: list[int] | None = None,
    seed: int = 0,
) -> Case:
    """Return a random case whose numbers are exact in float32; a third of the points is outside."""
    random = np.random.default_rng(seed)
    rows = (batch, queries) if index is None else (len(index),)
    levels = len(spatial_shapes)

    def single(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float32).astype(np.float64)

    pixels = sum(h * w for h, w in spatial_shapes)
    value = single(random.standard_normal((batch, pixels, heads, depth)))
    locations = single(random.uniform(-0.3, 1.3, (*rows, heads, levels, points, 2)))
    weights = single(random.uniform(0, 1, (*rows, heads, levels, points)))
    grad_output = single(random.standard_normal((*rows, heads * depth)))
    value_index = None if index is None else np.array(index, dtype=np.int64)
    return Case((value, locations, weights), grad_output, spatial_shapes, value_index)


AWKWARD = {
    "plain": make_case(),
    "one_level": make_case(batch=1, spatial_shapes=((6, 4),), points=4, heads=1, depth=5),
    "no_image": make_case(batch=0),
    "no_query": make_case(queries=0),
    "packed_rows": make_case(batch=3, index=[2, 0, 0, 1, 2, 2, 0]),
    "packed_rows_of_one_image": make_case(batch=3, index=[1, 1]),
    "no_packed_row": make_case(index=[]),
    "thirty_two_channels": make_case(depth=32, heads=2, seed=3),
    "sixteen_channels_packed": make_case(depth=16, heads=2, points=3, index=[1, 0, 1], seed=4),
    "many_points": make_case(depth=8, points=9, queries=3, seed=5),
    "thirty_three_channels": make_case(depth=33, heads=1, points=1, seed=6),
    "sixty_four_channels": make_case(depth=64, heads=1, points=5, queries=2, seed=7),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", AWKWARD)
def test_values_and_gradients_equal_plain_loops(
    name: str, kernel: str, dtype: torch.dtype, device: torch.device
) -> None:
    case = AWKWARD[name]
    *tensors, grad_output = case.to(dtype, device)
    got = values_and_gradients(
        kernel, "ms_deform_attn", tensors, grad_output, **case.options(device)
    )
    assert_close(got, case.wanted(), TOLERANCE[dtype], NAMES)


ORACLE = ["msda_core_multi", "msda_core_single", "msda_core_tiny"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.oracle(n)) for n in ORACLE])
def test_official_numbers(
    name: str, kernel: str, dtype: torch.dtype, device: torch.device, oracle_dir: Path
) -> None:
    stored = load_file(oracle_dir / "bevformer_v2" / f"{name}.safetensors")
    given = ("value", "sampling_locations", "attention_weights", "grad_out")
    *tensors, grad_output = (
        torch.tensor(stored[f"in/{n}"], dtype=dtype, device=device) for n in given
    )
    shapes = [tuple(pair) for pair in stored["in/spatial_shapes"].tolist()]
    got = values_and_gradients(
        kernel, "ms_deform_attn", tensors, grad_output, spatial_shapes=shapes
    )
    # The first five queries are exactly on borders, where the official gradient to the location
    # depends on the rounding of its normalised coordinates.
    trimmed = [got[0], got[1], got[2][:, 5:], got[3]]
    wanted = [stored[f"out/{n}"] for n in ("output", "grad_value", "grad_loc", "grad_attn")]
    wanted[2] = wanted[2][:, 5:]
    # The stored numbers are float32, with a stated tolerance of 1e-5. Their gradients to the
    # location differ by up to 4e-5 from float64 arithmetic: 20 pixels wide, times a rounding of
    # 1e-6 pixel.
    for tensor, array, tolerance in zip(trimmed, wanted, (1e-5, 1e-5, 5e-5, 1e-5), strict=True):
        expected = torch.from_numpy(array).to(device, dtype)
        torch.testing.assert_close(tensor, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("depth", [3, 32])
@pytest.mark.parametrize("kernel", KERNELS)
def test_locations_that_are_nan_infinite_or_far_contribute_exactly_nothing(
    kernel: str, depth: int, device: torch.device
) -> None:
    case = make_case(depth=depth, seed=11)
    value, locations, weights, grad_output = case.to(torch.float32, device)
    invalid_numbers = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e9]
    pairs = locations.view(-1, 2)
    invalid = torch.arange(0, pairs.shape[0], 3, device=device)
    for k, number in enumerate(invalid_numbers):
        pairs[invalid[k :: len(invalid_numbers)], k % 2] = number
    weights.view(-1)[invalid[::2]] = float("nan")
    with_invalid = values_and_gradients(
        kernel, "ms_deform_attn", (value, locations, weights), grad_output, **case.options(device)
    )
    weights.view(-1)[invalid] = 0.0
    pairs[invalid] = 5.0
    without = values_and_gradients(
        kernel, "ms_deform_attn", (value, locations, weights), grad_output, **case.options(device)
    )
    for got, wanted in zip(with_invalid, without, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)  # sums in another order
    assert (with_invalid[2].view(-1, 2)[invalid] == 0).all()
    assert (with_invalid[3].view(-1)[invalid] == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_pixel_centre_has_the_right_hand_derivative(kernel: str) -> None:
    value = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64).view(1, 4, 1, 1)
    locations = torch.tensor([0.125, 0.375, 0.875, 0.5], dtype=torch.float64)
    locations = torch.stack((locations, torch.full_like(locations, 0.5)), -1).view(1, 4, 1, 1, 1, 2)
    weights = torch.ones(1, 4, 1, 1, 1, dtype=torch.float64)
    output, _, grad_locations, _ = values_and_gradients(
        kernel,
        "ms_deform_attn",
        (value, locations, weights),
        torch.ones(1, 4, 1, dtype=torch.float64),
        spatial_shapes=((1, 4),),
    )
    assert output.flatten().tolist() == [1.0, 10.0, 1000.0, 55.0]
    assert grad_locations[..., 0].flatten().tolist() == [36.0, 360.0, -4000.0, 360.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_rows_equal_full_batches(kernel: str, device: torch.device) -> None:
    case = make_case(batch=3, queries=4, depth=16)
    *tensors, grad_output = case.to(torch.float32, device)
    whole = values_and_gradients(
        kernel, "ms_deform_attn", tensors, grad_output, **case.options(device)
    )
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).to(device)
    value, locations, weights = tensors
    packed = values_and_gradients(
        kernel,
        "ms_deform_attn",
        (value, locations.flatten(0, 1)[order], weights.flatten(0, 1)[order]),
        grad_output.flatten(0, 1)[order],
        spatial_shapes=case.spatial_shapes,
        value_index=order // 4,
    )
    assert torch.equal(packed[0], whole[0].flatten(0, 1)[order])
    torch.testing.assert_close(packed[1], whole[1], rtol=0, atol=2e-6)  # sums in another order
    assert torch.equal(packed[2], whole[2].flatten(0, 1)[order])
    assert torch.equal(packed[3], whole[3].flatten(0, 1)[order])


def test_sizes_may_be_a_tensor_or_lists(device: torch.device) -> None:
    case = make_case()
    value, locations, weights, _ = case.to(torch.float32, device)
    wanted = ops.ms_deform_attn(value, case.spatial_shapes, locations, weights)
    for shapes in (torch.tensor(case.spatial_shapes), [list(s) for s in case.spatial_shapes]):
        assert torch.equal(ops.ms_deform_attn(value, shapes, locations, weights), wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_only_the_stored_numbers(
    dtype: torch.dtype, kernel: str, device: torch.device
) -> None:
    case = make_case(depth=32, seed=9)
    value, locations, weights, grad_output = case.to(torch.float32, device)
    value, grad_output = value.to(dtype), grad_output.to(dtype)
    got = values_and_gradients(
        kernel, "ms_deform_attn", (value, locations, weights), grad_output, **case.options(device)
    )
    assert [t.dtype for t in got] == [dtype, dtype, torch.float32, torch.float32]
    rounded = case._replace(
        tensors=(value.double().cpu().numpy(), *case.tensors[1:]),
        grad_output=grad_output.double().cpu().numpy(),
    )
    wanted = rounded.wanted()
    stored = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
    assert_close(got[:2], wanted[:2], stored, NAMES[:2])
    assert_close(got[2:], wanted[2:], TOLERANCE[torch.float32], NAMES[2:])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float32, torch.float64, torch.float32),
        (torch.float64, torch.float32, torch.float32),
        (torch.bfloat16, torch.float32, torch.bfloat16),
        (torch.float16, torch.float16, torch.float32),
    ],
    ids=str,
)
def test_gradients_have_the_types_of_mixed_tensors(
    dtypes: tuple[torch.dtype, ...], kernel: str
) -> None:
    case = make_case(depth=16, seed=10)
    *tensors, grad_output = case.to(torch.float64)
    tensors = [tensor.to(dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    grad_output = grad_output.to(dtypes[0])
    got = values_and_gradients(kernel, "ms_deform_attn", tensors, grad_output, **case.options())
    assert [tensor.dtype for tensor in got] == [dtypes[0], *dtypes]
    rounded = tuple(tensor.double().numpy() for tensor in tensors)
    wanted = case._replace(tensors=rounded, grad_output=grad_output.double().numpy()).wanted()
    for k, dtype in enumerate((dtypes[0], *dtypes)):
        tolerance = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
        assert_close(got[k : k + 1], wanted[k : k + 1], tolerance, NAMES[k : k + 1])
