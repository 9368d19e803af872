"""Loading of the compiled kernels ``bevstack._C`` from the package, else from the user's cache.

The extension works only with the torch version it was built for. Its build writes that version to
a record beside it, which is read before the extension is opened. An extension that does not fit or
does not load is reported in one sentence and raises no error: the references run instead.

Opening an extension runs its code. One in the cache must therefore belong to the user, in a folder
that no other user can write, and equal the SHA-256 in its record.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import torch

from bevstack.files import is_private, write_text_atomically

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
    extension: str = ""  # SHA-256 of the extension; "" if the build did not store it


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
    try:
        return _find_extension()
    except OSError as error:  # a folder that cannot be read
        return NativeState(f"{_MODULE} cannot be read ({error})", None, None)


def _find_extension() -> NativeState:
    package = _load_from(package_folder(), is_cache=False)
    cache = None if package.problem is None else cache_folder()
    if cache is None or _extension_in(cache) is None:
        return package
    cached = _load_from(cache, is_cache=True)
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
        defaults = BuildRecord._field_defaults
        fields = {name: stored.get(name, defaults.get(name)) for name in BuildRecord._fields}
        record = BuildRecord(**{**fields, "log": tuple(fields["log"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = [value for name, value in record._asdict().items() if name != "log"]
    return record if all(isinstance(text, str) for text in texts) else None


def seal_build(folder: Path) -> None:
    """Store the digest of a built extension in its record, and let no other user write them.

    The folder itself, unless it is the package's, becomes writable for its owner alone too.

    Raises:
        OSError: the folder cannot be written.
    """
    file, record = _extension_in(folder), folder / _RECORD_NAME
    assert file is not None  # the build has just written it
    stored = {**json.loads(record.read_text(encoding="utf-8")), "extension": _digest(file)}
    write_text_atomically(record, json.dumps(stored, indent=1) + "\n")
    for path in (file, record) if folder == package_folder() else (folder, file, record):
        os.chmod(path, path.stat().st_mode & 0o7755)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _extension_in(folder: Path) -> Path | None:
    files = (folder / f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def _load_from(folder: Path, *, is_cache: bool) -> NativeState:
    record = read_record(folder)
    file = _extension_in(folder)
    problem = _mismatch(folder, file, record)
    if problem is None:
        assert file is not None  # a missing file is a mismatch
        problem = _distrust(folder, file, record, is_cache) or _import_extension(file)
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


def _distrust(folder: Path, file: Path, record: BuildRecord | None, is_cache: bool) -> str | None:
    """Return why an extension must not be trusted; None if it may be.

    The package's own folder holds Python code that runs anyway, so its owner is not checked.
    """
    stored = "" if record is None else record.extension
    if is_cache:
        for path in (folder, file, folder / _RECORD_NAME):
            if not path.exists():
                return f"{_MODULE} in the cache is not loaded, as its record {path} is missing"
            if not is_private(path):
                return (
                    f"{_MODULE} in the cache is not loaded, as {path} belongs to another user or "
                    "can be written by one"
                )
        if not stored:
            return f"{_MODULE} in the cache is not loaded, as its record in {folder} has no digest"
    if stored and _digest(file) != stored:
        return f"{_MODULE} is not loaded, as {file} differs from the digest in its record"
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
    except Exception as error:  # noqa: BLE001  any error of compiled code leaves the references
        return f"{_MODULE} does not load with torch {torch.__version__} ({error})"
    return None
