"""The GPU benchmark, run on the CPU with a fake clock and with our kernels as peers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import cuda_ops, device, peers
from benchmarks.cases import ATTENTION_SHAPES, DCNV3_SHAPES, Case, attention_case, dcnv3_case
from bevstack import ops

CPU = torch.device("cpu")
DCNV3_CASE = "small"
ATTENTION_CASE = "few"


@pytest.fixture(autouse=True)
def small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DCNV3_SHAPES, DCNV3_CASE, ((4, 6), 48, 3, 2.0))
    monkeypatch.setitem(ATTENTION_SHAPES, ATTENTION_CASE, (2, 12, ((4, 5), (2, 3))))


def convolution(images: int = 2) -> Case:
    return dcnv3_case(DCNV3_CASE, CPU, images)


def test_compulsory_bytes_of_a_convolution() -> None:
    case = convolution()
    pixels, channels, points = 2 * 4 * 6, 48, 3 * 9
    # Published count: 4 bytes of 2 C + 27 G numbers a pixel.
    assert case.bytes_forward() == 4 * pixels * (2 * channels + 3 * points)
    # Twice all inputs; output and its gradient; the three gradients.
    assert case.bytes_forward_backward() == 4 * pixels * (5 * channels + 9 * points)
    half = cuda_ops.in_type(case, torch.float16)
    assert half.bytes_forward() * 2 == case.bytes_forward()


def test_compulsory_bytes_of_attention() -> None:
    case = attention_case(ATTENTION_CASE, CPU)
    value, samples, output = 2 * 26 * 8 * 32, 2 * 12 * 8 * 2 * 8, 2 * 12 * 8 * 32
    assert case.bytes_forward() == 4 * (value + 3 * samples + output)
    assert case.bytes_forward_backward() == 4 * (3 * (value + 3 * samples) + 2 * output)


@pytest.mark.parametrize(
    ("set_bytes", "cache", "free", "wanted"),
    [
        (100, 1000, 10**6, 31),  # three times the cache, and the set in use
        (10**6, 1000, 10**9, 2),  # one set exceeds the cache
        (100, 1000, 500, 5),  # limited by the free memory
        (0, 1000, 0, 2),
    ],
)
def test_sets_of_buffers_exceed_the_cache(
    set_bytes: int, cache: int, free: int, wanted: int
) -> None:
    assert device.sets_needed(set_bytes, cache, free) == wanted


def test_buffer_sets_alternate_and_share_no_memory() -> None:
    sets = device.copies([torch.arange(3), torch.ones(2)], 3)
    addresses = {t.data_ptr() for tensors in sets for t in tensors}
    assert len(addresses) == 6
    assert all(torch.equal(tensors[0], torch.arange(3)) for tensors in sets)
    next_set = device.rotation(sets)
    assert [sets.index(next_set()) for _ in range(0)] == []
    order = [
        next(k for k, s in enumerate(sets) if s is used) for used in (next_set() for _ in range(7))
    ]
    assert order == [0, 1, 2, 0, 1, 2, 0]


class Clock:
    """Fake clock: each call takes one millisecond more; stores the results of the calls."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __call__(self, call: Callable[[], Any], count: int) -> list[float]:
        self.results.append([call() for _ in range(count)])
        return [0.001 * (k + 1) for k in range(count)]


def test_bandwidth_counts_reading_and_writing() -> None:
    # Twenty calls of 1 to 20 ms: the median is 10.5 ms.
    assert device.copy_bandwidth(CPU, Clock(), size=4096) == pytest.approx(2 * 4096 / 0.0105)


