"""Loading of the compiled kernels ``bevstack._C`` from the package, else from the user's cache.

The extension works only with the torch version it was built for. Its build writes that version to
a record beside it, which is read before the extension is opened. An extension that does not fit or
does not load is reported in one sentence and raises no error: the references run instead.
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
    """Record of a build of the extension, successful or not."""

    outcome: str  # "built", "failed" or "skipped"
    problem: str  # why nothing was built, or ""
    cuda_problem: str  # why the CUDA kernels are missing, or ""
    log: tuple[str, ...]  # last lines of the compiler's output, if it failed
    torch: str  # version it was built for, or ""
    python: str  # for example "cpython-311"
    sources: str  # digest of the compiled sources


class NativeState(NamedTuple):
    """Origin of the compiled kernels, or the reason why there are none."""

    problem: str | None  # one sentence; None if the kernels are loaded
    folder: Path | None  # of the loaded extension
    record: BuildRecord | None  # of the build of that extension, or of the failed build


def native_problem() -> str | None:
    """Return one sentence why there are no compiled kernels; None if they are loaded.

    The first call loads the extension; importing ``bevstack.ops`` makes that call. An extension
    that was built for another torch is reported here and raises no error.
    """
    return native_state().problem


@functools.cache
def native_state() -> NativeState:
    """Load the compiled kernels at the first call, from the package or else from the cache."""
    if sys.modules.get(_MODULE, "") is None:  # the caller forbids the import
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
    """Return the folder of the package, where an installation puts the extension."""
    return Path(__file__).resolve().parents[1]


def cache_folder() -> Path | None:
    """Return the folder of this user's builds for this torch version and these sources.

    It is beside torch's cached files, below TORCH_HOME, XDG_CACHE_HOME or ~/.cache.

    Returns:
        The folder, which need not exist, or None if the sources are not installed.
    """
    sources = source_digest()
    if sources is None:
        return None
    tag = sys.implementation.cache_tag
    key = (torch.__version__, tag, sysconfig.get_platform(), sources[:12])
    return Path(torch.hub.get_dir()).parent / "bevstack" / "-".join(("torch", *key))


def source_digest() -> str | None:
    """Return the digest of the installed sources; None if they are not installed."""
    try:
        builder = importlib.import_module("bevstack._ops_sources.build")
    except ModuleNotFoundError:
        return None
    digest: str = builder.source_digest()
    return digest


def read_record(folder: Path) -> BuildRecord | None:
    """Return the record of the last build into a folder; None if it is missing or unreadable."""
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
    problem = _mismatch(folder, file, record)
    if problem is None:
        assert file is not None  # a missing file is a mismatch
        problem = _import_extension(file)
    return NativeState(problem, folder if problem is None else None, record)


def _mismatch(folder: Path, file: Path | None, record: BuildRecord | None) -> str | None:
    """Return why an extension must not be opened; None if it may be."""
    if record is not None and record.outcome != "built":
        return f"{_MODULE} has not been built: {record.problem}"
    if file is None:
        names = sorted(path.name for path in folder.glob("_C.*") if path.suffix != ".json")
        if names:
            tag = sys.implementation.cache_tag
            return f"{_MODULE} was built for another Python than {tag} ({names[0]})"
        return f"{_MODULE} has not been built"
    if record is not None and record.torch != torch.__version__:
        return (
            f"{_MODULE} was built for torch {record.torch} and does not fit the installed torch "
            f"{torch.__version__}"
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
