"""Compiles the operators' kernels for the torch that is installed.

Needs a C++ compiler, and nvcc for the CUDA kernels of a torch that has CUDA. The result goes into
the installed package, or into your cache folder where that cannot be written.
BEVSTACK_BUILD_OPS=cpu leaves the CUDA kernels out; FORCE_CUDA=1 tries them though the toolkit found
is not of torch's CUDA version.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXIT_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack build-ops``: none."""


def run(args: argparse.Namespace) -> int:
    """Builds, tells how, and lets a new process say which kernels it finds; 1 after a failure."""
    from bevstack.ops import loading

    builder = load_builder()
    into = choose_folder(loading.package_folder(), loading.cache_folder())
    problem = builder.why_not()
    if problem is not None:
        raise ValueError(f"the kernels must be buildable; got: {problem}; {remedy(problem)}")
    sources = builder.SOURCES
    print(f"compiling {sources} into {into}; it takes a minute or two", flush=True)
    with tempfile.TemporaryDirectory(prefix="bevstack-ops-") as scratch:
        record = builder.build(into, work_folder(sources) or Path(scratch))
    if record.outcome != "built" and loading.native_problem() is not None:
        record.write(into)  # so that `bevstack doctor` can tell
    print(f"ran       {record.command}\ntook      {record.seconds:.0f} s")
    for line in record.lines():
        print(line, file=sys.stderr)
    if record.outcome == "built" and into == loading.package_folder():
        note_for_uninstalling(into)
    print("\n".join(["`bevstack doctor` now says:", *served_now()]))
    return 0 if record.outcome == "built" else EXIT_FAILED


def load_builder() -> Any:
    """The installed sources' own build program.

    Raises:
        FileNotFoundError: the sources are not there.
    """
    try:
        return importlib.import_module("bevstack._ops_sources.build")
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "the kernels' sources must be installed; got a package without them; "
            "pip install --force-reinstall --no-deps bevstack"
        ) from error


def choose_folder(package: Path, cache: Path) -> Path:
    """The package's folder where a file can be made in it, else the user's cache."""
    try:
        with tempfile.TemporaryFile(dir=package):
            return package
    except OSError:
        return cache


def work_folder(sources: Path) -> Path | None:
    """In a checkout, where its installation keeps object files too; else nothing is kept."""
    root = sources.parent
    return root / "build" / "ops" if (root / "setup.py").is_file() else None


def remedy(problem: str) -> str:
    """How to get what a build lacks."""
    if "BEVSTACK_BUILD_OPS" in problem:
        return "unset BEVSTACK_BUILD_OPS"
    if "compiler" in problem:
        return "apt-get install g++ (or another C++ compiler), or name yours in CXX"
    return "pip install torch"


def note_for_uninstalling(package: Path) -> None:
    """Adds the built files to those that pip removes together with the package."""
    import importlib.metadata

    for file in importlib.metadata.files("bevstack") or []:
        if file.name != "RECORD" or package.parent != Path(str(file.locate())).parents[1]:
            continue
        listed = Path(str(file.locate())).read_text(encoding="utf-8").splitlines()
        names = {line.split(",")[0] for line in listed}
        built = [f"{package.name}/{path.name}" for path in sorted(package.glob("_C.*"))]
        added = [f"{name},," for name in built if name not in names]
        text = "\n".join([*listed, *added]) + "\n"
        Path(str(file.locate())).write_text(text, encoding="utf-8")


def served_now() -> list[str]:
    """The doctor's lines on the operators, from a process that has loaded nothing before."""
    from bevstack.ops import loading

    program = "import sys; from bevstack.cli.main import main; sys.exit(main(['doctor', '--json']))"
    beside = {"cwd": loading.package_folder().parent}  # so that it finds this very package
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **beside)
    report = json.loads(told.stdout)
    rows = [f"  {k['operator']:24}{k['device']:8}{k['kernel']}" for k in report["kernels"]]
    return [*rows, f"  {report['cuda_kernels']}"]
