"""Build program of `bevstack._C`: compiles this folder for the installed torch.

setup.py and `bevstack build-ops` call `build`. It runs this file as a separate program, so that it
can record the output of the compilers. Importing this module needs neither torch nor setuptools.

Environment:
    BEVSTACK_BUILD_OPS: "0" compiles nothing. "cpu" compiles for the CPU alone. "require" makes an
        installation without compiled kernels an error. "1", the default, only reports it.
    FORCE_CUDA: "1" compiles the CUDA sources even if the CUDA toolkit has another version than
        torch's, and prints the reason if that is impossible. A GPU is never needed.
    CXX, MAX_JOBS, CUDA_HOME, TORCH_CUDA_ARCH_LIST: the meaning that torch gives them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parent
RECORD_NAME = "_C.json"
COMMAND = "bevstack build-ops"
SOURCE_KINDS = ("*.h", "*.cuh", "*.cpp", "*.cu")
BUILD_MODES = ("0", "1", "cpu", "require")

# A kernel file `<op>_<level>.cpp` is compiled for one instruction set and selected at run time.
INSTRUCTION_SETS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "baseline": [],
}
COMPILE_FLAGS = ["-O3"]
# A flag for the compiler alone. Without it at::parallel_for runs on one thread. Linking with it
# would add a second OpenMP runtime to the one that torch has loaded.
OPENMP = ["-fopenmp"] if sys.platform == "linux" else []
GPU_ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
MAX_LOG_LINES = 20
ERROR_END_MARKS = ("ninja: ", "Traceback ")  # starts of the lines after the compiler's errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The result of a build; stored beside the extension, where `bevstack doctor` reads it."""

    outcome: str  # "built", "failed" or "skipped"
    problem: str = ""  # reason if nothing was built
    cuda_problem: str = ""  # reason if the CUDA kernels are left out
    log: tuple[str, ...] = ()  # the last lines of the compiler that failed
    torch: str = ""
    python: str = sys.implementation.cache_tag
    sources: str = ""  # source_digest() of the compiled sources
    command: str = ""
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Return the lines to report to the user; none if everything possible was built."""
        log = [f"  {line}" for line in self.log]
        if self.outcome != "built":
            title = f"the compiled kernels bevstack._C are not built: {self.problem}"
            effect = f"{', '.join(operators())} run on their Python reference, which is slower"
        elif self.cuda_problem and (self.log or is_cuda_forced()):
            title = f"the CUDA kernels are not built: {self.cuda_problem}"
            effect = "on a GPU the operators run on their Python reference; the CPU's are compiled"
        else:
            return []
        return [title, *log, effect, f"to build them for the installed torch: {COMMAND}"]

    def write(self, folder: Path) -> None:
        """Write the record into a folder; an older one is replaced atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{RECORD_NAME}.{os.getpid()}"
        stored = dataclasses.asdict(self)
        del stored["command"], stored["seconds"]  # useless elsewhere, and different in every build
        temporary.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
        temporary.replace(folder / RECORD_NAME)


def native_sources(pattern: str) -> list[str]:
    """Return the sources below this folder but those for other runtimes, in a fixed order."""
    found = (path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob(pattern))
    return sorted(s for s in found if not re.search(r"^(openvino|tensorrt)/|_tensorrt\.cpp$", s))


def operators() -> list[str]:
    """Return the operators with kernels; each has its own folder."""
    return sorted({Path(source).parent.name for source in native_sources("*_baseline.cpp")})


