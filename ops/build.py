"""Compiles `bevstack._C` from this folder for the torch that is installed.

setup.py and `bevstack build-ops` call `build`, which runs this file as a program of its own, so
that what the compilers print can be kept. Importing it needs neither torch nor setuptools.

Environment:
    BEVSTACK_BUILD_OPS: "0" compiles nothing; "cpu" compiles for the CPU alone; with "require" an
        installation without compiled kernels is an error ("1", or nothing: it is only told).
    FORCE_CUDA: "1" compiles the CUDA sources though the toolkit found is not torch's own, and says
        why where that is impossible. A GPU is never needed.
    CXX, MAX_JOBS, CUDA_HOME, TORCH_CUDA_ARCH_LIST: as torch reads them.
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
WISHES = ("0", "1", "cpu", "require")

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
LINES_TOLD = 20
AFTER_ERRORS = ("ninja: ", "Traceback ")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What became of a build; kept beside the extension, where `bevstack doctor` finds it."""

    outcome: str  # "built", "failed" or "skipped"
    problem: str = ""  # why nothing was built
    cuda_problem: str = ""  # why the CUDA kernels are not in what was built
    log: tuple[str, ...] = ()  # the compiler's last lines, of whatever failed
    torch: str = ""
    python: str = sys.implementation.cache_tag
    sources: str = ""  # digest
    command: str = ""
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """What to tell whoever builds: nothing where all that can be is built."""
        log = [f"  {line}" for line in self.log]
        if self.outcome != "built":
            title = f"the compiled kernels bevstack._C are not built: {self.problem}"
            serves = f"{', '.join(operators())} run on their Python reference, right but slower"
        elif self.cuda_problem and (self.log or forces_cuda()):
            title = f"the CUDA kernels are not built: {self.cuda_problem}"
            serves = "on a GPU the operators run on their Python reference; the CPU's are compiled"
        else:
            return []
        return [title, *log, serves, f"to build them for the torch that is installed: {COMMAND}"]

    def write(self, folder: Path) -> None:
        """Keeps it in a folder, where an older one is replaced in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{RECORD_NAME}.{os.getpid()}"
        kept = dataclasses.asdict(self)
        del kept["command"], kept["seconds"]  # of no use elsewhere, and no two builds agree
        temporary.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        temporary.replace(folder / RECORD_NAME)


def native_sources(pattern: str) -> list[str]:
    """Sources below this folder, sorted so that builds are reproducible."""
    return sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob(pattern))


def operators() -> list[str]:
    """The operators that have kernels here: each is a folder."""
    return sorted({Path(source).parent.name for source in native_sources("*_baseline.cpp")})


def source_digest() -> str:
    """Digest of all that decides what is compiled: the sources and this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(s for kind in SOURCE_KINDS for s in native_sources(kind)):
        digest.update(f"\0{source}\0".encode())
        digest.update((SOURCES / source).read_bytes())
    return digest.hexdigest()


def instruction_set(source: str) -> str | None:
    """The level a source is compiled for by its name, or None for a portable one."""
    level = Path(source).stem.rpartition("_")[2]
    return level if level in INSTRUCTION_SETS else None


def wish() -> str:
    """What BEVSTACK_BUILD_OPS asks for."""
    asked = os.environ.get("BEVSTACK_BUILD_OPS") or "1"
    if asked not in WISHES:
        raise SystemExit(f"BEVSTACK_BUILD_OPS must be one of {', '.join(WISHES)}; got {asked}")
    return asked


def forces_cuda() -> bool:
    """Whether FORCE_CUDA asks for the CUDA kernels."""
    return os.environ.get("FORCE_CUDA", "0") not in ("", "0")


def why_not() -> str | None:
    """The reason for building nothing, or None where the extension can be built."""
    if wish() == "0":
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
    """What to keep where nothing can be built, or None where it can."""
    problem = why_not()
    if problem is None:
        return None
    return Record(outcome="skipped", problem=problem, sources=source_digest())


