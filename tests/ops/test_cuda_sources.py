"""Compilation of the CUDA sources with nvcc, without a GPU, and checks of the compiler's report."""

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
SHARED_BYTES_PER_BLOCK = 48 * 1024  # limit for a kernel that does not request more
REGISTERS_PER_PROCESSOR = 64 * 1024
TABLE = ROOT / "benchmarks" / "cuda_registers.json"
RENEW = f"run `python benchmarks/cuda_registers.py --json {TABLE}` on a machine with nvcc"
THREADS = 128  # of a block, in dispatch.cuh: four warps


@pytest.fixture(scope="session")
def nvcc() -> str:
    path = shutil.which("nvcc")
    if path is None:
        pytest.skip("no nvcc on the PATH: the CUDA sources cannot be compiled here")
    return path


def is_specialised(report: KernelReport) -> bool:
    """Return True for a fast kernel, specialised for 16 or 32 channels of a group."""
    return re.match(r"(forward|backward)_kernel<(16|32),", report.kernel) is not None


def stored_reports() -> tuple[dict[str, Any], list[KernelReport]]:
    """Return the stored table and its reports on the kernels."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    rows = [(k, a, r) for k, found in table["kernels"].items() for a, r in found.items()]
    numbers = ("registers", "spilled_bytes", "shared_bytes")
    return table, [KernelReport(k, a, *(row[n] for n in numbers)) for k, a, row in rows]


# Compiling takes minutes: the usual tests check the stored report and that it is of these sources.
def test_the_stored_report_is_of_these_sources() -> None:
    table, reports = stored_reports()
    assert table["sources_sha256"] == cuda_registers.source_digest(), RENEW
    assert table["flags"] == list(FLAGS), RENEW
    check_all_kernels_exist(reports)
    check_resources(reports)


def test_a_changed_source_has_another_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "ops", tmp_path / "ops")
    before = cuda_registers.source_digest()
    monkeypatch.setattr(cuda_registers, "ROOT", tmp_path)
    assert cuda_registers.source_digest() == before
    header = tmp_path / "ops" / "common" / "warp.cuh"
    header.write_text(header.read_text("utf-8") + "// changed\n", "utf-8")
    assert cuda_registers.source_digest() != before


# This is one test because otherwise each test worker would compile everything again.
@pytest.mark.slow
def test_the_kernels_compile_for_every_named_architecture(nvcc: str, tmp_path: Path) -> None:
    reports = cuda_registers.compile_all(nvcc, tmp_path)
    check_all_kernels_exist(reports)
    check_resources(reports)
    check_stored_report(cuda_registers.as_table(cuda_registers.nvcc_version(nvcc), reports))
    bindings = [compile_binding(nvcc, source, tmp_path) for source in BINDINGS]
    launches = {n for n in symbols(bindings, "U") if n.startswith("bevstack::launch_")}
    assert len(launches) == 12
    assert launches <= symbols(set(tmp_path.glob("*.o")) - set(bindings), "T")


def check_resources(reports: list[KernelReport]) -> None:
    """Check the memory and registers of the kernels: several blocks must fit at once."""
    fast = [report for report in reports if is_specialised(report)]
    assert len(fast) == 2 * 2 * 3 * 2 * len(ARCHITECTURES)
    assert [report for report in fast if report.spilled_bytes] == []
    for report in reports:
        assert report.shared_bytes <= SHARED_BYTES_PER_BLOCK, report
    for report in fast:  # at least four blocks at once, so that memory latencies overlap
        assert 4 * THREADS * report.registers <= REGISTERS_PER_PROCESSOR, report


def check_all_kernels_exist(reports: list[KernelReport]) -> None:
    names = {report.kernel for report in reports}
    for operator in ("Dcnv3Points", "MsDeformAttnPoints"):
        for stored in ("float", "Half", "BFloat16"):
            for depth in (16, 32):
                assert f"forward_kernel<{depth}, {operator}<float>, {stored}>" in names
        for wide in ("float", "double"):
            assert f"forward_kernel<0, {operator}<{wide}>, {wide}>" in names
            assert f"backward_kernel<0, {operator}<{wide}>, {wide}, FixedPoint>" in names
    for kernel in ("roi_align_kernel", "roi_align_backward_kernel", "roi_align_ordered_kernel"):
        assert {f"{kernel}<float>", f"{kernel}<double>"} <= names
    got = {(report.kernel, report.architecture) for report in reports}
    assert got == {(name, f"sm_{a}") for name in names for a in ARCHITECTURES}


def check_stored_report(table: dict[str, Any]) -> None:
    stored, _ = stored_reports()
    assert set(stored["kernels"]) == set(table["kernels"])
    if stored["nvcc"] == table["nvcc"]:  # another compiler may use other numbers of registers
        assert stored == table, RENEW


def compile_binding(nvcc: str, source: Path, folder: Path) -> Path:
    target = folder / f"{source.stem}.binding.o"
    includes = [f"-I{ROOT / 'ops'}"]
    for path in cpp_extension.include_paths():
        includes += ["-isystem", path]
    # A torch built for the CPU lacks one header that a CUDA build generates.
    defines = [] if torch.version.cuda else ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE"]
    standard = "-std=c++20" if torch.__version__ >= "2.13" else "-std=c++17"
    command = [nvcc, "-x", "c++", "-O0", standard, "-Xcompiler", "-fPIC,-Wall", *defines]
    done = subprocess.run(
        [*command, *includes, "-c", str(source), "-o", str(target)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return target


def symbols(objects: Iterable[Path], kinds: str) -> set[str]:
    """Return the names, with arguments, that object files define ("T") or need ("U")."""
    names = set()
    for path in objects:
        printed = subprocess.check_output(["nm", "-C", str(path)], text=True)
        names.update(re.findall(rf"^[0-9a-f ]* [{kinds}] (.+)$", printed, re.MULTILINE))
    return names


def ptx_of_fast_kernels(nvcc: str, architecture: str, folder: Path) -> dict[str, str]:
    source = ROOT / "ops" / "dcnv3" / "dcnv3_kernels.cu"
    target = folder / f"dcnv3_{architecture}.ptx"
    command = [nvcc, *FLAGS, f"-I{ROOT / 'ops'}", f"-arch=compute_{architecture}", "-ptx"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    kernels = re.split(r"\.entry ", target.read_text(encoding="utf-8"))[1:]
    fast = {k.split("(")[0]: k for k in kernels if re.match(r"\w+_kernelILi(16|32)E", k)}
    assert len(fast) == 12
    return fast


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["80", "90"])
def test_fast_kernels_access_sixteen_bytes_at_once(
    nvcc: str, architecture: str, tmp_path: Path
) -> None:
    for name, code in ptx_of_fast_kernels(nvcc, architecture, tmp_path).items():
        backward = "backward" in name
        # Loads of four corners; the backward pass also loads the gradient of the output.
        assert code.count("ld.global.nc.v4") == (5 if backward else 4), name
        assert code.count("st.global.v4") == (0 if backward else 1), name
        additions = re.findall(r"red\.\S+\.add\.\S+", code)
        if not backward:
            assert additions == [], name
        elif architecture == "90":  # four numbers at once; a lane has four or eight per corner
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
        extension, level_sources = builder.native_extension(with_cuda)
        built[with_cuda] = {Path(s).name for s in [*extension.sources, *level_sources]}
    added = built[True] - built[False]
    bindings = {path.name for path in BINDINGS}
    kernels = {path.name for path in cuda_registers.kernel_sources()}
    assert len(bindings) == 3 and len(kernels) == 4
    assert added == bindings | kernels


def test_the_report_of_the_compiler_is_parsed() -> None:
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