def source_digest() -> str:
    """Return the digest of everything that determines the extension: sources and this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(s for kind in SOURCE_KINDS for s in native_sources(kind)):
        digest.update(f"\0{source}\0".encode())
        digest.update((SOURCES / source).read_bytes())
    return digest.hexdigest()


def instruction_set(source: str) -> str | None:
    """Return the instruction set in the name of a source, or None for a portable source."""
    level = Path(source).stem.rpartition("_")[2]
    return level if level in INSTRUCTION_SETS else None


def build_mode() -> str:
    """Return the value of BEVSTACK_BUILD_OPS.

    Raises:
        SystemExit: the value is not one of `BUILD_MODES`.
    """
    mode = os.environ.get("BEVSTACK_BUILD_OPS") or "1"
    if mode not in BUILD_MODES:
        raise SystemExit(f"BEVSTACK_BUILD_OPS must be one of {', '.join(BUILD_MODES)}; got {mode}")
    return mode


def is_cuda_forced() -> bool:
    """Return True if FORCE_CUDA requests the CUDA kernels."""
    return os.environ.get("FORCE_CUDA", "0") not in ("", "0")


def find_build_problem() -> str | None:
    """Return the reason for building nothing, or None if the extension can be built."""
    if build_mode() == "0":
        return "BEVSTACK_BUILD_OPS=0 is set"
    try:
        import torch  # noqa: F401
    except (ImportError, OSError):
        return "torch cannot be imported by the build (pip's build isolation hides it)"
    compiler = shlex.split(os.environ.get("CXX") or "c++")[0]
    if shutil.which(compiler) is None:
        return f"no C++ compiler is found ({compiler})"
    return None


def skip_record() -> Record | None:
    """Return the record of a skipped build, or None if the extension can be built."""
    problem = find_build_problem()
    if problem is None:
        return None
    return Record(outcome="skipped", problem=problem, sources=source_digest())


def find_nvcc() -> Path | None:
    """Find the CUDA compiler in CUDA_HOME, on the PATH, or in /usr/local/cuda."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    command = None if home else shutil.which("nvcc")
    if command is not None:
        # The nvcc on the PATH may be a script that calls the real one, which prints its folder.
        plan = subprocess.run([command, "--dryrun", "-E", "x.cu"], capture_output=True, text=True)
        folders = re.findall(r"_HERE_=(.+)", plan.stderr)
        return Path(folders[0]) / "nvcc" if folders else Path(command)
    nvcc = Path(home or "/usr/local/cuda") / "bin" / "nvcc"
    return nvcc if nvcc.is_file() else None


def find_cuda_problem() -> str | None:
    """Return the reason for leaving the CUDA sources out, or None if they can be compiled."""
    import torch

    if build_mode() == "cpu":
        return "BEVSTACK_BUILD_OPS=cpu is set"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    nvcc = find_nvcc()
    if nvcc is None:
        return f"no CUDA compiler (nvcc) is found; torch is built for CUDA {torch.version.cuda}"
    version = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", version)
    if release is None:
        return f"{nvcc} does not print its version"
    if release[1] != torch.version.cuda.split(".")[0] and not is_cuda_forced():
        toolkit = f"{release[1]}.{release[2]}"
        return f"nvcc is of CUDA {toolkit}, torch is built for CUDA {torch.version.cuda}"
    return None


def build(into: Path, work: Path) -> Record:
    """Compile the extension into a folder and write its record there.

    If the CUDA sources do not compile, only the CPU sources are compiled. If nothing compiles,
    nothing is written, and the caller decides what to do with the returned record.

    Args:
        into: the folder of the package.
        work: the folder of object files; unchanged sources are not compiled again.
    """
    skipped = skip_record()
    if skipped is not None:
        return skipped
    import torch

    cuda_problem = find_cuda_problem() or ""
    work = work / f"torch-{torch.__version__}-{sys.implementation.cache_tag}"
    log: tuple[str, ...] = ()
    start = time.monotonic()
    for with_cuda in (False,) if cuda_problem else (True, False):
        command = [sys.executable, str(SOURCES / "build.py"), "--into", str(into.resolve())]
        command += ["--work", str(work / ("cuda" if with_cuda else "cpu"))]
        command += ["--cuda"] if with_cuda else []
        done = run_child(command, child_environment(with_cuda))
        record = Record(
            outcome="built" if done.returncode == 0 else "failed",
            problem="" if done.returncode == 0 else "the compiler reports an error",
            cuda_problem=cuda_problem,
            log=log if done.returncode == 0 else last_lines(done.stdout),
            torch=torch.__version__,
            sources=source_digest(),
            command=shlex.join(command),
            seconds=round(time.monotonic() - start, 1),
        )
        if done.returncode == 0:
            record.write(into)
            break
        cuda_problem, log = "the CUDA compiler reports an error", record.log
    return record