def test_a_row_holds_medians_and_fractions() -> None:
    case = convolution()
    clock = Clock()
    sides = cuda_ops.sides_of(case, {})
    row = cuda_ops.measure(case, sides, clock, bandwidth=1e9, sets=3)
    assert row["case"] == "dcnv3 small" and row["dtype"] == "float32" and row["sets"] == 3
    ms = (cuda_ops.CALLS + 1) / 2
    got = row["bevstack"]
    assert got["forward_ms"] == pytest.approx(ms)
    assert got["forward_backward_ms"] == pytest.approx(2 * ms)
    assert got["forward_fraction"] == round(case.bytes_forward() / (ms / 1e3) / 1e9, 3)
    outputs, gradients = clock.results
    assert len({t.data_ptr() for t in outputs}) > 1
    assert torch.equal(outputs[0], outputs[1])  # from different sets of equal numbers
    assert torch.equal(outputs[0], case.native(*case.tensors))
    assert all(torch.equal(a, b) for a, b in zip(gradients[0], gradients[1], strict=True))


def fake_dcnv3(error: float = 0.0) -> Any:
    """Return an extension with the functions of DCNv3 that calls our kernels."""

    def options(window: Sequence[Any]) -> dict[str, Any]:
        pairs = ("kernel_size", "stride", "padding", "dilation")
        chosen = {name: (window[2 * k], window[2 * k + 1]) for k, name in enumerate(pairs)}
        return {**chosen, "groups": window[8], "offset_scale": window[10]}

    def forward(*arguments: Any) -> Tensor:
        *tensors_and_window, step, without_center = arguments
        assert (step, without_center) == (peers.IM2COL_STEP, 0)
        tensors, window = tensors_and_window[:3], tensors_and_window[3:]
        assert window[9] * window[8] == tensors[0].shape[-1]
        return ops.dcnv3(*tensors, **options(window)) + error

    def backward(*arguments: Any) -> Any:
        *tensors_and_window, grad_output, step, without_center = arguments
        assert (step, without_center) == (peers.IM2COL_STEP, 0)
        tensors, window = tensors_and_window[:3], tensors_and_window[3:]
        return torch.ops.bevstack.dcnv3_backward(grad_output, *tensors, **options(window))

    return SimpleNamespace(dcnv3_forward=forward, dcnv3_backward=backward)


def test_a_peer_is_timed_on_the_same_inputs() -> None:
    case, clock = convolution(), Clock()
    sides = cuda_ops.sides_of(case, {"dcnv3": fake_dcnv3()})
    row = cuda_ops.measure(case, sides, clock, bandwidth=1e9, sets=2)
    assert row["dcnv3"]["forward_times_ours"] == 1.0
    ours, _, theirs, _ = clock.results
    assert torch.equal(ours[0], theirs[0])


def test_a_peer_that_fails_or_is_wrong_is_reported_and_not_timed() -> None:
    case = convolution()
    wrong = cuda_ops.sides_of(case, {"dcnv3": fake_dcnv3(error=50.0)})
    row = cuda_ops.measure(case, wrong, Clock(), bandwidth=1e9, sets=2)
    assert list(row["dcnv3"]) == ["wrong"] and "differs from ours" in row["dcnv3"]["wrong"]

    def refuse(*arguments: Any) -> Any:
        raise RuntimeError("not implemented for BFloat16\nmore lines")

    failing = SimpleNamespace(dcnv3_forward=refuse, dcnv3_backward=refuse)
    row = cuda_ops.measure(
        case, cuda_ops.sides_of(case, {"dcnv3": failing}), Clock(), bandwidth=1e9, sets=2
    )
    assert row["dcnv3"] == {"failed": "not implemented for BFloat16"}


def test_offsets_are_packed_by_group_to_a_multiple_of_eight() -> None:
    offset, mask = torch.randn(1, 2, 3, 3 * 18), torch.randn(1, 2, 3, 3 * 9)
    packed = peers.pack_offsets(offset, mask, groups=3)
    assert packed.shape == (1, 2, 3, 88)  # 81 numbers
    assert torch.equal(packed[..., 27:45], offset[..., 18:36])
    assert torch.equal(packed[..., 45:54], mask[..., 9:18])
    assert (packed[..., 81:] == 0).all()


