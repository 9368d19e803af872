"""Weights that come with the package, by name."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

SUFFIX = ".safetensors"


def packaged_weights() -> list[str]:
    """Names of the weights that come with the package."""
    files = importlib.resources.files("bevstack.weights").iterdir()
    return sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX))


def weights_path(name_or_path: str | Path) -> Path:
    """The file of packaged weights by name, such as "tiny_cpu_t4"; a path stays as it is.

    A path is what exists, ends with ``.safetensors``, or has a folder before it.

    Raises:
        FileNotFoundError: neither a path nor a packaged name; lists those there are.
    """
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.is_file() or len(path.parts) > 1:
        return path
    names = packaged_weights()
    if str(name_or_path) not in names:
        known = f"one of {', '.join(names)}, which come with bevstack" if names else "a packaged"
        known += "" if names else " name (this installation has none)"
        raise FileNotFoundError(
            f"weights must be {known}, or the path of a file; got {str(name_or_path)!r}"
        )
    return Path(str(importlib.resources.files("bevstack.weights") / f"{name_or_path}{SUFFIX}"))