def find_nvcc() -> Path | None:
    """The CUDA compiler of CUDA_HOME, of the PATH, or of the usual place."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    found = None if home else shutil.which("nvcc")
    if found is not None:
        # Where the one on the PATH is a script that calls another, that one knows where it lies.
        plan = subprocess.run([found, "--dryrun", "-E", "x.cu"], capture_output=True, text=True)
        places = re.findall(r"_HERE_=(.+)", plan.stderr)
        return Path(places[0]) / "nvcc" if places else Path(found)
    nvcc = Path(home or "/usr/local/cuda") / "bin" / "nvcc"
    return nvcc if nvcc.is_file() else None


def why_not_cuda() -> str | None:
    """The reason for leaving the CUDA sources out, or None where they can be compiled."""
    import torch

    if wish() == "cpu":
        return "BEVSTACK_BUILD_OPS=cpu is set"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    nvcc = find_nvcc()
    if nvcc is None:
        return f"no CUDA compiler (nvcc) is found; torch is built for CUDA {torch.version.cuda}"
    told = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", told)
    if release is None:
        return f"{nvcc} does not tell its version"
    if release[1] != torch.version.cuda.split(".")[0] and not forces_cuda():
        toolkit = f"{release[1]}.{release[2]}"
        return f"nvcc is of CUDA {toolkit}, torch is built for CUDA {torch.version.cuda}"
    return None


def build(into: Path, work: Path) -> Record:
    """Compiles the extension into a folder, with its record, as far as that is possible here.

    Where the CUDA sources do not compile, the CPU's are compiled alone. Where nothing can be
    compiled nothing is written: what to do then is the caller's decision.

    Args:
        into: the folder of the package.
        work: where object files are kept; what has not changed is not compiled again.
    """
    skipped = skip_record()
    if skipped is not None:
        return skipped
    import torch

    cuda_problem = why_not_cuda() or ""
    work = work / f"torch-{torch.__version__}-{sys.implementation.cache_tag}"
    log: tuple[str, ...] = ()
    start = time.monotonic()
    for with_cuda in (False,) if cuda_problem else (True, False):
        command = [sys.executable, str(SOURCES / "build.py"), "--into", str(into.resolve())]
        command += ["--work", str(work / ("cuda" if with_cuda else "cpu"))]
        command += ["--cuda"] if with_cuda else []
        done = run_aside(command, child_environment(with_cuda))
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


def run_aside(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the program, its messages and its errors in one text."""
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.run(
        command, env=environment, stdout=pipe, stderr=both, text=True, errors="replace"
    )


def child_environment(with_cuda: bool) -> dict[str, str]:
    """The variables torch's build reads, those not set by the user filled in."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        processors = os.cpu_count() or 1
    variables = {"MAX_JOBS": str(processors), **os.environ}
    nvcc = find_nvcc() if with_cuda else None
    if nvcc is not None:
        variables["CUDA_HOME"] = str(nvcc.parent.parent)
        known = subprocess.run([str(nvcc), "--list-gpu-arch"], capture_output=True, text=True)
        named = [a for a in GPU_ARCHITECTURES if f"compute_{a.replace('.', '')}" in known.stdout]
        variables.setdefault("TORCH_CUDA_ARCH_LIST", ";".join(named) + "+PTX")
    return variables


def last_lines(output: str) -> tuple[str, ...]:
    """What a compiler says of its failure, without the commands and the way into it."""
    lines = [line for line in output.splitlines() if line.strip() and " -o " not in line]
    for first, line in enumerate(lines):
        if re.search(r"\berror\b", line, re.IGNORECASE):
            told = itertools.takewhile(
                lambda line: not line.startswith(AFTER_ERRORS), lines[first:]
            )
            return tuple(itertools.islice(told, LINES_TOLD))
    return tuple(lines[-LINES_TOLD:])


def compile_extension(work: Path, with_cuda: bool) -> Path:
    """Compiles everything with torch's build helper; returns the extension's file."""
    from setuptools import Distribution
    from torch.utils import cpp_extension

    extension, specific = native_extension(with_cuda)
    command_of = functools.partial(compile_for_one_level, work=work)
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
        extension.extra_objects.extend(pool.map(command_of, specific))
    distribution = Distribution({"name": "bevstack", "ext_modules": [extension]})
    command = cpp_extension.BuildExtension(distribution)
    command.build_lib = str(work / "lib")
    command.build_temp = str(work)
    command.force = True  # to ask ninja, which knows what has changed
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath("_C"))


def native_extension(with_cuda: bool) -> tuple[Any, list[str]]:
    """The extension as torch's build helper wants it, and the sources it cannot compile."""
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


def compile_for_one_level(source: str, work: Path) -> str:
    """Compiles a file of one instruction set, which includes no torch; returns the object."""
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
    """Whether an object was made by this command after all it includes was last changed."""
    made_by, depends = target.with_suffix(".command"), target.with_suffix(".d")
    if not (made_by.is_file() and depends.is_file() and target.is_file()):
        return False
    listed = depends.read_text(encoding="utf-8").partition(":")[2].replace("\\\n", " ")
    included = [Path(name) for name in listed.split()]
    changed_ns = [file.stat().st_mtime_ns for file in included if file.is_file()]
    newest_ns = max(changed_ns, default=0)
    same = made_by.read_text(encoding="utf-8") == command and len(changed_ns) == len(included)
    return same and newest_ns < target.stat().st_mtime_ns


def main() -> None:
    """Compiles into a folder; what is there is replaced in one step, as others may be using it."""
    parser = argparse.ArgumentParser(description="Compile bevstack._C for the installed torch.")
    parser.add_argument("--into", type=Path, required=True, help="folder of the extension")
    parser.add_argument("--work", type=Path, required=True, help="folder of object files")
    parser.add_argument("--cuda", action="store_true", help="compile the CUDA sources too")
    arguments = parser.parse_args()
    into, work = arguments.into.resolve(), arguments.work.resolve()
    os.chdir(SOURCES)
    built = compile_extension(work, arguments.cuda)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="._C.", dir=into) as aside:
        os.replace(shutil.copy(built, aside), into / built.name)


if __name__ == "__main__":
    main()
