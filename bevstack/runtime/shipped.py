"""Packaged weights, found by name."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

SUFFIX = ".safetensors"


def packaged_weights() -> list[str]:
    """Return the names of the packaged weights, sorted."""
    files = importlib.resources.files("bevstack.weights").iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX))


def weights_path(name_or_path: str | Path) -> Path:
    """Return the file of packaged weights such as "tiny_cpu_t4"; return a path unchanged.

    An argument is a path if it exists, ends with ``.safetensors`` or contains a folder.

    Raises:
        FileNotFoundError: the argument is neither a path nor a packaged name. The message lists
            the names.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.is_file() or len(path.parts) > 1:
        return path
    names = packaged_weights()
    if str(name_or_path) not in names:
        known = f"one of the packaged {', '.join(names)}" if names else "a packaged"
        known += "" if names else " name (this installation has none)"
        raise FileNotFoundError(
            f"weights must be {known}, or the path of a file; got {str(name_or_path)!r}"
        )
    return Path(str(importlib.resources.files("bevstack.weights") / f"{name_or_path}{SUFFIX}"))
