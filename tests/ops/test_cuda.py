"""Tests that need a GPU, skipped without one; the fixture `device` runs the other tests on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bevstack import ops
from tests.ops import test_dcnv3, test_ms_deform_attn
from tests.ops.calls import TOLERANCE, assert_close, values_and_gradients

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUDA = torch.device("cuda")


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def test_native_kernels_are_used() -> None:
    # All tests below would also pass on the reference.
    if ops.native_problem() is not None:
        pytest.skip(str(ops.native_problem()))
    used = {info.operator: info.kernel for info in ops.kernels() if info.device == "cuda"}
    assert set(used.values()) == {"native"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("depth", [16, 5])
@pytest.mark.usefixtures("deterministic")
def test_deterministic_gradients_are_the_same_in_every_run(depth: int, dtype: torch.dtype) -> None:
    case = test_dcnv3.make_case(size=(40, 33), depth=depth, softmax=True, seed=31)
    values, offset, mask, grad_output = case.to(torch.float64, CUDA)
    # Multiples of 1/256 are exact in float32: no position is rounded across an integer.
    offset = (offset * 256).round() / 256
    tensors = [t.to(dtype) for t in (values, offset, mask)]
    runs = [
        values_and_gradients("dispatched", "dcnv3", tensors, grad_output.to(dtype), **case.options)
        for _ in range(4)
    ]
    for run in runs[1:]:
        assert all(torch.equal(got, wanted) for got, wanted in zip(run, runs[0], strict=True))
    wide = [t.double() for t in tensors]
    wanted = values_and_gradients(
        "reference", "dcnv3", wide, grad_output.to(dtype).double(), **case.options
    )
    stored = torch.finfo(dtype).eps / 2 if dtype == torch.bfloat16 else 0.0
    tolerance = stored + TOLERANCE.get(dtype, TOLERANCE[torch.float32])
    assert_close(runs[0], [w.cpu().numpy() for w in wanted], tolerance, test_dcnv3.NAMES)


@pytest.mark.usefixtures("deterministic")
def test_deterministic_attention_equals_plain_loops() -> None:
    case = test_ms_deform_attn.make_case(batch=3, depth=32, index=[2, 0, 0, 1, 2])
    *tensors, grad_output = case.to(torch.float32, CUDA)
    got = values_and_gradients(
        "dispatched", "ms_deform_attn", tensors, grad_output, **case.options(CUDA)
    )
    assert_close(got, case.wanted(), TOLERANCE[torch.float32], test_ms_deform_attn.NAMES)


@pytest.mark.parametrize("depth", [16, 3])
def test_can_be_captured_in_a_graph(depth: int) -> None:
    case = test_dcnv3.make_case(size=(9, 11), depth=depth)
    *tensors, grad_output = case.to(torch.float32, CUDA)

    def call() -> tuple[Tensor, ...]:
        return values_and_gradients("dispatched", "dcnv3", tensors, grad_output, **case.options)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # torch requires a first call outside the graph
        call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    for t in tensors:
        t.mul_(0.5)
    graph.replay()
    for got, wanted in zip(results, call(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)  # additions in any order


def test_runs_on_the_current_stream() -> None:
    case = test_dcnv3.make_case(size=(31, 33), depth=16)
    values, offset, mask, _ = case.to(torch.float32, CUDA)
    wanted = ops.dcnv3(values, offset, mask, **case.options)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = values.clone()
        torch.cuda._sleep(20_000_000)  # on another stream the kernel would read before this ends
        late.mul_(2)
        got = ops.dcnv3(late, offset, mask, **case.options)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(got, 2 * wanted)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_runs_on_the_device_of_its_tensors() -> None:
    case = test_dcnv3.make_case(depth=16)
    with torch.cuda.device(0):
        *tensors, grad_output = case.to(torch.float32, "cuda:1")
        got = values_and_gradients("dispatched", "dcnv3", tensors, grad_output, **case.options)
    assert {t.device.index for t in got} == {1}
    assert_close(got, case.wanted(), TOLERANCE[torch.float32], test_dcnv3.NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_tensors_need_not_be_aligned(dtype: torch.dtype) -> None:
    case = test_dcnv3.make_case(size=(6, 5), depth=16)
    *tensors, grad_output = (t.to(dtype) for t in case.to(torch.float32, CUDA))

    def shifted(tensor: Tensor) -> Tensor:
        return torch.cat((tensor.new_zeros(1), tensor.flatten()))[1:].view(tensor.shape)

    assert shifted(tensors[0]).data_ptr() % 16 != 0
    wanted = values_and_gradients("dispatched", "dcnv3", tensors, grad_output, **case.options)
    moved = [shifted(t) for t in tensors]
    got = (
        ops.dcnv3(*moved, **case.options),
        *torch.ops.bevstack.dcnv3_backward(shifted(grad_output), *moved, **case.options),
    )
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("groups", "depth"), [(96, 16), (80, 16), (64, 32), (1, 2048)])
def test_more_than_1024_channels_can_be_trained(groups: int, depth: int) -> None:
    options = test_dcnv3.options(groups=groups, softmax=True)
    generator = torch.Generator(CUDA).manual_seed(5)

    def draw(channels: int) -> Tensor:
        return torch.randn(3, 20, 50, channels, generator=generator, device=CUDA)

    # Multiples of 1/256 are exact in float32: no position is rounded across an integer.
    offset = (draw(groups * 18) * 256).round() / 256
    tensors = (draw(groups * depth), offset, draw(groups * 9))
    grad_output = draw(groups * depth)
    got = values_and_gradients("dispatched", "dcnv3", tensors, grad_output, **options)
    wide = [t.double() for t in tensors]
    wanted = values_and_gradients("reference", "dcnv3", wide, grad_output.double(), **options)
    assert_close(got, [w.cpu().numpy() for w in wanted], TOLERANCE[torch.float32], test_dcnv3.NAMES)


def test_an_argument_on_another_device_is_refused() -> None:
    case = test_dcnv3.make_case()
    values, offset, mask, _ = case.to(torch.float32, CUDA)
    with pytest.raises(ValueError, match="mask"):
        torch.ops.bevstack.dcnv3(values, offset, mask.cpu(), **case.options)
