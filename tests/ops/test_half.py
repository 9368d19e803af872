"""16-bit types: read and rounded like in torch, summed in float32, without a copy of an input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bevstack import ops
from tests.ops import naive, test_dcnv3, test_ms_deform_attn
from tests.ops.calls import TOLERANCE, assert_close, values_and_gradients
from tests.ops.test_native import needs_native

HALF_TYPES = (torch.float16, torch.bfloat16)
POINTWISE = {
    "kernel_size": (1, 1),
    "stride": (1, 1),
    "padding": (0, 0),
    "dilation": (1, 1),
}


def copied(values: Tensor, factors: Tensor, groups: int) -> Tensor:
    """Return each pixel times its factor: dcnv3 with one point and zero offset."""
    offset = torch.zeros(*factors.shape[:3], 2 * groups)
    return ops.dcnv3(values, offset, factors, groups=groups, **POINTWISE)


def every_number(dtype: torch.dtype) -> Tensor:
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    return bits.view(dtype)


# 7 channels: full registers, partial registers and single channels in every instruction set.
@pytest.mark.parametrize("depth", [16, 32, 28, 7])
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_every_number_is_read_exactly(dtype: torch.dtype, depth: int) -> None:
    numbers = every_number(dtype)
    numbers = numbers[~numbers.isinf()]  # infinity times a corner's weight of 0 is NaN
    values = numbers[: numbers.numel() // depth * depth].view(-1, 1, 1, depth)  # one-pixel images
    output = copied(values, torch.ones(values.shape[0], 1, 1, 1), groups=1)
    torch.testing.assert_close(output, values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("depth", [16, 28, 7])
@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
def test_results_are_rounded_to_the_nearest_even(dtype: torch.dtype, depth: int) -> None:
    generator = torch.Generator().manual_seed(2)
    any_bits = torch.randint(-(1 << 31), 1 << 31, (20000,), generator=generator)
    numbers = any_bits.to(torch.int32).view(torch.float32)
    near = every_number(dtype).float()
    between = (near[:-1].double() + near[1:].double()).div(2).float()  # ties, and the overflow edge
    factors = torch.cat((numbers, near, between, between.nextafter(torch.tensor(0.0))))
    factors = factors[torch.isfinite(factors)].view(1, 1, -1, 1)
    output = copied(torch.ones(1, 1, factors.shape[2], depth, dtype=dtype), factors, groups=1)
    assert torch.equal(output, factors.to(dtype).expand_as(output))


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("depth", [3, 16, 21, 32, 48])
def test_dcnv3_all_in_half_rounds_only_the_stored_numbers(
    depth: int, softmax: bool, dtype: torch.dtype, device: torch.device
) -> None:
    case = test_dcnv3.make_case(size=(5, 9), depth=depth, groups=3, softmax=softmax, seed=depth)
    *tensors, grad_output = (t.to(dtype) for t in case.to(torch.float32, device))
    got = values_and_gradients("dispatched", "dcnv3", tensors, grad_output, **case.options)
    assert {t.dtype for t in got} == {dtype}
    exact = [t.double().cpu().numpy() for t in (*tensors, grad_output)]
    wanted = naive.dcnv3(*exact, **case.options)
    # Each result is a float32 sum, rounded once.
    tolerance = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
    assert_close(got, wanted, tolerance, test_dcnv3.NAMES)


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("depth", [5, 16, 32])
def test_attention_all_in_half_rounds_only_the_stored_numbers(
    depth: int, dtype: torch.dtype, device: torch.device
) -> None:
    case = test_ms_deform_attn.make_case(queries=13, heads=3, depth=depth, seed=depth)
    *tensors, grad_output = (t.to(dtype) for t in case.to(torch.float32, device))
    got = values_and_gradients(
        "dispatched", "ms_deform_attn", tensors, grad_output, **case.options(device)
    )
    assert {t.dtype for t in got} == {dtype}
    rounded = case._replace(
        tensors=tuple(t.double().cpu().numpy() for t in tensors),
        grad_output=grad_output.double().cpu().numpy(),
    )
    # Each result is a float32 sum, rounded once.
    tolerance = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
    assert_close(got, rounded.wanted(), tolerance, test_ms_deform_attn.NAMES)


def peak_allocation(call: object) -> int:
    """Return the peak of torch's memory during a call, in bytes above the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = call()  # type: ignore[operator]
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    del kept
    return most


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, *HALF_TYPES], ids=str)
def test_no_input_is_copied_and_no_tensor_of_samples_is_made(dtype: torch.dtype) -> None:
    size, groups = (1, 40, 48), 4
    values = torch.randn(*size, groups * 16, dtype=dtype)
    offset = torch.randn(*size, groups * 18, dtype=dtype)
    mask = torch.randn(*size, groups * 9, dtype=dtype)
    options = {"groups": groups, "softmax": True, **test_dcnv3.options(groups=groups)}
    small = 1 << 10
    with torch.no_grad():
        peak = peak_allocation(lambda: ops.dcnv3(values, offset, mask, **options))
        assert values.nbytes <= peak <= values.nbytes + small  # only the output
        backward = torch.ops.bevstack.dcnv3_backward
        peak = peak_allocation(lambda: backward(values, values, offset, mask, **options))
    sums = 4 * values.numel() if dtype != torch.float32 else 0  # float32 gradient to the values
    gradients = values.nbytes + offset.nbytes + mask.nbytes
    assert gradients <= peak <= gradients + sums + small