def run_child(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program with its standard output and standard error in one text."""
    pipe, merged = subprocess.PIPE, subprocess.STDOUT
    return subprocess.run(
        command, env=environment, stdout=pipe, stderr=merged, text=True, errors="replace"
    )


def child_environment(with_cuda: bool) -> dict[str, str]:
    """Return the environment of torch's build, with defaults for variables that are not set."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        processors = os.cpu_count() or 1
    variables = {"MAX_JOBS": str(processors), **os.environ}
    nvcc = find_nvcc() if with_cuda else None
    if nvcc is not None:
        variables["CUDA_HOME"] = str(nvcc.parent.parent)
        known = subprocess.run([str(nvcc), "--list-gpu-arch"], capture_output=True, text=True)
        chosen = [a for a in GPU_ARCHITECTURES if f"compute_{a.replace('.', '')}" in known.stdout]
        variables.setdefault("TORCH_CUDA_ARCH_LIST", ";".join(chosen) + "+PTX")
    return variables


def last_lines(output: str) -> tuple[str, ...]:
    """Return the error lines of a compiler's output, without commands and tracebacks."""
    lines = [line for line in output.splitlines() if line.strip() and " -o " not in line]
    for first, line in enumerate(lines):
        if re.search(r"\berror\b", line, re.IGNORECASE):
            errors = itertools.takewhile(
                lambda line: not line.startswith(ERROR_END_MARKS), lines[first:]
            )
            return tuple(itertools.islice(errors, MAX_LOG_LINES))
    return tuple(lines[-MAX_LOG_LINES:])


def compile_extension(work: Path, with_cuda: bool) -> Path:
    """Compile everything with torch's build helper, and return the extension's file."""
    from setuptools import Distribution
    from torch.utils import cpp_extension

    extension, specific = native_extension(with_cuda)
    compile_source = functools.partial(compile_for_instruction_set, work=work)
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
        extension.extra_objects.extend(pool.map(compile_source, specific))
    distribution = Distribution({"name": "bevstack", "ext_modules": [extension]})
    command = cpp_extension.BuildExtension(distribution)
    command.build_lib = str(work / "lib")
    command.build_temp = str(work)
    command.force = True  # always call ninja, which detects changed sources
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath("_C"))


def native_extension(with_cuda: bool) -> tuple[Any, list[str]]:
    """Return the extension for torch's build helper, and the sources to compile separately."""
    from torch.utils import cpp_extension

    # `<op>_cuda.cpp` registers the kernels of `<op>_kernels.cu`.
    sources = [s for s in native_sources("*.cpp") if with_cuda or not s.endswith("_cuda.cpp")]
    levels = INSTRUCTION_SETS if platform.machine() in ("x86_64", "AMD64") else ("baseline",)
    make = cpp_extension.CUDAExtension if with_cuda else cpp_extension.CppExtension
    extension = make(
        "_C",
        [s for s in sources if instruction_set(s) is None]
        + (native_sources("*.cu") if with_cuda else []),
        include_dirs=[str(SOURCES)],
        define_macros=[("BEVSTACK_WITH_CUDA", "1")] if with_cuda else [],
        extra_compile_args={"cxx": [*COMPILE_FLAGS, *OPENMP], "nvcc": ["-O3"]},
    )
    return extension, [source for source in sources if instruction_set(source) in levels]


def compile_for_instruction_set(source: str, work: Path) -> str:
    """Compile a source for its instruction set, without torch headers; return the object file."""
    target = (work / source).with_suffix(".o")
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = [*COMPILE_FLAGS, "-std=c++17", "-fPIC", "-Wno-psabi", *OPENMP, f"-I{SOURCES}"]
    flags += INSTRUCTION_SETS[instruction_set(source) or "baseline"]
    command = [*shlex.split(os.environ.get("CXX") or "c++"), *flags, "-MMD", "-c", source]
    if not is_current(target, shlex.join(command)):
        subprocess.run([*command, "-o", str(target)], check=True)
        target.with_suffix(".command").write_text(shlex.join(command), encoding="utf-8")
    return str(target)


def is_current(target: Path, command: str) -> bool:
    """Return True if this command built the object after the last change of its sources."""
    command_file, dependency_file = target.with_suffix(".command"), target.with_suffix(".d")
    if not (command_file.is_file() and dependency_file.is_file() and target.is_file()):
        return False
    names = dependency_file.read_text(encoding="utf-8").partition(":")[2].replace("\\\n", " ")
    included = [Path(name) for name in names.split()]
    changed_ns = [file.stat().st_mtime_ns for file in included if file.is_file()]
    newest_ns = max(changed_ns, default=0)
    same = command_file.read_text(encoding="utf-8") == command and len(changed_ns) == len(included)
    return same and newest_ns < target.stat().st_mtime_ns


def main() -> None:
    """Compile into a folder; an extension there is replaced atomically, as it may be in use."""
    parser = argparse.ArgumentParser(description="Compile bevstack._C for the installed torch.")
    parser.add_argument("--into", type=Path, required=True, help="folder of the extension")
    parser.add_argument("--work", type=Path, required=True, help="folder of object files")
    parser.add_argument("--cuda", action="store_true", help="compile the CUDA sources too")
    arguments = parser.parse_args()
    into, work = arguments.into.resolve(), arguments.work.resolve()
    os.chdir(SOURCES)
    built = compile_extension(work, arguments.cuda)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="._C.", dir=into) as scratch:
        os.replace(shutil.copy(built, scratch), into / built.name)


if __name__ == "__main__":
    main()
