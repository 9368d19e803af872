"""Compiled libraries in the user's cache, which other runtimes load and run.

A runtime runs the library's code. The file must therefore belong to the user, in a folder that no
other user can write, and equal the SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from bevstack.files import is_private, write_text_atomically

_LOG = logging.getLogger(__name__)


def builder(name: str) -> ModuleType:
    """Return a build program of the installed sources.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
    """
    try:
        return importlib.import_module(f"bevstack._ops_sources.{name}")
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "the kernels' sources must be installed; got a package without them; "
            "pip install --force-reinstall --no-deps bevstack"
        ) from error


def cached_library(
    folder: str, name: str, build: Callable[[Path, Path], None], *, cache: Path | None = None
) -> Path:
    """Return a library of the cache, below TORCH_HOME, XDG_CACHE_HOME or ~/.cache.

    Args:
        folder: name of its folder, another one for each digest of what determines the library.
        name: name of the file.
        build: writes the library to its first argument; the second is an empty folder.
        cache: folder of the cache; None: beside torch's cached files.

    Raises:
        OSError: the cache cannot be written.
    """
    root = Path(torch.hub.get_dir()).parent / "bevstack" if cache is None else cache
    library = root / folder / name
    if _is_sealed(library):
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(library.parent, 0o700)
    _LOG.info("compiling %s; this takes a minute or two", library)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        work = Path(scratch)
        build(work / name, work)
        os.chmod(work / name, 0o700)
        digest = hashlib.sha256((work / name).read_bytes()).hexdigest()
        (work / name).replace(library)
    write_text_atomically(_seal(library), digest + "\n")
    os.chmod(_seal(library), 0o600)
    return library


def _seal(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _is_sealed(library: Path) -> bool:
    """Return True if the library is a complete one that only this user can have written."""
    seal = _seal(library)
    if not (library.is_file() and seal.is_file()):
        return False
    if not all(is_private(path) for path in (library.parent, library, seal)):
        return False
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    return seal.read_text(encoding="utf-8").strip() == digest
