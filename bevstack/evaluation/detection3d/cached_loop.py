"""Decorator of compiled loops, with numba's cache on disk where it can be trusted."""

from __future__ import annotations

import contextlib
import glob
import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

from bevstack.files import is_private

_Function = TypeVar("_Function", bound=Callable[..., object])


def cached_loop(function: _Function) -> _Function:
    """Compile a function at its first call; keep the result on disk if the folder can be trusted.

    Loading a stored result runs its code. Outside of the package it is therefore loaded only if
    folder and files belong to the user and no other user can write them.
    """
    dispatcher: Any = numba.njit(function)
    try:
        make_cache: Any = _PrivateCache
        with _private_files():
            dispatcher._cache = make_cache(function)
    except RuntimeError:  # no folder can be written
        return cast(_Function, dispatcher)
    folder, stem = Path(dispatcher._cache.cache_path), dispatcher._cache._impl.filename_base
    untrusted = find_untrusted(folder, stem, Path(inspect.getfile(function)))
    if untrusted is not None:
        warnings.warn(
            f"{untrusted} belongs to another user or can be written by one: "
            f"{function.__name__} is compiled again",
            stacklevel=2,
        )
        make_null: Any = caching.NullCache
        dispatcher._cache = make_null()
    return cast(_Function, dispatcher)


class _PrivateCache(caching.FunctionCache):
    """Cache on disk whose folder and files no other user can write."""

    def save_overload(self, signature: object, data: object) -> None:
        """Store compiled code."""
        with _private_files():
            save: Any = super().save_overload
            save(signature, data)


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

    A folder beside the source is as safe as the source, unless all users can write it.
    """
    if folder.parent == source.parent:
        return folder if folder.stat().st_mode & 0o002 else None
    files = (folder, *folder.glob(f"{glob.escape(stem)}.*"))
    return next((path for path in files if not is_private(path)), None)
