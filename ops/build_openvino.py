"""Build of the library of our operators for OpenVINO, from openvino/ and the CPU's kernels.

`bevstack.ops.openvino_library` calls `build`. The library needs the headers and libraries of
OpenVINO's wheel, no torch. Environment: CXX, the compiler.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from bevstack._ops_sources import build as builder

SOURCES = builder.SOURCES
# The C++ files of the library besides the kernels of each instruction set.
OWN = ("common/levels.cpp",)


class BuildError(Exception):
    """A library that cannot be built; the text is the reason."""


def sources() -> list[str]:
    """Return the C++ files, sorted."""
    own = [path.relative_to(SOURCES).as_posix() for path in SOURCES.glob("openvino/*.cpp")]
    kernels = [s for s in builder.native_sources("*.cpp") if builder.instruction_set(s) in levels()]
    return sorted((*OWN, *own, *kernels))


def levels() -> tuple[str, ...]:
    """Return the instruction sets that kernels are compiled for on this machine."""
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    return tuple(builder.INSTRUCTION_SETS) if is_x86 else ("baseline",)


def digest() -> str:
    """Return the digest of everything that determines the library besides OpenVINO itself."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    headers = [path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.h")]
    for source in sorted((*sources(), *headers)):
        found.update(f"\0{source}\0".encode())
        found.update((SOURCES / source).read_bytes())
    return found.hexdigest()


def build(into: Path, work: Path, package: Path) -> None:
    """Compile the library.

    Args:
        into: the file to write.
        work: an empty folder for object files.
        package: the folder of the installed package `openvino`.

    Raises:
        BuildError: there is no compiler, or it reports an error.
    """
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    if not sys.platform.startswith("linux"):
        raise BuildError(f"it is built on Linux alone; this is {sys.platform}")
    if shutil.which(compiler[0]) is None:
        raise BuildError(f"no C++ compiler is found ({compiler[0]}): apt-get install g++")
    if not (package / "include" / "openvino").is_dir():
        raise BuildError(f"{package} has no C++ headers: pip install openvino")

    def compile_source(source: str) -> str:
        target = work / source.replace("/", "_")
        flags = [*builder.COMPILE_FLAGS, "-std=c++17", "-fPIC", "-Wno-psabi"]
        flags += builder.INSTRUCTION_SETS.get(builder.instruction_set(source) or "", [])
        includes = ["-I.", "-isystem", str(package / "include")]
        run([*compiler, *flags, *includes, "-c", source, "-o", str(target.with_suffix(".o"))])
        return str(target.with_suffix(".o"))

    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
        objects = list(pool.map(compile_source, sources()))
    folder = package / "libs"
    needed = [one_library(folder, name) for name in ("libopenvino.so", "libtbb.so")]
    # The kernels of this library, not those of bevstack._C, which have the same names.
    run(
        [
            *(*compiler, "-shared", "-Wl,-Bsymbolic", *objects, f"-L{folder}"),
            *(f"-l:{name}" for name in needed),
            *("-o", str(into)),
        ]
    )


def one_library(folder: Path, name: str) -> str:
    """Return the name with its version of a shared library.

    Raises:
        BuildError: the folder has none.
    """
    found = sorted(path.name for path in folder.glob(f"{name}*"))
    if not found:
        raise BuildError(f"{folder} has no {name}")
    return found[0]


def run(command: list[str]) -> None:
    """Run the compiler.

    Raises:
        BuildError: it reports an error; holds its first lines.
    """
    done = subprocess.run(
        command,
        cwd=SOURCES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise BuildError("the compiler reports: " + "; ".join(builder.last_lines(done.stdout)[:3]))
