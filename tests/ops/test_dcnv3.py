from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from bevstack import ops
from tests.conftest import shared_dir
from tests.ops import naive
from tests.ops.calls import KERNELS, TOLERANCE, assert_close, values_and_gradients

NAMES = ("output", "grad_input", "grad_offset", "grad_mask")
Options = dict[str, Any]


class Case(NamedTuple):
    tensors: tuple[np.ndarray, np.ndarray, np.ndarray]  # input, offset, mask
    grad_output: np.ndarray
    options: Options

    def wanted(self) -> tuple[np.ndarray, ...]:
        return naive.dcnv3(*self.tensors, self.grad_output, **self.options)

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
        arrays = (*self.tensors, self.grad_output)
        return tuple(torch.tensor(a, dtype=dtype, device=device) for a in arrays)


def options(**changes: Any) -> Options:
    usual = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return {**usual, "groups": 2, **changes}


def make_case(
    size: tuple[int, int] = (5, 7), batch: int = 2, depth: int = 4, seed: int = 0, **changes: Any
) -> Case:
    """Return a random case whose numbers are exact in float32."""
    random = np.random.default_rng(seed)
    chosen = options(**changes)
    points = chosen["kernel_size"][0] * chosen["kernel_size"][1]
    points = (points - int(chosen.get("remove_center", False))) * chosen["groups"]
    output = ops.dcnv3_output_size(
        size, *(chosen[k] for k in ("kernel_size", "stride", "padding", "dilation"))
    )

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32).astype(np.float64)

    channels = depth * chosen["groups"]
    tensors = (
        draw(batch, *size, channels),
        draw(batch, *output, points * 2),
        draw(batch, *output, points),
    )
    return Case(tensors, draw(batch, *output, channels), chosen)


