"""Published weight files to ours: tables of names, and the conventions that end at this door.

A row says what a published tensor is called, what ours is, and how the one becomes the other where
it is not a copy. Everything must find its place: a published tensor without a row, or one of ours
that nothing filled, is an error unless the caller allows it by name.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.interop.internimage_names import as_pattern

# (published tensor, shape wanted) -> our tensor
Conversion = Callable[[Tensor, torch.Size], Tensor]

_ENTRIES = ("state_dict", "model", "module")  # where training frameworks keep the tensors
_PREFIX = "module."  # of data-parallel training


class Rename(NamedTuple):
    """One row: names with the placeholders of ``as_pattern``, and a conversion."""

    published: str
    ours: str
    convert: Conversion | None = None  # None: a copy


@dataclass(frozen=True)
class Report:
    """What became of every name."""

    matched: tuple[tuple[str, str], ...]  # (published, ours)
    missing: tuple[str, ...]  # ours, filled by nothing
    left_over: tuple[str, ...]  # published, used by nothing

    def table(self) -> str:
        """The report as text, one name a line."""
        width = max((len(published) for published, _ in self.matched), default=0)
        lines = [f"matched {len(self.matched)}"]
        lines += [f"  {published:<{width}}  ->  {ours}" for published, ours in self.matched]
        lines += [f"missing {len(self.missing)}", *(f"  {name}" for name in self.missing)]
        lines += [f"left over {len(self.left_over)}", *(f"  {name}" for name in self.left_over)]
        return "\n".join(lines)


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a ``.pth`` file, without the wrappers of training frameworks.

    Only tensors and plain containers are unpickled: such a file cannot run code.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, holding more than tensors and plain values, or holding no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"published weights must be a file; got {path}, which is none")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"published weights must hold tensors and plain values only; got {path}: {reason}. "
            "Where you trust the file, load it there and save its state_dict alone"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"published weights must be a whole file written by torch.save; got {path} ({reason}): "
            "download it again"
        ) from None
    for entry in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"published weights must hold named tensors; got none in {path}")
    return {
        name.removeprefix(_PREFIX): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def convert_weights(
    published: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    rows: Sequence[Rename],
    *,
    allow_missing: Sequence[str] = (),
    allow_left_over: Sequence[str] = (),
) -> tuple[dict[str, Tensor], Report]:
    """Our tensors from published ones, of the very shapes wanted.

    Args:
        published: names and tensors of a published file.
        wanted: ``model.state_dict()``; a model on the meta device will do.
        rows: the table; a published tensor may feed several of ours.
        allow_missing: our names, or patterns such as ``"backbone.*"``, that may stay unfilled.
        allow_left_over: published names or patterns that may stay unused.

    Raises:
        ValueError: names without a counterpart, two published tensors for one of ours, or a tensor
            of another shape.
    """
    patterns = [(re.compile(as_pattern(row.published)), row) for row in rows]
    converted: dict[str, Tensor] = {}
    matched: list[tuple[str, str]] = []
    for name, tensor in published.items():
        for ours, convert in _targets(name, patterns):
            if ours not in wanted:
                continue
            if ours in converted:
                raise ValueError(f"{ours} must come from one published tensor; got {name} as well")
            shape = wanted[ours].shape
            converted[ours] = _converted(name, tensor, convert, shape)
            matched.append((name, ours))
    used = {name for name, _ in matched}
    report = Report(
        tuple(matched),
        tuple(name for name in wanted if name not in converted),
        tuple(name for name in published if name not in used),
    )
    _refuse("missing", report.missing, allow_missing)
    _refuse("left over", report.left_over, allow_left_over)
    return converted, report


def _targets(
    name: str, patterns: Sequence[tuple[re.Pattern[str], Rename]]
) -> list[tuple[str, Conversion | None]]:
    return [
        (row.ours.format(**found.groupdict()), row.convert)
        for pattern, row in patterns
        if (found := pattern.fullmatch(name))
    ]


def _converted(name: str, tensor: Tensor, convert: Conversion | None, shape: torch.Size) -> Tensor:
    converted = tensor if convert is None else convert(tensor, shape)
    if converted.shape != shape:
        raise ValueError(
            f"{name} must have shape {tuple(shape)} for this configuration; "
            f"got {tuple(converted.shape)}"
        )
    return converted.clone()  # no two of ours share memory


def _refuse(what: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    refused = [n for n in names if not any(fnmatchcase(n, pattern) for pattern in allowed)]
    if refused:
        shown = ", ".join(refused[:5]) + (" ..." if len(refused) > 5 else "")
        raise ValueError(
            f"every name must find its counterpart; got {len(refused)} {what}: {shown}. "
            "Choose the configuration the weights were made with, or allow them by name"
        )
