from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from bevstack import ops
from bevstack.ops import bilinear, library, loading


def test_the_kernel_of_every_operator_is_reported() -> None:
    infos = ops.kernels()
    assert {info.operator for info in infos if info.device == "cpu"} == set(library.OPERATORS)
    for info in infos:
        assert info.kernel == ("reference" if ops.native_problem() else info.kernel)
        assert info.kernel in ("native", "reference")
        assert bool(info.instruction_set) == (info.kernel == "native" and info.device == "cpu")
        assert bool(info.reason) == (info.kernel == "reference")


def test_without_compiled_kernels_one_warning_names_the_command() -> None:
    program = """
import sys, warnings
sys.modules["bevstack._C"] = None  # as if it had never been built
import pytest
import torch
from bevstack import ops
value = torch.ones(1, 1, 1, 1)
def call():
    return ops.dcnv3(value, value.expand(1, 1, 1, 2), value, kernel_size=(1, 1), stride=(1, 1),
                     padding=(0, 0), dilation=(1, 1), groups=1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    call(); call()
assert [w.category for w in caught] == [RuntimeWarning], caught
text = str(caught[0].message)
assert "reference" in text and "`bevstack build-ops`" in text, text
assert all(info.kernel == "reference" for info in ops.kernels())
assert ops.native_problem()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_missing_cuda_kernels_are_reported_with_the_reason_from_the_build_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = loading.BuildRecord("built", "", "no CUDA compiler (nvcc) is found", (), "", "", "")
    states = {
        "no CUDA compiler (nvcc) is found": loading.NativeState(None, None, record),
        "bevstack._C holds no kernels for cuda": loading.NativeState(None, None, None),
        "it does not load": loading.NativeState("it does not load", None, record),
    }
    for reason, state in states.items():
        monkeypatch.setattr(library, "native_state", lambda state=state: state)
        assert library.why_reference("cuda").endswith(reason)
    assert "nvcc" not in library.why_reference("cpu")


def test_importing_the_operators_gives_no_warning() -> None:
    program = "import warnings; warnings.simplefilter('error'); import bevstack.ops"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_blocks_cover_every_sum_once() -> None:
    for sums, entries in ((0, 36), (1, 36), (7281, 36), (5, 1 << 20), (3, 0)):
        parts = list(bilinear.blocks(sums, entries))
        covered = [k for part in parts for k in range(part.start, part.stop)]
        assert covered == list(range(sums))


def test_the_reference_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 6, 5, 8, generator=generator)
    offset = torch.randn(2, 6, 5, 36, generator=generator)
    mask = torch.randn(2, 6, 5, 18, generator=generator)
    grad_output = torch.randn(2, 6, 5, 8, generator=generator)
    pairs = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    module = sys.modules["bevstack.ops.dcnv3"]

    def both() -> list[torch.Tensor]:
        output = module.reference(value, offset, mask, groups=2, **pairs)
        grads = module.reference_backward(grad_output, value, offset, mask, groups=2, **pairs)
        return [output, *grads]

    whole = both()
    monkeypatch.setattr(bilinear, "_ENTRIES_AT_ONCE", 7 * 72)
    for got, wanted in zip(both(), whole, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)  # sums in another order