AWKWARD = {
    "plain": make_case(),
    "one_image": make_case(batch=1, size=(4, 6), depth=3, groups=3),
    "no_image": make_case(batch=0),
    "unequal_padding": make_case(kernel_size=(3, 5), padding=(0, 3), offset_scale=0.75),
    "unequal_stride": make_case(size=(9, 8), stride=(2, 3), padding=(2, 1), groups=1, depth=5),
    "unequal_dilation": make_case(size=(8, 9), dilation=(3, 2), padding=(3, 1), offset_scale=1.5),
    "even_kernel": make_case(kernel_size=(2, 4), padding=(1, 2), dilation=(2, 1), depth=1),
    "without_center": make_case(kernel_size=(5, 3), remove_center=True, padding=(2, 1)),
    "softmax": make_case(softmax=True, groups=3, depth=8, seed=3),
    "softmax_without_center": make_case(softmax=True, remove_center=True, offset_scale=2.0),
    "sixteen_channels": make_case(depth=16, offset_scale=2.0, seed=4),
    "sixteen_channels_softmax": make_case(depth=16, softmax=True, batch=1, seed=5),
    "thirty_two_channels": make_case(depth=32, size=(3, 5), seed=6),
    "seventeen_channels": make_case(depth=17, size=(3, 4), groups=1, seed=7),
    "forty_eight_channels": make_case(depth=48, size=(3, 3), groups=1, softmax=True, seed=8),
    "one_pixel": make_case(size=(1, 1), depth=16, batch=1),
    "large_kernel": make_case(kernel_size=(5, 5), padding=(2, 2), size=(4, 3), depth=16, batch=1),
    "large_kernel_softmax": make_case(
        kernel_size=(5, 7), padding=(2, 3), size=(3, 4), depth=16, groups=5, softmax=True
    ),
    "kernel_of_more_points_than_a_block": make_case(
        kernel_size=(13, 15), padding=(6, 7), size=(3, 2), groups=2, softmax=True
    ),
    "many_groups_softmax": make_case(size=(3, 4), groups=37, depth=16, softmax=True, batch=1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", AWKWARD)
def test_values_and_gradients_equal_plain_loops(
    name: str, kernel: str, dtype: torch.dtype, device: torch.device
) -> None:
    case = AWKWARD[name]
    *tensors, grad_output = case.to(dtype, device)
    got = values_and_gradients(kernel, "dcnv3", tensors, grad_output, **case.options)
    assert_close(got, case.wanted(), TOLERANCE[dtype], NAMES)


def _oracle_cases(family: str) -> list[Any]:
    shared = shared_dir()
    if shared is None:
        return [pytest.param("", {}, marks=pytest.mark.oracle(family), id="absent")]
    listed = json.loads((shared / "oracle" / "internimage" / f"{family}_cases.json").read_text())
    stems = [f"{family}_{case['name'].removeprefix(f'{family}_')}" for case in listed]
    return [
        pytest.param(stem, case, marks=pytest.mark.oracle(stem), id=stem)
        for stem, case in zip(stems, listed, strict=True)
    ]


def _oracle_options(case: dict[str, Any]) -> Options:
    def pair(name: str) -> tuple[int, int]:
        if name in case:
            return case[name], case[name]
        return case[f"{name}_h"], case[f"{name}_w"]

    return {
        "kernel_size": pair("kernel"),
        "stride": pair("stride"),
        "padding": pair("pad"),
        "dilation": pair("dilation"),
        "groups": case["group"],
        "offset_scale": case["offset_scale"],
        "remove_center": bool(case["remove_center"]),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("stem", "case"), _oracle_cases("dcnv3"))
def test_official_dcnv3_numbers(
    stem: str,
    case: dict[str, Any],
    kernel: str,
    dtype: torch.dtype,
    device: torch.device,
    oracle_dir: Path,
) -> None:
    stored = np.load(oracle_dir / "internimage" / f"{stem}.npz")
    arrays = (stored[name] for name in ("input", "offset", "mask", "grad_output"))
    *tensors, grad_output = (torch.tensor(a, dtype=dtype, device=device) for a in arrays)
    got = values_and_gradients(kernel, "dcnv3", tensors, grad_output, **_oracle_options(case))
    wanted = [stored[f"exact64_{name}"] for name in NAMES]
    assert_close(got, wanted, TOLERANCE[dtype], NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("stem", "case"), _oracle_cases("dcnv4"))
def test_dcnv4_numbers_by_unpacking_its_offsets_and_masks(
    stem: str,
    case: dict[str, Any],
    kernel: str,
    dtype: torch.dtype,
    device: torch.device,
    oracle_dir: Path,
) -> None:
    stored = np.load(oracle_dir / "internimage" / f"{stem}.npz")
    groups, chosen = case["group"], _oracle_options(case)

    def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        used = packed[..., : case["used_width"]]
        by_group = used.reshape(*packed.shape[:3], groups, -1)
        points = by_group.shape[-1] // 3
        parts = by_group[..., : 2 * points], by_group[..., 2 * points :]
        return tuple(part.reshape(*packed.shape[:3], -1) for part in parts)

    arrays = (stored["input"], *unpack(stored["offset_mask"]), stored["grad_output"])
    *tensors, grad_output = (torch.tensor(a, dtype=dtype, device=device) for a in arrays)
    got = values_and_gradients(kernel, "dcnv3", tensors, grad_output, **chosen)
    wanted = [
        stored["exact64_output"],
        stored["exact64_grad_input"],
        *unpack(stored["exact64_grad_offset_mask"]),
    ]
    assert_close(got, wanted, TOLERANCE[dtype], NAMES)


@pytest.mark.parametrize("depth", [3, 16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_points_that_are_nan_infinite_or_far_contribute_exactly_nothing(
    kernel: str, depth: int, device: torch.device
) -> None:
    case = make_case(depth=depth, seed=11)
    values, offset, mask, grad_output = case.to(torch.float32, device)
    invalid_numbers = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e9]
    pairs = offset.view(-1, 2)
    invalid = torch.arange(0, pairs.shape[0], 3, device=device)
    for k, number in enumerate(invalid_numbers):
        pairs[invalid[k :: len(invalid_numbers)], k % 2] = number
    with_invalid = values_and_gradients(
        kernel, "dcnv3", (values, offset, mask), grad_output, **case.options
    )
    masked = mask.clone()
    masked.view(-1)[invalid] = 0.0
    pairs[invalid] = 0.0
    output, grad_input, grad_offset, grad_mask = values_and_gradients(
        kernel, "dcnv3", (values, offset, masked), grad_output, **case.options
    )
    grad_mask.view(-1)[invalid] = 0.0  # not 0 here, because the masked point is valid
    for got, wanted in zip(with_invalid, (output, grad_input, grad_offset, grad_mask), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)  # sums in another order
    assert (with_invalid[2].view(-1, 2)[invalid] == 0).all()
    assert (with_invalid[3].view(-1)[invalid] == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mask_that_is_not_finite_is_ignored_at_an_invalid_point(kernel: str) -> None:
    case = make_case(depth=16)
    values, offset, mask, grad_output = case.to(torch.float32)
    offset.view(-1, 2)[5] = float("inf")
    mask.view(-1)[5] = float("nan")
    got = values_and_gradients(kernel, "dcnv3", (values, offset, mask), grad_output, **case.options)
    assert all(torch.isfinite(tensor).all() for tensor in got)


@pytest.mark.parametrize("depth", [4, 16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_pixel_that_is_not_finite_affects_only_the_points_that_sample_it(
    kernel: str, depth: int
) -> None:
    case = make_case(size=(6, 9), depth=depth, batch=1)
    values, offset, mask, grad_output = case.to(torch.float32)
    values[0, 0, 0] = float("nan")  # corners outside the image must not be read from here
    values[0, 5, 8] = float("nan")
    offset.clamp_(-0.5, 0.5)
    got = values_and_gradients(kernel, "dcnv3", (values, offset, mask), grad_output, **case.options)
    reads = torch.zeros(6, 9, dtype=torch.bool)  # a point is at most 1.5 pixels from its output
    reads[:3, :3] = reads[3:, 6:] = True
    assert torch.isfinite(got[0][0, ~reads]).all()  # border outputs sample outside the image too
    assert torch.isnan(got[0][0, 0, 0]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_integer_position_has_the_right_hand_derivative(kernel: str) -> None:
    values = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64).view(1, 1, 3, 1)
    offset = torch.zeros(1, 1, 3, 2, dtype=torch.float64)
    mask = torch.ones(1, 1, 3, 1, dtype=torch.float64)
    grad_output = torch.ones(1, 1, 3, 1, dtype=torch.float64)
    chosen = options(kernel_size=(1, 1), padding=(0, 0), groups=1)
    _, _, grad_offset, _ = values_and_gradients(
        kernel, "dcnv3", (values, offset, mask), grad_output, **chosen
    )
    assert grad_offset[..., 0].flatten().tolist() == [9.0, 90.0, -100.0]  # outside: 0
    assert grad_offset[..., 1].flatten().tolist() == [-1.0, -10.0, -100.0]


@pytest.mark.parametrize("depth", [3, 16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_image_does_not_depend_on_its_batch(kernel: str, depth: int) -> None:
    case = make_case(size=(5, 5), batch=3, depth=depth, groups=3)
    *tensors, grad_output = case.to(torch.float32)
    together = values_and_gradients(kernel, "dcnv3", tensors, grad_output, **case.options)
    for k in range(3):
        single = [tensor[k : k + 1] for tensor in tensors]
        alone = values_and_gradients(
            kernel, "dcnv3", single, grad_output[k : k + 1], **case.options
        )
        for got, wanted in zip(together, alone, strict=True):
            assert torch.equal(got[k : k + 1], wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_only_the_stored_numbers(
    dtype: torch.dtype, softmax: bool, kernel: str, device: torch.device
) -> None:
    case = make_case(depth=16, softmax=softmax, seed=9)
    values, offset, mask, grad_output = case.to(torch.float32, device)
    values, grad_output = values.to(dtype), grad_output.to(dtype)
    rounded = Case(
        (values.double().cpu().numpy(), case.tensors[1], case.tensors[2]),
        grad_output.double().cpu().numpy(),
        case.options,
    )
    got = values_and_gradients(kernel, "dcnv3", (values, offset, mask), grad_output, **case.options)
    assert [t.dtype for t in got] == [dtype, dtype, torch.float32, torch.float32]
    wanted = rounded.wanted()
    # Only results of the half type are rounded to it; the remaining ones are float32.
    stored = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
    assert_close(got[:2], wanted[:2], stored, NAMES[:2])
    assert_close(got[2:], wanted[2:], TOLERANCE[torch.float32], NAMES[2:])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float32),
        (torch.bfloat16, torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float16, torch.float32),
        (torch.float32, torch.float16, torch.float32),
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
    got = values_and_gradients(kernel, "dcnv3", tensors, grad_output, **case.options)
    assert [tensor.dtype for tensor in got] == [dtypes[0], *dtypes]
    rounded = [tensor.double().numpy() for tensor in tensors]
    wanted = naive.dcnv3(*rounded, grad_output.double().numpy(), **case.options)
    for k, dtype in enumerate((dtypes[0], *dtypes)):
        tolerance = torch.finfo(dtype).eps / 2 + TOLERANCE[torch.float32]
        assert_close(got[k : k + 1], wanted[k : k + 1], tolerance, NAMES[k : k + 1])
