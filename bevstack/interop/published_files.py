"""Reading of published weight files without the wrappers of training frameworks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from bevstack.interop.pickle_machine import Foreign
from bevstack.interop.stored_tensors import StoredTensor
from bevstack.interop.torch_file import open_torch_file
from bevstack.models.file_kinds import PICKLE_STARTS, read_start
from bevstack.models.weights import read_safetensors

WEIGHTS = ("raw", "averaged")
# Entries in which training frameworks store the tensors, and their moving averages.
_ENTRIES = (
    *("state_dict", "model_state_dict", "model", "module", "net", "net_state_dict", "network"),
    *("weights", "params", "shadow"),
)
_AVERAGED_ENTRIES = (
    *("model_ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema", "params_ema"),
)
_MAX_DEPTH = 8  # of entries within entries
# Prefixes of wrappers, removed if every name has them. `_orig_mod.` of torch.compile may be within
# a name; `module.` of data-parallel training is removed from each name that has it.
_PREFIXES = ("model.", "net.", "network.", "state_dict.", "model_state_dict.", "ema.", "ema_model.")
_COMPILED = re.compile(r"(^|\.)_orig_mod\.")
_PARALLEL = "module."
_COUNTERS = ("n_averaged", "steps")  # of torch's and mmengine's averaged models, not weights

_T = TypeVar("_T")


@dataclass(frozen=True)
class PublishedFile:
    """Named tensors of a file, and the metadata of the framework that wrote it."""

    name: str
    tensors: dict[str, Tensor]
    meta: Mapping[str, Any]  # plain values; empty if the file has none
    skipped: tuple[str, ...] = ()  # names of classes whose objects were left out


def read_published_file(
    path: str | Path, *, weights: str | None = None, verify: bool = True
) -> PublishedFile:
    """Read the tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file, without any wrappers.

    Nothing in the file is run: tensors and plain containers are built, and objects of any other
    class are left out.

    Args:
        path: the file; its content decides the format, not its name.
        weights: "raw" or "averaged" (exponential moving average), for files that hold both.
        verify: compare the content with the checksums in the file, if it has any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``weights`` is another word, the file is damaged or of another kind, would run a
            program, holds no tensors, holds raw and averaged ones while ``weights`` is None, or
            does not hold those that ``weights`` names.
    """
    path = Path(path)
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {WEIGHTS} or none; got {weights!r}")
    if not path.is_file():
        raise FileNotFoundError(f"published weights must be a file; got {path}, which is not one")
    pickled = read_start(path).startswith(PICKLE_STARTS)
    if _is_safetensors(path) or (path.suffix == ".safetensors" and not pickled):
        weights_read, metadata = read_safetensors(path, verify=verify)
        return PublishedFile(path.name, _without_prefixes(weights_read, path), metadata)
    with open_torch_file(path, verify=verify) as file:
        content = _entries_of(file.content)
        meta = None if content is None else _entries_of(content.get("meta"))
        stored = _named_tensors(_unwrap(content, path, weights), path)
        tensors = file.load(_without_prefixes(stored, path))
        return PublishedFile(path.name, tensors, meta or {}, file.foreign)


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Read only the tensors of a published file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see ``read_published_file``.
    """
    return read_published_file(path).tensors


def _is_safetensors(path: Path) -> bool:
    """Return True if a file starts with the size of a header and a header of JSON."""
    start = read_start(path)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _entries_of(value: object) -> Mapping[Any, Any] | None:
    """Return the entries of a dictionary or of a foreign object; None for anything else."""
    if isinstance(value, Foreign):
        return value.entries
    return value if isinstance(value, Mapping) else None


def _unwrap(content: Mapping[Any, Any] | None, path: Path, weights: str | None) -> Any:
    """Return the innermost dictionary; ``weights`` chooses if the file holds both kinds."""
    kind_found = "raw"
    for _ in range(_MAX_DEPTH):
        entries = {"raw": _entry(content, _ENTRIES), "averaged": _entry(content, _AVERAGED_ENTRIES)}
        present = [kind for kind, entry in entries.items() if entry is not None]
        if not present:
            break
        if len(present) > 1 and weights is None:
            raise ValueError(
                f"weights must be 'raw' or 'averaged' for a file that holds both; got no choice "
                f"for {path}: add --use raw or --use averaged"
            )
        kind = weights if len(present) > 1 and weights is not None else present[0]
        kind_found = "averaged" if kind == "averaged" else kind_found
        content = entries[kind]
    if weights not in (None, kind_found):
        raise ValueError(
            f"weights must be {kind_found!r}, the only kind in {path}; got {weights!r}"
        )
    return content


def _entry(content: Mapping[Any, Any] | None, names: tuple[str, ...]) -> Mapping[Any, Any] | None:
    """Return the first entry of these names that holds tensors, or without one the first entry."""
    found = [None if content is None else _entries_of(content.get(name)) for name in names]
    entries = [entry for entry in found if entry]
    return next((e for e in entries if _holds_tensors(e)), entries[0] if entries else None)


def _holds_tensors(entries: Mapping[Any, Any], depth: int = 0) -> bool:
    if any(isinstance(value, StoredTensor) for value in entries.values()):
        return True
    names = (*_ENTRIES, *_AVERAGED_ENTRIES) if depth < _MAX_DEPTH else ()
    inner = (_entries_of(entries.get(name)) for name in names)
    return any(_holds_tensors(entry, depth + 1) for entry in inner if entry)


def _named_tensors(content: Mapping[Any, Any] | None, path: Path) -> dict[str, StoredTensor]:
    entries = {} if content is None else content
    tensors = {
        name: value
        for name, value in entries.items()
        if isinstance(name, str) and isinstance(value, StoredTensor)
    }
    if tensors:
        return tensors
    remedy = ""
    if "_modules" in entries:
        remedy = ", but a whole model as a pickled object: load it where it was made and save only "
        remedy += "its state_dict()"
    raise ValueError(f"published weights must hold named tensors; got none in {path}{remedy}")


def _without_prefixes(tensors: Mapping[str, _T], path: Path) -> dict[str, _T]:
    """Return the tensors under names without the prefixes of wrappers.

    Raises:
        ValueError: two names become one.
    """
    names = {name: _COMPILED.sub(r"\1", name) for name in tensors}
    if any(name.startswith(_PARALLEL) for name in names.values()):
        names = {old: new for old, new in names.items() if new not in _COUNTERS}
    while True:
        names = {old: _without_parallel(new) for old, new in names.items()}
        shared = next((p for p in _PREFIXES if all(n.startswith(p) for n in names.values())), None)
        if shared is None or not names:
            break
        names = {old: new.removeprefix(shared) for old, new in names.items()}
    renamed = {new: tensors[old] for old, new in names.items()}
    if len(renamed) < len(names):
        twice = next(n for n in renamed if list(names.values()).count(n) > 1)
        raise ValueError(f"names in {path} must differ without their prefixes; got {twice} twice")
    return renamed


def _without_parallel(name: str) -> str:
    while name.startswith(_PARALLEL):
        name = name.removeprefix(_PARALLEL)
    return name
