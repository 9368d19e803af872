"""Compile the operators' kernels for the installed torch.

Needs a C++ compiler, and nvcc for the CUDA kernels if torch was built for CUDA. The compiled file
goes into the installed package, or into your cache folder if the package cannot be written.
Afterwards the command prints the kernel of each operator, as `bevstack doctor` does.

Environment: BEVSTACK_BUILD_OPS=cpu compiles no CUDA kernels; FORCE_CUDA=1 compiles them even if the
CUDA toolkit has another version than torch's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from bevstack.files import scratch_folder, write_text_atomically

EXIT_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack build-ops``: none."""


def run(args: argparse.Namespace) -> int:
    """Compile the kernels and print the kernels in use; return 1 if the compilation fails.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
        ValueError: nothing can be compiled, for example without a compiler.
    """
    from bevstack.ops import loading

    builder = load_builder()
    cache = loading.cache_folder()
    assert cache is not None  # None only without the sources, which load_builder has found
    folder = choose_folder(loading.package_folder(), cache)
    problem = builder.find_build_problem()
    if problem is not None:
        raise ValueError(f"the kernels must be buildable; got: {problem}; {remedy(problem)}")
    sources = builder.SOURCES
    print(f"compiling {sources} into {folder}; this takes a minute or two", flush=True)
    with scratch_folder() as scratch:
        record = builder.build(folder, object_folder(sources) or scratch)
    if record.outcome == "built":
        loading.seal_build(folder)
    if record.outcome != "built" and loading.native_problem() is not None:
        record.write(folder)  # `bevstack doctor` prints the reason from this record
    print(f"command   {record.command}\ntook      {record.seconds:.0f} s")
    for line in record.lines():
        print(line, file=sys.stderr)
    if record.outcome == "built" and folder == loading.package_folder():
        register_for_uninstall(folder)
    print("\n".join(["kernels, as `bevstack doctor` reports them:", *kernels_in_use()]))
    return 0 if record.outcome == "built" else EXIT_FAILED


def load_builder() -> ModuleType:
    """Import the build program that is installed with the sources of the kernels.

    Raises:
        FileNotFoundError: the sources are not installed.
    """
    try:
        return importlib.import_module("bevstack._ops_sources.build")
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "the kernels' sources must be installed; got a package without them; "
            "pip install --force-reinstall --no-deps bevstack"
        ) from error


def choose_folder(package: Path, cache: Path) -> Path:
    """Return the package's folder if a file can be created in it, else the user's cache."""
    try:
        with tempfile.TemporaryFile(dir=package):
            return package
    except OSError:
        return cache


def object_folder(sources: Path) -> Path | None:
    """Return the folder for object files in a checkout, the same as for an installation.

    Without a checkout there is none, and object files are not kept.
    """
    root = sources.parent
    return root / "build" / "ops" if (root / "setup.py").is_file() else None


def remedy(problem: str) -> str:
    """Return the remedy for a problem that ``builder.find_build_problem`` reports."""
    if "BEVSTACK_BUILD_OPS" in problem:
        return "unset BEVSTACK_BUILD_OPS"
    if "compiler" in problem:
        return "apt-get install g++ (or another C++ compiler), or set CXX to your compiler"
    return "pip install torch"


def register_for_uninstall(package: Path) -> None:
    """Add the compiled files to the files that pip removes together with the package."""
    import importlib.metadata

    for file in importlib.metadata.files("bevstack") or []:
        if file.name != "RECORD" or package.parent != Path(str(file.locate())).parents[1]:
            continue
        listed = Path(str(file.locate())).read_text(encoding="utf-8").splitlines()
        names = {line.split(",")[0] for line in listed}
        built = [f"{package.name}/{path.name}" for path in sorted(package.glob("_C.*"))]
        added = [f"{name},," for name in built if name not in names]
        text = "\n".join([*listed, *added]) + "\n"
        write_text_atomically(str(file.locate()), text)


def kernels_in_use() -> list[str]:
    """Return the doctor's lines on the operators, from a new process without loaded kernels."""
    from bevstack.ops import loading

    program = "import sys; from bevstack.cli.main import main; sys.exit(main(['doctor', '--json']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=loading.package_folder().parent,  # the new process imports this same package
    )
    report = json.loads(done.stdout)
    rows = [f"  {k['operator']:24}{k['device']:8}{k['kernel']}" for k in report["kernels"]]
    return [*rows, f"  {report['cuda_kernels']}"]
