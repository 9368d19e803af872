"""Finds and loads the compiled kernels ``bevstack._C``: in the package, else in the user's cache.

The extension fits the torch it was built for and no other, so its build keeps a record of that
torch beside it, which is read before the extension is touched. What does not fit, or does not load,
is reported in a sentence and never raised: the references serve then.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import json
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import torch

BUILD_COMMAND = "bevstack build-ops"
_MODULE = "bevstack._C"
_RECORD_NAME = "_C.json"


class BuildRecord(NamedTuple):
    """What the build that made an extension, or failed to, says of itself."""

    outcome: str  # "built", "failed" or "skipped"
    problem: str  # why nothing was built, or ""
    cuda_problem: str  # why the CUDA kernels are left out, or ""
    log: tuple[str, ...]  # the compiler's last lines, of whatever failed
    torch: str  # version it was built for, or ""
    python: str  # as in "cpython-311"
    sources: str  # digest of what was compiled


class NativeState(NamedTuple):
    """Where the compiled kernels come from, or why there are none."""

    problem: str | None  # in one sentence; None where the kernels are loaded
    folder: Path | None  # of the extension that is loaded
    record: BuildRecord | None  # of the build that made it, or of the one that did not


def native_problem() -> str | None:
    """Why the compiled kernels are not there, in one sentence; None where they are.

    The extension is loaded by the first call (importing ``bevstack.ops`` makes it). One that was
    built for another torch is reported here, never raised.
    """
    return native_state().problem


@functools.cache
def native_state() -> NativeState:
    """Loads the compiled kernels, from the package or else from the cache, at the first call."""
    if sys.modules.get(_MODULE, "") is None:  # somebody forbids it
        return NativeState(f"{_MODULE} has not been built", None, None)
    package = _load_from(package_folder())
    cache = None if package.problem is None else cache_folder()
    if cache is None or _extension_in(cache) is None:
        return package
    cached = _load_from(cache)
    if cached.problem is None or _extension_in(package_folder()) is None:
        return cached
    return package


def package_folder() -> Path:
    """The folder of the package, where an installation puts the extension."""
    return Path(__file__).resolve().parents[1]


def cache_folder() -> Path | None:
    """Where this user's builds for this torch and these sources lie; None without the sources.

    It is beside torch's own cached files, below TORCH_HOME, XDG_CACHE_HOME or ~/.cache.
    """
    sources = source_digest()
    if sources is None:
        return None
    fits = (torch.__version__, sys.implementation.cache_tag, sysconfig.get_platform(), sources[:12])
    return Path(torch.hub.get_dir()).parent / "bevstack" / "-".join(("torch", *fits))


def source_digest() -> str | None:
    """Digest of the sources that are installed; None where they are not."""
    try:
        builder = importlib.import_module("bevstack._ops_sources.build")
    except ModuleNotFoundError:
        return None
    return builder.source_digest()


def read_record(folder: Path) -> BuildRecord | None:
    """The record of the last build into a folder; None where it is missing or cannot be read."""
    try:
        stored = json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8"))
        record = BuildRecord(**{name: stored[name] for name in BuildRecord._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record._replace(log=tuple(record.log))


def _extension_in(folder: Path) -> Path | None:
    files = (folder / f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _load_from(folder: Path) -> NativeState:
    record = read_record(folder)
    file = _extension_in(folder)
    problem = _misfit(folder, file, record)
    if problem is None:
        problem = _import_extension(file)
    return NativeState(problem, folder if problem is None else None, record)


def _misfit(folder: Path, file: Path | None, record: BuildRecord | None) -> str | None:
    """Why an extension must not even be opened."""
    if record is not None and record.outcome != "built":
        return f"{_MODULE} has not been built: {record.problem}"
    if file is None:
        others = sorted(other.name for other in folder.glob("_C.*") if other.suffix != ".json")
        if others:
            tag = sys.implementation.cache_tag
            return f"{_MODULE} was built for another Python than {tag} ({others[0]})"
        return f"{_MODULE} has not been built"
    if record is not None and record.torch != torch.__version__:
        return (
            f"{_MODULE} was built for torch {record.torch} and does not fit torch "
            f"{torch.__version__}, which is installed"
        )
    return None


def _import_extension(file: Path) -> str | None:
    try:
        if file.parent == package_folder():
            importlib.import_module("bevstack._C")
            return None
        spec = importlib.util.spec_from_file_location(_MODULE, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[_MODULE] = module
    except (ImportError, OSError, RuntimeError) as error:
        return f"{_MODULE} does not load with torch {torch.__version__} ({error})"
    return None
