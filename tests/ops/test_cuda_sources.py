"""Compiles the CUDA sources where nvcc is, GPU or not, and looks at what the compiler says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import cpp_extension

from benchmarks import cuda_registers
from benchmarks.cuda_registers import ARCHITECTURES, FLAGS, KernelReport
from ops import build as builder

ROOT = Path(__file__).resolve().parent.parent.parent
BINDINGS = sorted((ROOT / "ops").rglob("*_cuda.cpp"))
SHARED_BYTES_OF_A_BLOCK = 48 * 1024  # what a kernel may have without asking
REGISTERS_OF_A_PROCESSOR = 64 * 1024
THREADS = 128  # of a block, in dispatch.cuh: four warps


@pytest.fixture(scope="session")
def nvcc() -> str:
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("no nvcc on the PATH: the CUDA sources cannot be compiled here")
    return found


def made_for_depth(report: KernelReport) -> bool:
    """Whether a kernel is a fast one, made for 16 or 32 channels of a group."""
    return re.match(r"(forward|backward)_kernel<(16|32),", report.kernel) is not None


# One test, because workers that each ran a part of it would each compile everything.
def test_the_kernels_compile_for_every_named_architecture(nvcc: str, tmp_path: Path) -> None:
    reports = cuda_registers.compile_all(nvcc, tmp_path)
    check_that_all_are_there(reports)
    fast = [report for report in reports if made_for_depth(report)]
    assert len(fast) == 2 * 2 * 3 * 2 * len(ARCHITECTURES)
    assert [report for report in fast if report.spilled_bytes] == []
    for report in reports:
        assert report.shared_bytes <= SHARED_BYTES_OF_A_BLOCK, report
    for report in fast:  # at least four blocks at once, so that waiting for memory overlaps
        assert 4 * THREADS * report.registers <= REGISTERS_OF_A_PROCESSOR, report
    check_kept_report(cuda_registers.as_table(cuda_registers.nvcc_version(nvcc), reports))
    bindings = [compile_binding(nvcc, source, tmp_path) for source in BINDINGS]
    launches = {n for n in symbols(bindings, "U") if n.startswith("bevstack::launch_")}
    assert len(launches) == 9
    assert launches <= symbols(set(tmp_path.glob("*.o")) - set(bindings), "T")


def check_that_all_are_there(reports: list[KernelReport]) -> None:
    names = {report.kernel for report in reports}
    for operator in ("Dcnv3Points", "MsDeformAttnPoints"):
        for stored in ("float", "Half", "BFloat16"):
            for depth in (16, 32):
                assert f"forward_kernel<{depth}, {operator}<float>, {stored}>" in names
        for wide in ("float", "double"):
            assert f"forward_kernel<0, {operator}<{wide}>, {wide}>" in names
            assert f"backward_kernel<0, {operator}<{wide}>, {wide}, FixedPoint>" in names
    got = {(report.kernel, report.architecture) for report in reports}
    assert got == {(name, f"sm_{a}") for name in names for a in ARCHITECTURES}


def check_kept_report(table: dict[str, Any]) -> None:
    path = ROOT / "benchmarks" / "cuda_registers.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert set(kept["kernels"]) == set(table["kernels"])
    if kept["nvcc"] == table["nvcc"]:  # another compiler may count otherwise
        assert kept == table, f"run `python benchmarks/cuda_registers.py --json {path}`"


def compile_binding(nvcc: str, source: Path, folder: Path) -> Path:
    made = folder / f"{source.stem}.binding.o"
    includes = [f"-I{ROOT / 'ops'}"]
    for path in cpp_extension.include_paths():
        includes += ["-isystem", path]
    # The headers of a torch built for the CPU lack one that its build would have written.
    defines = [] if torch.version.cuda else ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE"]
    standard = "-std=c++20" if torch.__version__ >= "2.13" else "-std=c++17"
    command = [nvcc, "-x", "c++", "-O0", standard, "-Xcompiler", "-fPIC,-Wall", *defines]
    done = subprocess.run(
        [*command, *includes, "-c", str(source), "-o", str(made)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return made


def symbols(objects: Iterable[Path], kinds: str) -> set[str]:
    """Names with their arguments that object files define or want."""
    names = set()
    for path in objects:
        printed = subprocess.check_output(["nm", "-C", str(path)], text=True)
        names.update(re.findall(rf"^[0-9a-f ]* [{kinds}] (.+)$", printed, re.MULTILINE))
    return names


def ptx_of_fast_kernels(nvcc: str, architecture: str, folder: Path) -> dict[str, str]:
    source = ROOT / "ops" / "dcnv3" / "dcnv3_kernels.cu"
    made = folder / f"dcnv3_{architecture}.ptx"
    command = [nvcc, *FLAGS, f"-I{ROOT / 'ops'}", f"-arch=compute_{architecture}", "-ptx"]
    subprocess.run([*command, str(source), "-o", str(made)], check=True)
    kernels = re.split(r"\.entry ", made.read_text(encoding="utf-8"))[1:]
    fast = {k.split("(")[0]: k for k in kernels if re.match(r"\w+_kernelILi(16|32)E", k)}
    assert len(fast) == 12
    return fast


@pytest.mark.parametrize("architecture", ["80", "90"])
def test_fast_kernels_access_sixteen_bytes_at_once(
    nvcc: str, architecture: str, tmp_path: Path
) -> None:
    for name, code in ptx_of_fast_kernels(nvcc, architecture, tmp_path).items():
        backward = "backward" in name
        # Four corners; and in the backward pass the gradient of the output.
        assert code.count("ld.global.nc.v4") == (5 if backward else 4), name
        assert code.count("st.global.v4") == (0 if backward else 1), name
        additions = re.findall(r"red\.\S+\.add\.\S+", code)
        if not backward:
            assert additions == [], name
        elif architecture == "90":  # four numbers at once; a lane has four or eight of each corner
            channels = 8 if "Half" in name or "BFloat16" in name else 4
            assert additions == ["red.relaxed.gpu.global.add.v4.f32"] * channels, name
        else:
            assert set(additions) == {"red.relaxed.gpu.global.add.f32"}, name


def test_the_build_has_the_same_architectures() -> None:
    assert [a.replace(".", "") for a in builder.GPU_ARCHITECTURES] == list(ARCHITECTURES)


def test_a_build_without_cuda_leaves_its_registrations_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_extension, "CUDAExtension", cpp_extension.CppExtension)
    built: dict[bool, set[str]] = {}
    for with_cuda in (False, True):
        extension, of_one_level = builder.native_extension(with_cuda)
        built[with_cuda] = {Path(s).name for s in [*extension.sources, *of_one_level]}
    added = built[True] - built[False]
    bindings = {path.name for path in BINDINGS}
    kernels = {path.name for path in cuda_registers.kernel_sources()}
    assert len(bindings) == 2 and len(kernels) == 3
    assert added == bindings | kernels


def test_the_report_of_the_compiler_is_read_right() -> None:
    printed = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4someILi3EEvPf' for 'sm_86'
ptxas info    : Function properties for _Z4someILi3EEvPf
    16 bytes stack frame, 20 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 16 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compiling entry function '_Z5otherv' for 'sm_90'
ptxas info    : Function properties for _Z5otherv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
    assert cuda_registers.parse_report(printed) == [
        KernelReport("some<3>", "sm_86", 40, 52, 512),
        KernelReport("other", "sm_90", 8, 0, 0),
    ]


def test_a_source_that_does_not_compile_is_an_error(nvcc: str, tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("__global__ void broken() { return 1; }\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"broken\.cu"):
        cuda_registers.compile_source(nvcc, source, tmp_path, ("90",))
