"""Decorators of the compiled functions; their cache on disk depends on all files of the renderer.

numba compiles a function together with the functions that it calls and stores the result. Before it
loads a stored result, it checks the source file of the outermost function alone. A change in
`patterns.py` would thus leave old pictures to `shading.py`. Here the check covers every Python file
of this package.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib import resources
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
    """Give a function of `numba.njit` the cache of the renderer."""
    dispatcher._cache = _RendererCache(function)
    return cast(_Function, dispatcher)


class _RendererCache(caching.FunctionCache):
    """numba's cache of one function, with `source_digest` in the stamp that it checks.

    numba has no public setting for one function's cache: its option `NUMBA_CACHE_LOCATOR_CLASSES`
    changes the caches of the whole process. Folder and file names stay numba's.

    Args:
        function: the Python function.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]  # numba has no types here
        implementation: Any = self._impl
        make_file: Any = caching.IndexDataCacheFile
        self._cache_file = make_file(
            cache_path=self._cache_path,
            filename_base=implementation.filename_base,
            source_stamp=(implementation.locator.get_source_stamp(), source_digest()),
        )
