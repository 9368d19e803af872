"""Compiles the CUDA kernels and keeps what the compiler says of each: registers, spills, memory.

    python benchmarks/cuda_registers.py --json benchmarks/cuda_registers.json

Needs nvcc, but neither a GPU nor torch: kernels include no torch header. About two minutes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("80", "86", "89", "90", "100", "120")
# What torch passes for an extension, as far as it matters to code without its headers.
FLAGS = (
    "-O3",
    "-std=c++17",
    "--expt-relaxed-constexpr",
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
)
_REPORT = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<architecture>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class KernelReport(NamedTuple):
    """What the compiler says of one kernel on one architecture."""

    kernel: str
    architecture: str
    registers: int
    spilled_bytes: int
    shared_bytes: int


def kernel_sources() -> list[Path]:
    """The CUDA sources of the operators."""
    return sorted((ROOT / "ops").rglob("*.cu"))


def compile_source(
    nvcc: str, source: Path, folder: Path, architectures: tuple[str, ...] = ARCHITECTURES
) -> list[KernelReport]:
    """Compiles one source for all architectures into ``folder``; the newest as PTX as well.

    Raises:
        RuntimeError: it does not compile; holds what the compiler printed.
    """
    targets = [f"arch=compute_{a},code=sm_{a}" for a in architectures]
    targets.append(f"arch=compute_{architectures[-1]},code=compute_{architectures[-1]}")
    command = [nvcc, *FLAGS, "-Xptxas", "-v", f"-I{ROOT / 'ops'}", "-Xcompiler", "-fPIC"]
    for target in targets:
        command += ["-gencode", target]
    command += ["-c", str(source), "-o", str(folder / f"{source.stem}.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or "warning" in done.stderr:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return parse_report(done.stdout + done.stderr)


def parse_report(text: str) -> list[KernelReport]:
    """Reads what ``nvcc -Xptxas -v`` prints."""
    reports = []
    for found in _REPORT.finditer(text):
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        reports.append(
            KernelReport(
                _readable(found["name"]),
                f"sm_{found['architecture']}",
                int(found["registers"]),
                int(found["stores"]) + int(found["loads"]),
                int(shared[1]) if shared else 0,
            )
        )
    return reports


def compile_all(nvcc: str, folder: Path) -> list[KernelReport]:
    """Compiles every source for every architecture, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        reports = pool.map(lambda source: compile_source(nvcc, source, folder), kernel_sources())
        return [report for of_source in reports for report in of_source]


def nvcc_version(nvcc: str) -> str:
    """The compiler's version, such as 13.0.88."""
    printed = subprocess.check_output([nvcc, "--version"], text=True)
    found = re.search(r"V(\d[\d.]*)", printed)
    return found[1] if found else printed.strip()


def as_table(version: str, reports: list[KernelReport]) -> dict[str, object]:
    """The reports as they are kept: kernel, architecture, then the three numbers."""
    kernels: dict[str, dict[str, dict[str, int]]] = {}
    for report in sorted(reports):
        kernels.setdefault(report.kernel, {})[report.architecture] = {
            "registers": report.registers,
            "spilled_bytes": report.spilled_bytes,
            "shared_bytes": report.shared_bytes,
        }
    return {"nvcc": version, "flags": list(FLAGS), "kernels": kernels}


def _readable(mangled: str) -> str:
    """The name as it is written in the source, without the project's namespaces."""
    demangled = subprocess.check_output(["c++filt", mangled], text=True).strip()
    name = re.sub(r"bevstack::|gpu::|\(anonymous namespace\)::|^void ", "", demangled)
    return name.split(">(", 1)[0] + ">" if ">(" in name else name.split("(", 1)[0]


def main() -> int:
    """Compiles, prints a table, and writes it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the table")
    arguments = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("nvcc must be on the PATH; got none", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        reports = compile_all(nvcc, Path(folder))
    for report in sorted(reports):
        print(*report[1:], report.kernel, sep="\t")
    if arguments.json is not None:
        table = as_table(nvcc_version(nvcc), reports)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
