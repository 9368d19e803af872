"""The library of our operators for OpenVINO: found in the user's cache, or built there.

OpenVINO runs the library's code. The file must therefore belong to the user, in a folder that no
other user can write, and equal the SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import tempfile
from pathlib import Path

import torch

from bevstack.files import is_private, write_text_atomically

_LOG = logging.getLogger(__name__)
_NAME = "libbevstack_openvino.so"


def extension_library(
    package: Path,
    version: str,
    *,
    cache: Path | None = None,
) -> Path:
    """Return the library for ``openvino.Core().add_extension``; the first call builds it.

    The build takes a minute or two, and a C++ compiler. The result is kept below TORCH_HOME,
    XDG_CACHE_HOME or ~/.cache, for this version of OpenVINO and these sources.

    Args:
        package: folder of the installed package ``openvino``.
        version: its version.
        cache: folder of the cache; None: beside torch's cached files.

    Raises:
        FileNotFoundError: the sources of the kernels are not installed.
        OSError: the cache cannot be written.
        ValueError: it cannot be built, for example for want of a compiler.
    """
    try:
        builder = importlib.import_module("bevstack._ops_sources.build_openvino")
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "the kernels' sources must be installed; got a package without them; "
            "pip install --force-reinstall --no-deps bevstack"
        ) from error
    root = Path(torch.hub.get_dir()).parent / "bevstack" if cache is None else cache
    folder = root / f"openvino-{version}-{builder.digest()[:12]}"
    library = folder / _NAME
    if _is_sealed(library):
        return library
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    _LOG.info("compiling %s for OpenVINO %s; this takes a minute or two", library, version)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Path(scratch)
        try:
            builder.build(work / _NAME, work, package)
        except builder.BuildError as error:
            raise ValueError(
                f"the library of our operators for OpenVINO {version} must be buildable; got: "
                f"{error}; models without --custom-ops need none"
            ) from error
        os.chmod(work / _NAME, 0o700)
        digest = hashlib.sha256((work / _NAME).read_bytes()).hexdigest()
        (work / _NAME).replace(library)
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
