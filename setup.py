"""Builds `bevstack._C` from `ops/` for the torch that is installed; metadata is in pyproject.toml.

The extension is optional: every operator has a reference in Python. It is left out, and the reason
told on stderr, where torch cannot be imported (pip hides it during an isolated build) or where no
C++ compiler is found. Where both are present, a failure to compile is an error.

Environment:
    BEVSTACK_SKIP_NATIVE: "1" builds no extension; "cuda" builds it for the CPU alone.
    CXX, MAX_JOBS (default 2), CUDA_HOME, TORCH_CUDA_ARCH_LIST: as torch reads them.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
REBUILD = f"pip install --no-build-isolation --no-deps --force-reinstall {ROOT}"
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}

# Kernels come as `<op>_<level>.cpp`, each compiled for one instruction set and chosen at run time.
INSTRUCTION_SETS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "baseline": [],
}
COMPILE_FLAGS = ["-O3"]
# For the compiler only: at::parallel_for runs on one thread without it, and linking it too would
# bring a second OpenMP runtime beside the one torch has loaded.
OPENMP = ["-fopenmp"] if sys.platform == "linux" else []
GPU_ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")


def native_sources(pattern: str) -> list[str]:
    """Sources under ops/ relative to the project, sorted so that builds are reproducible."""
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"ops/**/{pattern}"))


def instruction_set(source: str) -> str | None:
    """The level a source is compiled for by its name, or None for a portable one."""
    level = Path(source).stem.rpartition("_")[2]
    return level if level in INSTRUCTION_SETS else None


def why_not_native() -> str | None:
    """The reason for building no extension, or None where it can be built."""
    if os.environ.get("BEVSTACK_SKIP_NATIVE") == "1":
        return "BEVSTACK_SKIP_NATIVE=1 is set"
    try:
        import torch  # noqa: F401
    except ImportError:
        return "torch cannot be imported by the build (pip's build isolation hides it)"
    compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
    if shutil.which(compiler) is None:
        return f"no C++ compiler is found ({compiler})"
    return None


def report_missing_extension(reason: str) -> None:
    """Tells on stderr that the reference kernels will run, and how to build the compiled ones."""
    print(
        f"bevstack: building without the compiled kernels bevstack._C: {reason}.\n"
        "bevstack: every operator runs on its Python reference, which is slower. With torch and a\n"
        f"bevstack: C++ compiler installed, build them for that torch with:\n  {REBUILD}",
        file=sys.stderr,
    )


def find_cuda_home() -> None:
    """Sets CUDA_HOME to where nvcc itself says it lies.

    torch takes the folder above the nvcc on the PATH, which holds no libraries where that is a
    script that calls another.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None or "CUDA_HOME" in os.environ or "CUDA_PATH" in os.environ:
        return
    plan = subprocess.run([nvcc, "--dryrun", "-E", "x.cu"], capture_output=True, text=True)
    bins = [line.partition("_HERE_=")[2] for line in plan.stderr.splitlines() if "_HERE_=" in line]
    if bins:
        os.environ["CUDA_HOME"] = str(Path(bins[0]).parent)


def find_cuda_sources() -> list[str]:
    """The .cu sources where torch was built for CUDA and nvcc is there, else none."""
    find_cuda_home()
    import torch
    from torch.utils import cpp_extension

    nvcc = Path(cpp_extension.CUDA_HOME or "") / "bin" / "nvcc"
    skip = os.environ.get("BEVSTACK_SKIP_NATIVE") == "cuda"
    sources = native_sources("*.cu")
    if skip or not sources or torch.version.cuda is None or not nvcc.is_file():
        return []
    if "TORCH_CUDA_ARCH_LIST" not in os.environ:
        known = subprocess.check_output([str(nvcc), "--list-gpu-arch"], text=True).split()
        chosen = [a for a in GPU_ARCHITECTURES if f"compute_{a.replace('.', '')}" in known]
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(chosen) + "+PTX"
    return sources


def native_extension() -> dict[str, object]:
    """The arguments of setup() that build `bevstack._C`."""
    os.environ.setdefault("MAX_JOBS", "2")
    cuda_sources = find_cuda_sources()
    # `<op>_cuda.cpp` registers the kernels of `<op>_kernels.cu`.
    sources = [s for s in native_sources("*.cpp") if cuda_sources or not s.endswith("_cuda.cpp")]
    portable = [source for source in sources if instruction_set(source) is None]
    levels = INSTRUCTION_SETS if platform.machine() in ("x86_64", "AMD64") else ("baseline",)
    specific = [source for source in sources if instruction_set(source) in levels]
    from torch.utils import cpp_extension

    class BuildKernels(cpp_extension.BuildExtension):
        """Compiles the files of one instruction set by themselves, then all else as torch does."""

        def build_extensions(self) -> None:
            for source in specific:
                flags = [*COMPILE_FLAGS, "-std=c++17", "-fPIC", "-Wno-psabi", *OPENMP]
                flags += INSTRUCTION_SETS[instruction_set(source) or "baseline"]
                objects = Path(self.build_temp) / Path(source).with_suffix(".o")
                objects.parent.mkdir(parents=True, exist_ok=True)
                command = [*shlex.split(os.environ.get("CXX", "c++")), *flags, "-Iops"]
                self.spawn([*command, "-c", source, "-o", str(objects)])
                self.extensions[0].extra_objects.append(str(objects))
            super().build_extensions()

    make = cpp_extension.CUDAExtension if cuda_sources else cpp_extension.CppExtension
    extension = make(
        "bevstack._C",
        [*portable, *cuda_sources],
        include_dirs=[str(ROOT / "ops")],
        define_macros=[("BEVSTACK_WITH_CUDA", "1")] if cuda_sources else [],
        extra_compile_args={"cxx": [*COMPILE_FLAGS, *OPENMP], "nvcc": ["-O3"]},
        depends=[header for kind in ("*.h", "*.cuh") for header in native_sources(kind)],
    )
    return {"ext_modules": [extension], "cmdclass": {"build_ext": BuildKernels}}


def extension_arguments() -> dict[str, object]:
    """What setup() is told about the extension: nothing where it has no sources or cannot be."""
    if not native_sources("*.cpp") or not BUILDING.intersection(sys.argv):
        return {}
    reason = why_not_native()
    if reason is not None:
        report_missing_extension(reason)
        return {}
    return native_extension()


if __name__ == "__main__":
    setup(
        packages=[*find_packages(include=["bevstack", "bevstack.*"]), "bevstack.configs"],
        package_dir={"bevstack.configs": "configs"},
        package_data={"bevstack": ["py.typed"], "*": ["*.json", "*.safetensors"]},
        **extension_arguments(),
    )
