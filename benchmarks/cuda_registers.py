"""Report of the CUDA compiler on each kernel: registers, spilled bytes and shared memory.

    python benchmarks/cuda_registers.py --json benchmarks/cuda_registers.json

The program needs nvcc, but neither a GPU nor torch: kernels include no torch header. It takes about
two minutes.
"""

from __future__ import annotations

import argparse
import hashlib
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
# The flags that torch passes for an extension, except those for code that includes its headers.
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
    """Compiler report on one kernel for one architecture."""

    kernel: str
    architecture: str
    registers: int
    spilled_bytes: int
    shared_bytes: int


def kernel_sources() -> list[Path]:
    """Return the CUDA sources of the operators."""
    return sorted((ROOT / "ops").rglob("*.cu"))


def source_digest() -> str:
    """Return the SHA-256 of the kernels' sources, flags and architectures.

    A stored report of another digest is out of date.
    """
    digest = hashlib.sha256(repr((FLAGS, ARCHITECTURES)).encode())
    sources = [
        p for p in (ROOT / "ops").rglob("*") if p.parent.name not in {"openvino", "tensorrt"}
    ]
    for path in sorted(p for p in sources if p.suffix in {".cu", ".cuh", ".h"}):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(ROOT).as_posix()} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def compile_source(
    nvcc: str, source: Path, folder: Path, architectures: tuple[str, ...] = ARCHITECTURES
) -> list[KernelReport]:
    """Compile one source for all architectures, and for the newest also PTX, into ``folder``.

    Raises:
        RuntimeError: The source does not compile without a warning; the message is the compiler's
            output.
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
    """Parse the output of ``nvcc -Xptxas -v``."""
    reports = []
    for match in _REPORT.finditer(text):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        reports.append(
            KernelReport(
                _readable(match["name"]),
                f"sm_{match['architecture']}",
                int(match["registers"]),
                int(match["stores"]) + int(match["loads"]),
                int(shared[1]) if shared else 0,
            )
        )
    return reports


def compile_all(nvcc: str, folder: Path) -> list[KernelReport]:
    """Compile every source for every architecture, two sources at a time."""
    with ThreadPoolExecutor(2) as pool:
        reports = pool.map(lambda source: compile_source(nvcc, source, folder), kernel_sources())
        return [report for source_reports in reports for report in source_reports]


def nvcc_version(nvcc: str) -> str:
    """Return the compiler's version, for example 13.0.88."""
    printed = subprocess.check_output([nvcc, "--version"], text=True)
    match = re.search(r"V(\d[\d.]*)", printed)
    return match[1] if match else printed.strip()


def as_table(version: str, reports: list[KernelReport]) -> dict[str, object]:
    """Return the reports in their stored form: kernel, architecture, then the three numbers."""
    kernels: dict[str, dict[str, dict[str, int]]] = {}
    for report in sorted(reports):
        kernels.setdefault(report.kernel, {})[report.architecture] = {
            "registers": report.registers,
            "spilled_bytes": report.spilled_bytes,
            "shared_bytes": report.shared_bytes,
        }
    return {
        "nvcc": version,
        "sources_sha256": source_digest(),
        "flags": list(FLAGS),
        "kernels": kernels,
    }


def _readable(mangled: str) -> str:
    """Return the demangled name without the project's namespaces."""
    demangled = subprocess.check_output(["c++filt", mangled], text=True).strip()
    name = re.sub(r"bevstack::|gpu::|\(anonymous namespace\)::|^void ", "", demangled)
    return name.split(">(", 1)[0] + ">" if ">(" in name else name.split("(", 1)[0]


def main() -> int:
    """Compile all kernels, print a table, and write it to a file if --json is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print(
            "nvcc must be on the PATH; got none: install the CUDA toolkit or add its folder bin",
            file=sys.stderr,
        )
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