@pytest.mark.parametrize(
    ("pixels", "threads", "most", "wanted"),
    [
        (6 * 160 * 400, 24, 512, 20),  # XL stage 1: 480 threads; 21 do not divide
        (6 * 20 * 50, 192, 512, 2),
        (6 * 20 * 50, 1536, 256, 1),  # exceeds a block's limit: the launch fails
        (7, 1, 512, 7),
    ],
)
def test_blocks_of_dcnv4_hold_whole_pixels(
    pixels: int, threads: int, most: int, wanted: int
) -> None:
    assert peers.block_pixels(pixels, threads, most) == wanted


def test_dcnv4_gets_its_layout_and_its_blocks() -> None:
    received = {}

    def forward(value: Tensor, packed: Tensor, *rest: Any) -> Tensor:
        received["shape"], received["rest"] = packed.shape, rest
        return value

    calls = peers.dcnv4_calls(SimpleNamespace(dcnv4_forward=forward), 3, 16, 2.0)
    calls.forward(calls.pack(convolution().tensors))
    assert received["shape"] == (2, 4, 6, 88)
    # 3x3, stride, padding, dilation; groups, channels, scale; step, centre; lanes, threads, softmax
    assert received["rest"] == (3, 3, 1, 1, 1, 1, 1, 1, 3, 16, 2.0, 256, 0, 8, 48 * 6, False)


def test_mmcv_gets_its_levels_and_fills_gradients() -> None:
    case = attention_case(ATTENTION_CASE, CPU)
    shapes = ATTENTION_SHAPES[ATTENTION_CASE][2]

    def forward(
        value: Tensor, levels: Tensor, starts: Tensor, points: Tensor, weights: Tensor, **step: int
    ) -> Tensor:
        assert step == {"im2col_step": peers.IM2COL_STEP} and starts.tolist() == [0, 20]
        return ops.ms_deform_attn(value, [tuple(s) for s in levels.tolist()], points, weights)

    def backward(*arguments: Any, **step: int) -> None:
        value, _, _, points, weights, grad_output, *grads = arguments
        flat = [s for shape in shapes for s in shape]
        got = torch.ops.bevstack.ms_deform_attn_backward(
            grad_output, value, points, weights, None, spatial_shapes=flat
        )
        for grad, one in zip(grads, got, strict=True):
            grad.copy_(one)

    module = SimpleNamespace(ms_deform_attn_forward=forward, ms_deform_attn_backward=backward)
    clock = Clock()
    sides = cuda_ops.sides_of(case, {"mmcv": module})
    row = cuda_ops.measure(case, sides, clock, bandwidth=1e9, sets=2)
    assert row["mmcv"]["forward_backward_times_ours"] == 1.0
    for ours, theirs in zip(clock.results[1][0], clock.results[3][0], strict=True):
        assert torch.equal(ours, theirs)


def test_wrong_peers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--peer must be NAME=FILE, .* got dcnv5=x"):
        cuda_ops.read_peers(["dcnv5=x"])
    with pytest.raises(FileNotFoundError, match="a peer must be a compiled extension file; got"):
        cuda_ops.read_peers([f"dcnv3={tmp_path / 'DCNv3.so'}"])


def test_an_extension_is_loaded_from_its_file() -> None:
    if ops.native_problem() is not None:
        pytest.skip(str(ops.native_problem()))
    path = Path(sys.modules["bevstack._C"].__file__ or "")
    module = cuda_ops.read_peers([f"dcnv3={path}"])["dcnv3"]
    assert (module.__name__, module.__file__) == ("_C", str(path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_without_a_gpu_the_error_names_the_remedy() -> None:
    arguments = argparse.Namespace(peer=[], only="")
    with pytest.raises(SystemExit, match="must find a GPU that torch can use; got none"):
        cuda_ops.run(arguments)
