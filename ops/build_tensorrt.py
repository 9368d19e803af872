"""Build of the library of our plugins for TensorRT, from tensorrt/ and the CUDA kernels.

`bevstack.ops.plugin_library` calls `build`. The library needs nvcc and TensorRT's C++ headers,
which its Python packages do not carry.

Environment:
    TENSORRT_INCLUDE: the folder of NvInferRuntime.h, if it is not one of `HEADER_FOLDERS`.
    CUDA_HOME: the CUDA toolkit, as for `ops/build.py`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path

from bevstack._ops_sources import build as builder
from bevstack._ops_sources.build_openvino import BuildError, run

SOURCES = builder.SOURCES
KERNELS = ("dcnv3/dcnv3_kernels.cu", "ms_deform_attn/ms_deform_attn_kernels.cu")
HEADER_FOLDERS = (
    "/usr/include",
    f"/usr/include/{platform.machine()}-linux-gnu",
    "/usr/local/tensorrt/include",
)
HEADER = "NvInferRuntime.h"
_MAJOR = re.compile(r"#define\s+(?:TRT_MAJOR_ENTERPRISE|NV_TENSORRT_MAJOR)\s+(\d+)")


def sources() -> list[str]:
    """Return the C++ files, sorted."""
    found = (*SOURCES.glob("tensorrt/*.cpp"), *SOURCES.glob("*/*_tensorrt.cpp"))
    return sorted(path.relative_to(SOURCES).as_posix() for path in found)


def digest() -> str:
    """Return the digest of the sources of the library."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    headers = (path for kind in ("*.h", "*.cuh") for path in SOURCES.rglob(kind))
    names = [path.relative_to(SOURCES).as_posix() for path in headers]
    for source in sorted((*sources(), *KERNELS, *names)):
        found.update(f"\0{source}\0".encode())
        found.update((SOURCES / source).read_bytes())
    return found.hexdigest()


def find_headers() -> Path:
    """Return the folder of TensorRT's headers.

    Raises:
        BuildError: there is none.
    """
    named = os.environ.get("TENSORRT_INCLUDE")
    folders = (named,) if named else HEADER_FOLDERS
    for folder in folders:
        if (Path(folder) / HEADER).is_file():
            return Path(folder)
    raise BuildError(
        f"{HEADER} of TensorRT is not in {' or '.join(folders)}: apt-get install "
        "libnvinfer-headers-dev, or set TENSORRT_INCLUDE to its folder"
    )


def header_major(folder: Path) -> int:
    """Return the major version of TensorRT's headers.

    Raises:
        BuildError: the headers do not name it.
    """
    found = _MAJOR.search((folder / "NvInferVersion.h").read_text(encoding="utf-8"))
    if found is None:
        raise BuildError(f"{folder / 'NvInferVersion.h'} does not name a version")
    return int(found[1])


def compile_command(source: str, target: Path, headers: Path, toolkit: Path) -> list[str]:
    """Return the command that compiles a C++ file."""
    includes = ["-I.", "-isystem", str(headers), "-isystem", str(toolkit / "include")]
    flags = ["-O2", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"]
    return ["c++", *flags, *includes, "-c", source, "-o", str(target)]


def build(into: Path, work: Path, *, version: str, architecture: str) -> None:
    """Compile the library.

    Args:
        into: the file to write.
        work: an empty folder for object files.
        version: TensorRT's version, for example 10.13.2.6; headers must be of its major version.
        architecture: compute capability of the GPU without a point, for example 90.

    Raises:
        BuildError: nvcc or the headers are missing, or a compiler reports an error.
    """
    nvcc = builder.find_nvcc()
    if nvcc is None:
        raise BuildError("no CUDA compiler (nvcc) is found: install the CUDA toolkit")
    headers = find_headers()
    if header_major(headers) != int(version.split(".")[0]):
        raise BuildError(
            f"the headers in {headers} are of TensorRT {header_major(headers)}, the installed "
            f"package is {version}: set TENSORRT_INCLUDE to headers of the same version"
        )
    objects = []
    for source in sources():
        target = work / source.replace("/", "_").replace(".cpp", ".o")
        run(compile_command(source, target, headers, nvcc.parent.parent))
        objects.append(str(target))
    flags = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", f"-arch=sm_{architecture}"]
    for source in KERNELS:
        target = work / source.replace("/", "_").replace(".cu", ".o")
        run([str(nvcc), *flags, "-Xcompiler", "-fPIC", "-I.", "-c", source, "-o", str(target)])
        objects.append(str(target))
    run([str(nvcc), "-shared", *objects, "-o", str(into)])
