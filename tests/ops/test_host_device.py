"""Code of the CUDA kernels on the CPU, lane by lane, compared with plain loops.

The kernels are written for a warp type, which on the CPU is a loop over 32 lanes. So these tests
cover positions, corners, weights, gradients, tiles and the exchanges between lanes without a GPU.
They do not cover the compiler's output, memory order and atomic additions.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from tests.ops import test_dcnv3, test_ms_deform_attn
from tests.ops.calls import TOLERANCE, assert_close, values_and_gradients
from tests.ops.host_device import TYPES, Runner

# A device with one multiprocessor gets the largest tiles, one with many the smallest.
PROCESSORS = (1, 4000)


MORE_DCNV3 = {
    "all_points_in_two_sweeps": test_dcnv3.make_case(
        kernel_size=(5, 5), padding=(2, 2), size=(4, 3), depth=16, batch=1, softmax=True
    ),
    "two_sweeps_of_single_channels": test_dcnv3.make_case(
        kernel_size=(3, 5),
        padding=(1, 2),
        size=(3, 4),
        depth=37,
        groups=3,
        softmax=True,
        remove_center=True,
    ),
    "more_groups_than_a_tile_has": test_dcnv3.make_case(size=(3, 2), depth=16, groups=21, batch=3),
    "tiles_that_do_not_divide": test_dcnv3.make_case(size=(17, 11), depth=1, groups=1, batch=3),
}
DCNV3 = {**test_dcnv3.AWKWARD, **MORE_DCNV3}
MORE_ATTENTION = {
    "nine_levels": test_ms_deform_attn.make_case(
        depth=32, heads=1, queries=70, points=1, spatial_shapes=((2, 3),) * 9
    ),
}
ATTENTION = {**test_ms_deform_attn.AWKWARD, **MORE_ATTENTION}


@pytest.mark.parametrize("fixed_point", [False, True], ids=["floating", "fixed_point"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", DCNV3)
def test_dcnv3_equals_plain_loops(
    library: ctypes.CDLL, name: str, dtype: torch.dtype, fixed_point: bool
) -> None:
    case = DCNV3[name]
    *tensors, grad_output = case.to(dtype)
    wanted = case.wanted()
    for processors in PROCESSORS:
        runner = Runner(library, processors=processors, fixed_point=fixed_point)
        got = runner.dcnv3(tensors, grad_output, case.options)
        assert_close(got, wanted, TOLERANCE[dtype], test_dcnv3.NAMES)


@pytest.mark.parametrize("fixed_point", [False, True], ids=["floating", "fixed_point"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ATTENTION)
def test_ms_deform_attn_equals_plain_loops(
    library: ctypes.CDLL, name: str, dtype: torch.dtype, fixed_point: bool
) -> None:
    case = ATTENTION[name]
    *tensors, grad_output = case.to(dtype)
    wanted = case.wanted()
    for processors in PROCESSORS:
        runner = Runner(library, processors=processors, fixed_point=fixed_point)
        got = runner.ms_deform_attn(tensors, grad_output, case.options())
        assert_close(got, wanted, TOLERANCE[dtype], test_ms_deform_attn.NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("stem", "case"), test_dcnv3._oracle_cases("dcnv3"))
def test_dcnv3_gives_the_official_numbers(
    library: ctypes.CDLL, stem: str, case: dict[str, Any], dtype: torch.dtype, oracle_dir: Path
) -> None:
    stored = np.load(oracle_dir / "internimage" / f"{stem}.npz")
    arrays = (stored[name] for name in ("input", "offset", "mask", "grad_output"))
    *tensors, grad_output = (torch.tensor(a, dtype=dtype) for a in arrays)
    options = test_dcnv3._oracle_options(case)
    got = Runner(library).dcnv3(tensors, grad_output, options)
    wanted = [stored[f"exact64_{name}"] for name in test_dcnv3.NAMES]
    assert_close(got, wanted, TOLERANCE[dtype], test_dcnv3.NAMES)


@pytest.mark.parametrize(
    "stem", [pytest.param(n, marks=pytest.mark.oracle(n)) for n in test_ms_deform_attn.ORACLE]
)
def test_ms_deform_attn_gives_the_official_numbers(
    library: ctypes.CDLL, stem: str, oracle_dir: Path
) -> None:
    stored = load_file(oracle_dir / "bevformer_v2" / f"{stem}.safetensors")
    given = ("value", "sampling_locations", "attention_weights", "grad_out")
    *tensors, grad_output = (torch.tensor(stored[f"in/{n}"]) for n in given)
    shapes = [tuple(pair) for pair in stored["in/spatial_shapes"].tolist()]
    got = Runner(library).ms_deform_attn(tensors, grad_output, {"spatial_shapes": shapes})
    # For the tolerances and the five omitted queries, see the reasons in test_ms_deform_attn.py.
    trimmed = [got[0], got[1], got[2][:, 5:], got[3]]
    wanted = [stored[f"out/{n}"] for n in ("output", "grad_value", "grad_loc", "grad_attn")]
    wanted[2] = wanted[2][:, 5:]
    for tensor, array, tolerance in zip(trimmed, wanted, (1e-5, 1e-5, 5e-5, 1e-5), strict=True):
        expected = torch.from_numpy(array)
        torch.testing.assert_close(tensor, expected, rtol=tolerance, atol=tolerance)


INVALID_NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e9)


@pytest.mark.parametrize("fixed_point", [False, True], ids=["floating", "fixed_point"])
@pytest.mark.parametrize("depth", [3, 16, 32])
def test_points_that_are_nan_infinite_or_far_contribute_exactly_nothing(
    library: ctypes.CDLL, depth: int, fixed_point: bool
) -> None:
    case = test_dcnv3.make_case(depth=depth, seed=11)
    values, offset, mask, grad_output = case.to(torch.float32)
    pairs = offset.view(-1, 2)
    invalid = torch.arange(0, pairs.shape[0], 3)
    for k, number in enumerate(INVALID_NUMBERS):
        pairs[invalid[k :: len(INVALID_NUMBERS)], k % 2] = number
    mask.view(-1)[invalid[::2]] = float("nan")
    runner = Runner(library, fixed_point=fixed_point)
    with_invalid = runner.dcnv3((values, offset, mask), grad_output, case.options)
    pairs[invalid] = 1e3
    mask.view(-1)[invalid] = 0.0
    without = runner.dcnv3((values, offset, mask), grad_output, case.options)
    for got, wanted in zip(with_invalid, without, strict=True):
        assert torch.equal(got, wanted)
    assert (with_invalid[2].view(-1, 2)[invalid] == 0).all()
    assert (with_invalid[3].view(-1)[invalid] == 0).all()


def test_an_integer_position_has_the_right_hand_derivative(library: ctypes.CDLL) -> None:
    values = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1)
    options = test_dcnv3.options(kernel_size=(1, 1), padding=(0, 0), groups=1)
    tensors = (values, torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 3, 1))
    _, _, grad_offset, _ = Runner(library).dcnv3(tensors, torch.ones(1, 1, 3, 1), options)
    assert grad_offset[..., 0].flatten().tolist() == [9.0, 90.0, -100.0]  # outside: 0
    assert grad_offset[..., 1].flatten().tolist() == [-1.0, -10.0, -100.0]


@pytest.mark.parametrize("width", [7, 50, 200])
def test_the_location_of_a_pixel_centre_has_the_right_hand_derivative(
    library: ctypes.CDLL, width: int
) -> None:
    value = torch.arange(1.0, width + 1).square().view(1, width, 1, 1)
    # Like in the reference: round after the product and after the difference.
    location = (torch.arange(width, dtype=torch.float32) + 0.5) / width
    exact = location * width - 0.5 == torch.arange(width)
    assert exact.sum() > 0.9 * width
    locations = torch.stack((location, torch.full_like(location, 0.5)), -1)
    tensors = (value, locations.view(1, width, 1, 1, 1, 2), torch.ones(1, width, 1, 1, 1))
    options = {"spatial_shapes": ((1, width),)}
    got = Runner(library).ms_deform_attn(tensors, torch.ones(1, width, 1), options)
    squares = value.flatten()
    after = torch.cat((squares[1:], torch.zeros(1))) - squares
    assert torch.equal(got[2][0, :, 0, 0, 0, 0][exact], (after * width)[exact])


@pytest.mark.parametrize("offset_dtype", [torch.float32, None], ids=["float32", "the_same"])
@pytest.mark.parametrize("depth", [16, 32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_only_the_stored_numbers(
    library: ctypes.CDLL, dtype: torch.dtype, depth: int, offset_dtype: torch.dtype | None
) -> None:
    case = test_dcnv3.make_case(size=(6, 5), depth=depth, softmax=True, seed=9)
    values, offset, mask, grad_output = case.to(torch.float32)
    kinds = (dtype, offset_dtype or dtype, offset_dtype or dtype)
    tensors = [t.to(kind) for t, kind in zip((values, offset, mask), kinds, strict=True)]
    grad_output = grad_output.to(dtype)
    rounded = test_dcnv3.Case(
        tuple(t.double().numpy() for t in tensors), grad_output.double().numpy(), case.options
    )
    wanted = rounded.wanted()
    got = Runner(library).dcnv3(tensors, grad_output, case.options)
    for k, kind in enumerate((dtype, *kinds)):
        stored = torch.finfo(kind).eps / 2 + TOLERANCE[torch.float32]
        assert_close(got[k : k + 1], wanted[k : k + 1], stored, test_dcnv3.NAMES[k : k + 1])


@pytest.mark.parametrize(
    ("size", "groups", "depth"), [((20, 50), 96, 16), ((7, 7), 80, 16), ((10, 13), 40, 32)], ids=str
)
def test_the_last_stages_of_large_models_equal_the_reference(
    library: ctypes.CDLL, size: tuple[int, int], groups: int, depth: int
) -> None:
    # More than 1024 channels, sizes that tiles do not divide, an odd batch. Plain loops would take
    # minutes here; another test compares the reference with them.
    options = test_dcnv3.options(groups=groups, offset_scale=2.0, softmax=True)
    generator = torch.Generator().manual_seed(3)

    def draw(width: int) -> Tensor:
        return torch.randn(3, *size, width, generator=generator)

    # Multiples of 1/256 make every position exact in float32. Otherwise some of 2.6 million points
    # would be rounded across an integer, to a different derivative.
    offset = (draw(groups * 18) * 256).round() / 256
    tensors = (draw(groups * depth), offset, draw(groups * 9))
    grad_output = draw(groups * depth)
    wide = [t.double() for t in tensors]
    wanted = values_and_gradients("reference", "dcnv3", wide, grad_output.double(), **options)
    runner = Runner(library, processors=132)
    got = runner.dcnv3(tensors, grad_output, options)
    assert runner.depth == depth
    assert_close(got, [w.numpy() for w in wanted], TOLERANCE[torch.float32], test_dcnv3.NAMES)


def test_each_number_of_channels_runs_its_kernel(library: ctypes.CDLL) -> None:
    kernel_depths = {}
    for depth in (1, 8, 16, 17, 32, 33, 64):
        case = test_dcnv3.make_case(size=(2, 3), depth=depth, batch=1)
        runner = Runner(library)
        halves = (torch.float16, torch.bfloat16) if depth in (16, 32) else ()
        for dtype in (torch.float32, torch.float64, *halves):
            *tensors, grad_output = case.to(dtype)
            runner.dcnv3(tensors, grad_output, case.options)
            kernel_depths[depth, dtype] = runner.depth
    for (depth, dtype), chosen in kernel_depths.items():
        assert chosen == (depth if depth in (16, 32) and dtype != torch.float64 else 0)


@pytest.mark.parametrize("depth", [3, 16])
def test_an_image_does_not_depend_on_its_batch(library: ctypes.CDLL, depth: int) -> None:
    case = test_dcnv3.make_case(size=(5, 5), batch=3, depth=depth, groups=3)
    *tensors, grad_output = case.to(torch.float32)
    together = Runner(library).dcnv3(tensors, grad_output, case.options)
    for k in range(3):
        single = [tensor[k : k + 1] for tensor in tensors]
        alone = Runner(library).dcnv3(single, grad_output[k : k + 1], case.options)
        for index, (got, wanted) in enumerate(zip(together, alone, strict=True)):
            # Threads add to the gradient to the input in any order.
            allowed = 2e-6 if index == 1 else 0.0
            torch.testing.assert_close(got[k : k + 1], wanted, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fixed_point_sums_do_not_depend_on_the_order(
    library: ctypes.CDLL, dtype: torch.dtype
) -> None:
    case = test_dcnv3.make_case(size=(12, 15), depth=3, batch=1, seed=21)
    *tensors, grad_output = case.to(dtype)
    grad_output *= 10.0 ** torch.randint(-12, 3, grad_output.shape).to(dtype)
    results = [
        Runner(library, processors=processors, fixed_point=fixed_point).dcnv3(
            tensors, grad_output, case.options
        )
        for fixed_point in (True, False)
        for processors in PROCESSORS
    ]
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[2][1], results[3][1])  # floating: tiles in another order
    tolerance = TOLERANCE[dtype] * results[2][1].abs().max().item()
    torch.testing.assert_close(results[0][1], results[2][1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e30])
def test_fixed_point_sums_fit_any_magnitude(library: ctypes.CDLL, scale: float) -> None:
    case = test_dcnv3.make_case(depth=4)
    *tensors, grad_output = case.to(torch.float32)
    got = Runner(library, fixed_point=True).dcnv3(tensors, grad_output * scale, case.options)
    wanted = case.wanted()[1] * scale
    assert_close(got[1:2], [wanted], TOLERANCE[torch.float32], ["grad_input"])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_fixed_point_sums_are_nan_only_where_an_addend_is_not_finite(
    library: ctypes.CDLL, number: float
) -> None:
    case = test_dcnv3.make_case(size=(6, 9), depth=4, batch=1)
    *tensors, grad_output = case.to(torch.float32)
    grad_output[0, 0, 0, 0] = number
    floating = Runner(library).dcnv3(tensors, grad_output, case.options)[1]
    fixed = Runner(library, fixed_point=True).dcnv3(tensors, grad_output, case.options)[1]
    assert not torch.isfinite(floating).all()
    assert torch.equal(torch.isnan(fixed), ~torch.isfinite(floating))
    finite = torch.isfinite(floating)
    torch.testing.assert_close(fixed[finite], floating[finite], rtol=0, atol=2e-6)


@pytest.mark.parametrize("processors", [1, 20, 132, 10000])
@pytest.mark.parametrize(
    "outputs",
    [(1, 1, 1, 1), (3, 20, 50, 96), (2, 7, 7, 80), (3, 5, 5, 3), (1, 1, 1000, 8), (5, 1, 63, 1),
     (0, 4, 4, 2), (2, 0, 3, 2), (1, 17, 1, 13), (2, 9, 65, 7)],
    ids=str,
)  # fmt: skip
def test_tiles_hold_each_item_once(
    library: ctypes.CDLL, outputs: tuple[int, int, int, int], processors: int
) -> None:
    for group_bytes, least_items in ((32, 128), (64, 32), (2, 8), (1024, 64)):
        visits = np.zeros(outputs, dtype=np.int32)
        tiles = c_int64()
        images, height, width, groups = outputs
        library.count_items(
            c_int64(images),
            c_int64(height),
            c_int64(width),
            groups,
            group_bytes,
            least_items,
            processors,
            visits.ctypes.data_as(c_void_p),
            ctypes.byref(tiles),
        )
        assert (visits == 1).all()
        assert tiles.value <= visits.size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_numbers_are_rounded_like_in_torch(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    library.widen_from.restype = ctypes.c_float
    library.round_to.restype = ctypes.c_uint16
    library.round_to.argtypes = (c_int, ctypes.c_float)
    bits = torch.arange(0, 1 << 16, 7, dtype=torch.int32).to(torch.int16)
    wanted = bits.view(dtype).float()
    got = torch.tensor([library.widen_from(TYPES[dtype], int(b) & 0xFFFF) for b in bits])
    torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)
    finite = wanted[torch.isfinite(wanted)]
    between = torch.cat((finite * 1.0001, finite * 1.00195313, torch.tensor([65520.0, 3.4e38])))
    rounded = [library.round_to(TYPES[dtype], number) for number in between.tolist()]
    expected = between.to(dtype).view(torch.int16).to(torch.int32) & 0xFFFF
    assert rounded == expected.tolist()
