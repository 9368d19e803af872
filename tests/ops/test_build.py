"""Decisions and records of ops/build.py; the tests of the kernels check that its result works."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bevstack.ops import loading
from ops import build as builder


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEVSTACK_BUILD_OPS", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH", "MAX_JOBS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.setenv("CXX", sys.executable)  # any existing program: nothing is compiled


def make_toolkit(folder: Path, release: str, known: str = "") -> Path:
    """Make a CUDA toolkit whose compiler only prints its version and the architectures it knows."""
    nvcc = folder / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    version = f"Cuda compilation tools, release {release}, V{release}.1"
    nvcc.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" || echo "{known}"\n')
    nvcc.chmod(0o755)
    return folder


def test_build_modes_are_read_and_unknown_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert builder.build_mode() == "1" and builder.find_build_problem() is None
    monkeypatch.setenv("BEVSTACK_BUILD_OPS", "0")
    assert builder.find_build_problem() == "BEVSTACK_BUILD_OPS=0 is set"
    monkeypatch.setenv("BEVSTACK_BUILD_OPS", "cpu")
    assert builder.find_build_problem() is None
    assert builder.find_cuda_problem() == "BEVSTACK_BUILD_OPS=cpu is set"
    monkeypatch.setenv("BEVSTACK_BUILD_OPS", "maybe")
    with pytest.raises(SystemExit, match="must be one of 0, 1, cpu, require; got maybe"):
        builder.build_mode()


@pytest.mark.parametrize(
    ("torch_cuda", "release", "forced", "reason"),
    [
        (None, "13.0", True, "is built without CUDA"),
        ("13.0", None, True, "no CUDA compiler (nvcc) is found"),
        ("13.0", "13.0", False, None),
        ("13.0", "13.4", False, None),  # versions with the same major number are compatible
        ("13.0", "12.9", False, "nvcc is of CUDA 12.9, torch is built for CUDA 13.0"),
        ("13.0", "12.9", True, None),  # forced: torch's check decides
    ],
)
def test_cuda_is_compiled_without_a_gpu_if_a_toolkit_fits_torch_or_it_is_forced(
    torch_cuda: str | None,
    release: str | None,
    forced: bool,
    reason: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", torch_cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("a GPU is never needed"))
    toolkit = tmp_path / "none" if release is None else make_toolkit(tmp_path / "cuda", release)
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    monkeypatch.setenv("FORCE_CUDA", "1" if forced else "0")
    problem = builder.find_cuda_problem()
    assert problem is None if reason is None else reason in (problem or "")


def test_architectures_are_the_supported_ones_that_the_toolkit_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit = make_toolkit(tmp_path / "cuda", "12.1", known="compute_80 compute_86 compute_90")
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    variables = builder.child_environment(with_cuda=True)
    assert variables["TORCH_CUDA_ARCH_LIST"] == "8.0;8.6;9.0+PTX"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    assert builder.child_environment(with_cuda=True)["TORCH_CUDA_ARCH_LIST"] == "9.0"


def test_cuda_sources_that_do_not_compile_leave_the_cpu_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "cuda", "13.0")))
    ran: list[list[str]] = []

    def run_child(command: list[str], environment: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        failed = "--cuda" in command
        output = "x.cu(3): error: no such thing" if failed else ""
        return subprocess.CompletedProcess(command, int(failed), output)

    monkeypatch.setattr(builder, "run_child", run_child)
    record = builder.build(tmp_path / "into", tmp_path / "work")
    assert ["--cuda" in command for command in ran] == [True, False]
    assert record.outcome == "built" and record.problem == ""
    assert record.cuda_problem == "the CUDA compiler reports an error"
    report = "\n".join(record.lines())
    assert "x.cu(3): error" in report and "on a GPU" in report and "bevstack build-ops" in report
    assert (tmp_path / "into" / builder.RECORD_NAME).is_file()


def test_missing_cuda_kernels_are_reported_only_if_cuda_was_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = builder.Record(outcome="built", cuda_problem="torch is built without CUDA")
    assert record.lines() == []
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert "torch is built without CUDA" in record.lines()[0]


def test_the_compilers_last_lines_are_its_errors_without_commands_and_tracebacks() -> None:
    output = """[1/2] c++ -MMD -c a.cpp -o a.o
FAILED: [code=1] a.o
c++ -MMD -c a.cpp -o a.o
a.cpp:1:5: error: no
    1 | int broken
ninja: build stopped: subcommand failed.
Traceback (most recent call last):
RuntimeError: Error compiling objects for extension
"""
    assert builder.last_lines(output) == ("a.cpp:1:5: error: no", "    1 | int broken")
    assert builder.last_lines("one\ntwo\n") == ("one", "two")
    many = "".join(f"a.cpp:{i}: error: no\n" for i in range(99))
    assert len(builder.last_lines(many)) == builder.MAX_LOG_LINES


def test_an_object_is_current_until_what_it_includes_or_its_command_changes(tmp_path: Path) -> None:
    target, header = tmp_path / "a.o", tmp_path / "a.h"
    header.touch()
    (tmp_path / "a.d").write_text(f"a.o: \\\n {header}\n")
    (tmp_path / "a.command").write_text("c++ a.cpp")
    assert not builder.is_current(target, "c++ a.cpp")
    target.touch()
    after_s = time.time() + 10
    os.utime(target, (after_s, after_s))
    assert builder.is_current(target, "c++ a.cpp")
    assert not builder.is_current(target, "c++ -O3 a.cpp")
    os.utime(header, (after_s + 10, after_s + 10))
    assert not builder.is_current(target, "c++ a.cpp")
    header.unlink()
    assert not builder.is_current(target, "c++ a.cpp")


def test_the_digest_follows_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "a.cpp").write_text("1")
    monkeypatch.setattr(builder, "SOURCES", tmp_path)
    digests = {builder.source_digest()}
    for name, text in (("thing/a.cpp", "2"), ("thing/b.cuh", "2"), ("c.cu", ""), ("d.h", "")):
        (tmp_path / name).write_text(text)
        digests.add(builder.source_digest())
    assert len(digests) == 5
    (tmp_path / "README.md").write_text("no source")
    assert builder.source_digest() in digests


def test_an_installation_has_the_digest_of_its_sources() -> None:
    assert loading.source_digest() == builder.source_digest()
