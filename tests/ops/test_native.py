"""Properties of the compiled kernels only; the other tests here run on any kernel."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bevstack import ops
from tests.ops import test_dcnv3, test_ms_deform_attn
from tests.ops.calls import values_and_gradients

SOURCES = Path(__file__).resolve().parents[2] / "ops"
LEVELS = ("baseline", "avx2", "avx512")
needs_native = pytest.mark.skipif(
    ops.native_problem() is not None, reason=f"no compiled kernels: {ops.native_problem()}"
)


def _included(source: Path, seen: set[str]) -> set[str]:
    """Return every header that a source includes, directly or indirectly."""
    for name in re.findall(r'#include\s+([<"][^>"]+)', source.read_text(encoding="utf-8")):
        if name not in seen:
            seen.add(name)
            if name.startswith('"'):
                _included(SOURCES / name[1:], seen)
    return seen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("operator", ["dcnv3", "ms_deform_attn", "roi_align"])
def test_files_of_one_instruction_set_share_no_inline_functions(operator: str, level: str) -> None:
    headers = _included(SOURCES / operator / f"{operator}_{level}.cpp", set())
    # Every function of immintrin.h is inlined; otherwise the file does not compile.
    assert {name for name in headers if name.startswith("<")} <= {"<stdint.h", "<immintrin.h"}
    # Shared code is outside the namespace of the level and must be a type or a static function.
    shared = (SOURCES / "common" / "sampling.h").read_text(encoding="utf-8")
    functions = re.findall(r"^[a-z].*\) \{$", shared, flags=re.MULTILINE)
    assert functions and all(f.startswith("static inline") for f in functions)


@needs_native
@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_wide_registers_are_used_only_in_the_namespace_of_their_instruction_set() -> None:
    library = importlib.import_module("bevstack._C").__file__
    assert library is not None
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", library]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    uses: dict[str, set[str]] = {"%zmm": set(), "%ymm": set()}
    function = ""
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = line.split("<", 1)[1]
        for register, functions in uses.items():
            if register in line:
                functions.add(function)
    wide = {f for f in uses["%zmm"] if "bevstack::avx512::" not in f}
    assert not wide
    if uses["%zmm"]:  # an x86-64 build: check that the search works
        assert any("dcnv3_forward" in f or "forward_lines" in f for f in uses["%zmm"])
    assert not {f for f in uses["%ymm"] if not re.search(r"bevstack::avx(512|2)::", f)}


def _both_operators() -> list[tuple[str, list[Tensor], Tensor, dict[str, object]]]:
    convolution = test_dcnv3.make_case(size=(7, 37), depth=16, groups=5, batch=2, softmax=True)
    attention = test_ms_deform_attn.make_case(queries=50, heads=3, depth=32, index=[1, 0, 1] * 17)
    copied = test_ms_deform_attn.make_case(queries=50, heads=3, depth=32, batch=2)
    calls = []
    cases = (("dcnv3", convolution), ("ms_deform_attn", attention), ("ms_deform_attn", copied))
    for name, case in cases:
        *tensors, grad_output = case.to(torch.float32)
        options = case.options if name == "dcnv3" else case.options()
        calls.append((name, tensors, grad_output, options))
    return calls


@needs_native
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    for name, tensors, grad_output, options in _both_operators():
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            try:
                got = values_and_gradients("dispatched", name, tensors, grad_output, **options)
            finally:
                torch.set_num_threads(1)
            results.append(got)
        for got in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(got, results[0], strict=True))


@needs_native
@pytest.mark.parametrize("asked", ["default", "avx2"])
def test_every_instruction_set_of_this_machine_passes_the_tests(asked: str) -> None:
    best = ops.kernels()[0].instruction_set
    level = "baseline" if asked == "default" else asked
    if LEVELS.index(level) >= LEVELS.index(best):
        pytest.skip(f"the other tests run with {best}, the best instruction set of this machine")
    tests = Path(__file__).parent
    checks = "plain_loops or official or nothing or half or right_hand or not_finite or equal_loops"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", checks]
    ran = subprocess.run(
        [
            *command,
            *(
                str(tests / f"test_{n}.py")
                for n in ("dcnv3", "ms_deform_attn", "half", "roi_align")
            ),
        ],
        env={**os.environ, "ATEN_CPU_CAPABILITY": asked},
        capture_output=True,
        text=True,
        cwd=tests.parents[1],
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    program = "from bevstack import ops; print(ops.kernels()[0].instruction_set)"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ATEN_CPU_CAPABILITY": asked},
        capture_output=True,
        text=True,
        cwd=tests.parents[1],
        check=True,
    )
    assert printed.stdout.strip() == level


@needs_native
def test_wrong_tensors_are_refused_below_the_python_checks() -> None:
    case = test_dcnv3.make_case()
    input, offset, mask, grad_output = case.to(torch.float32)
    convolve = torch.ops.bevstack.dcnv3
    with pytest.raises(ValueError, match=r"offset must have shape \[2, 5, 7, 36\]; got"):
        convolve(input, offset[..., 1:], mask, **case.options)
    with pytest.raises(ValueError, match="kernel_size must be a pair"):
        convolve(input, offset, mask, **{**case.options, "kernel_size": (0, 3)})
    with pytest.raises(TypeError, match=r"mask must be float16, .* or float64; got Int"):
        convolve(input, offset, mask.int(), **case.options)
    with pytest.raises(ValueError, match="grad_output must have shape"):
        torch.ops.bevstack.dcnv3_backward(grad_output[:1], input, offset, mask, **case.options)
    value, locations, weights, _ = test_ms_deform_attn.make_case().to(torch.float32)
    attend = torch.ops.bevstack.ms_deform_attn
    with pytest.raises(ValueError, match="value must have shape"):
        attend(value, locations, weights, None, spatial_shapes=[5, 7, 3, 4])
    with pytest.raises(ValueError, match="sampling_locations must have shape"):
        attend(value, locations[:, 1:], weights, None, spatial_shapes=[5, 7, 3, 4, 1, 2])
    with pytest.raises(ValueError, match="attention_weights must have 4 axes"):
        index = torch.zeros(2, dtype=torch.int64)
        attend(value, locations, weights, index, spatial_shapes=[5, 7, 3, 4, 1, 2])


@pytest.mark.parametrize(("heads", "points"), [(3, 4), (2, 9), (5, 1)])
def test_sampling_a_copy_of_a_head_equals_sampling_the_image(heads: int, points: int) -> None:
    """Compare consecutive rows of one image, which use a copy, with alternating images.

    ``points`` is the number for each of two levels.
    """
    generator = torch.Generator().manual_seed(0)
    shapes, images, rows = ((6, 5), (3, 2)), 2, 80
    value = torch.randn(images, 36, heads, 7, generator=generator, requires_grad=True)
    locations = torch.rand(rows, heads, 2, points, 2, generator=generator) * 1.4 - 0.2
    weights = torch.randn(rows, heads, 2, points, generator=generator)
    wanted = torch.randn(rows, heads * 7, generator=generator)
    image = torch.arange(rows) * images // rows
    alternating = torch.arange(rows).view(images, -1).T.flatten()

    def results(order: Tensor) -> list[Tensor]:
        leaves = [value, *(t[order].requires_grad_() for t in (locations, weights))]
        output = ops.ms_deform_attn(
            leaves[0], shapes, leaves[1], leaves[2], value_index=image[order]
        )
        grads = torch.autograd.grad(output, leaves, wanted[order])
        back = order.argsort()
        return [output[back], grads[0], grads[1][back], grads[2][back]]

    copied, direct = results(torch.arange(rows)), results(alternating)
    for index in (0, 2, 3):  # the same sums in the same order
        assert torch.equal(copied[index], direct[index])
    torch.testing.assert_close(copied[1], direct[1], rtol=1e-5, atol=1e-5)  # sums in another order
