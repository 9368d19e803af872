"""Decorator of compiled loops, with numba's cache on disk where it can be trusted."""

from __future__ import annotations

import glob
import inspect
import warnings
from collections.abc import Callable
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
        dispatcher.enable_caching()
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


def find_untrusted(folder: Path, stem: str, source: Path) -> Path | None:
    """Return the folder or a file of a cache that another user may have written, or None.

    A folder beside the source is as safe as the source, unless all users can write it.
    """
    if folder.parent == source.parent:
        return folder if folder.stat().st_mode & 0o002 else None
    files = (folder, *folder.glob(f"{glob.escape(stem)}.*"))
    return next((path for path in files if not is_private(path)), None)
