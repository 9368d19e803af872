"""Decorators of the compiled functions; their cache on disk depends on all files of the renderer.

numba compiles a function together with the functions that it calls and stores the result. Before it
loads a stored result, it checks the source file of the outermost function alone. A change in
`patterns.py` would thus leave old pictures to `shading.py`. Here the check covers every Python file
of this package.

A stored result is compiled code that runs when it is loaded, so it is loaded only from files that
no other user can write. This module imports nothing else of bevstack: the check would not cover it.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call, with a cache on disk.

    Called from compiled code, it takes over the caller's rule for a division by zero.
    """
    return _cached(numba.njit(function), function)


def compiled_nogil(function: _Function) -> _Function:
    """Compile a function that releases the interpreter lock, with a cache on disk.

    A division by zero gives inf or nan, as in numpy.
    """
    return _cached(numba.njit(nogil=True, error_model="numpy")(function), function)


def inlined(function: _Function) -> _Function:
    """Compile a function into each of its callers, before types are inferred."""
    return cast(_Function, numba.njit(inline="always")(function))


@functools.cache
def source_digest() -> str:
    """Return the SHA-256 of the names and contents of the renderer's Python files.

    A process reads the files once.
    """
    digest = hashlib.sha256()
    files = resources.files("bevstack.synthetic.renderer").iterdir()
    for file in sorted(files, key=lambda entry: entry.name):
        if file.name.endswith(".py"):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _cached(dispatcher: Any, function: _Function) -> _Function:
    """Give a function of `numba.njit` the cache of the renderer, if there is a place for it."""
    with _private_files():
        try:
            dispatcher._cache = _RendererCache(function)
        except RuntimeError:  # no folder can be written: the function is compiled by each process
            return cast(_Function, dispatcher)
    return cast(_Function, dispatcher)


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Create files and folders that no other user can write within the context."""
    before = os.umask(0o077)
    os.umask(before | 0o022)
    try:
        yield
    finally:
        os.umask(before)


def find_untrusted(folder: Path, stem: str, source: Path) -> Path | None:
    """Return the folder or a file of a cache that another user may have written, or None.

    A cache beside the source, in its `__pycache__`, may belong to the owner of the source, who can
    change what runs anyway.
    """
    if not hasattr(os, "getuid"):  # Windows
        return None
    beside = folder.parent == source.parent
    owners = {os.getuid(), source.stat().st_uid} if beside else {os.getuid()}
    writers = 0o002 if beside else 0o022
    for path in (folder, *folder.glob(f"{glob.escape(stem)}.*")):
        state = path.stat()
        if state.st_uid not in owners or state.st_mode & writers:
            return path
    return None


@functools.cache
def _warn(sentence: str) -> None:
    warnings.warn(f"{sentence}: functions are compiled again", stacklevel=2)


class _RendererCache(caching.FunctionCache):
    """numba's cache of one function, with `source_digest` in the stamp that it checks.

    numba has no public setting for one function's cache: its option `NUMBA_CACHE_LOCATOR_CLASSES`
    changes the caches of the whole process. Folder and file names stay numba's.

    Args:
        function: the Python function.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]  # numba has no types here
        self._source = Path(inspect.getfile(function))
        implementation: Any = self._impl
        make_file: Any = caching.IndexDataCacheFile
        self._cache_file = make_file(
            cache_path=self._cache_path,
            filename_base=implementation.filename_base,
            source_stamp=(implementation.locator.get_source_stamp(), source_digest()),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a stored result; None if there is none that can be trusted and read."""
        if not self._is_trusted():
            return None
        inherited: Any = super()  # numba has no types here
        try:
            return inherited.load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  any error of a damaged file
            _warn(f"a cached function in {self._cache_path} is damaged ({type(error).__name__})")
            inherited.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a result, unless the folder cannot be trusted."""
        if self._is_trusted():
            inherited: Any = super()
            with _private_files():
                inherited.save_overload(sig, data)

    def _is_trusted(self) -> bool:
        implementation: Any = self._impl
        try:
            untrusted = find_untrusted(
                Path(self._cache_path), implementation.filename_base, self._source
            )
        except OSError:
            return False
        if untrusted is not None:
            _warn(f"{untrusted} belongs to another user or can be written by one")
        return untrusted is None
