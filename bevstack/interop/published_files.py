"""Reading of published weight files without the wrappers of training frameworks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bevstack.models.weights import read_safetensors

WEIGHTS = ("raw", "averaged")
# Entries in which training frameworks store the tensors, and their moving averages.
_ENTRIES = ("state_dict", "model", "module")
_AVERAGED_ENTRIES = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")
_PREFIX = "module."  # of data-parallel training


@dataclass(frozen=True)
class PublishedFile:
    """Named tensors of a file, and the metadata of the framework that wrote it."""

    name: str
    tensors: dict[str, Tensor]
    meta: Mapping[str, Any]  # plain values; empty if the file has none


def read_published_file(path: str | Path, *, weights: str | None = None) -> PublishedFile:
    """Read the tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file, without any wrappers.

    Only tensors and plain containers are unpickled, so that the file cannot run code.

    Args:
        path: the file.
        weights: "raw" or "averaged" (exponential moving average), for files that hold both.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``weights`` is another word, the file is damaged, holds objects other than
            tensors and plain values, holds no tensors, holds raw and averaged ones while
            ``weights`` is None, or does not hold those that ``weights`` names.
    """
    path = Path(path)
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {WEIGHTS} or none; got {weights!r}")
    if not path.is_file():
        raise FileNotFoundError(f"published weights must be a file; got {path}, which is not one")
    if path.suffix == ".safetensors":
        tensors, meta = read_safetensors(path)
        return PublishedFile(path.name, _without_prefix(tensors), meta)
    content = _unpickle(path)
    meta = content.get("meta", {}) if isinstance(content, Mapping) else {}
    content = _unwrap(content, path, weights)
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"published weights must hold named tensors; got none in {path}")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    return PublishedFile(
        path.name, _without_prefix(tensors), meta if isinstance(meta, Mapping) else {}
    )


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Read only the tensors of a published file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see ``read_published_file``.
    """
    return read_published_file(path).tensors


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"published weights must hold tensors and plain values only; got {path} ({reason}): "
            "if you trust the file, load it with torch and save only its state_dict"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"published weights must be a whole file written by torch.save; got {path} ({reason}): "
            "download it again"
        ) from None


def _unwrap(content: Any, path: Path, weights: str | None) -> Any:
    """Return the innermost dictionary; ``weights`` chooses if the file holds both kinds."""
    kind_found = "raw"
    while True:
        entries = {"raw": _entry(content, _ENTRIES), "averaged": _entry(content, _AVERAGED_ENTRIES)}
        present = [kind for kind, entry in entries.items() if entry is not None]
        if not present:
            break
        if len(present) > 1 and weights is None:
            raise ValueError(
                f"weights must be 'raw' or 'averaged' for a file that holds both; got no choice "
                f"for {path}: add --weights raw or --weights averaged"
            )
        kind = weights if len(present) > 1 and weights is not None else present[0]
        kind_found = "averaged" if kind == "averaged" else kind_found
        content = entries[kind]
    if weights not in (None, kind_found):
        raise ValueError(
            f"weights must be {kind_found!r}, the only kind in {path}; got {weights!r}"
        )
    return content


def _entry(content: Any, names: tuple[str, ...]) -> Mapping[str, Any] | None:
    if not isinstance(content, Mapping):
        return None
    return next((content[n] for n in names if isinstance(content.get(n), Mapping)), None)


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
