"""Conversion of published weights to ours by tables of names.

A row holds the published name of a tensor, our name, and the conversion if it is not a copy. A
published tensor without a row, or one of ours that no row fills, is an error unless the caller
allows it by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.interop.internimage_names import as_pattern
from bevstack.models.weights import check_finite

# (published tensor, expected shape) -> our tensor
Conversion = Callable[[Tensor, torch.Size], Tensor]


class Rename(NamedTuple):
    """Row of a table: names with the placeholders of ``as_pattern``, and a conversion."""

    published: str
    ours: str
    convert: Conversion | None = None  # None: a copy


@dataclass(frozen=True)
class Report:
    """Result of a conversion for every name."""

    matched: tuple[tuple[str, str], ...]  # (published, ours)
    missing: tuple[str, ...]  # our names that no published tensor fills
    left_over: tuple[str, ...]  # published names that are not used

    def counts(self) -> list[tuple[str, ...]]:
        """Return titles, and counts of our names by their first component."""
        matched = Counter(ours.partition(".")[0] for _, ours in self.matched)
        missing = Counter(name.partition(".")[0] for name in self.missing)
        rows = [(part, str(matched[part]), str(missing[part])) for part in {**matched, **missing}]
        total = ("all", str(len(self.matched)), str(len(self.missing)))
        return [("part", "matched", "missing"), *rows, total]

    def left_counts(self) -> list[tuple[str, ...]]:
        """Return titles, and counts of the left-over names by their first component."""
        left = Counter(name.partition(".")[0] for name in self.left_over)
        return [("part", "left over"), *((part, str(count)) for part, count in left.items())]

    def summary(self) -> str:
        """Return both counts as text, without titles of the left-over names."""
        rows = [f"{part:<24}{matched:>9}{missing:>9}" for part, matched, missing in self.counts()]
        left = [f"{part:<24}{count:>9}" for part, count in self.left_counts()[1:]]
        return "\n".join((*rows, f"left over in the file: {len(self.left_over)}", *left))

    def table(self) -> str:
        """Return the report as text, one name per line."""
        width = max((len(published) for published, _ in self.matched), default=0)
        lines = [f"matched {len(self.matched)}"]
        lines += [f"  {published:<{width}}  ->  {ours}" for published, ours in self.matched]
        lines += [f"missing {len(self.missing)}", *(f"  {name}" for name in self.missing)]
        lines += [f"left over {len(self.left_over)}", *(f"  {name}" for name in self.left_over)]
        return "\n".join(lines)


class UnmatchedError(ValueError):
    """Error for names without a counterpart that are not allowed; ``report`` lists all names."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def convert_weights(
    published: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    rows: Sequence[Rename],
    *,
    allow_missing: Sequence[str] = (),
    allow_left_over: Sequence[str] = (),
) -> tuple[dict[str, Tensor], Report]:
    """Convert published tensors to ours and check their names and shapes.

    Args:
        published: names and tensors of a published file.
        expected: ``model.state_dict()``; the model may be on the meta device.
        rows: the table; one published tensor may fill several of ours.
        allow_missing: our names, or patterns such as ``"backbone.*"``, that may stay unfilled.
        allow_left_over: published names or patterns that may stay unused.

    Returns:
        Our tensors, which share no memory with the published ones, and the report.

    Raises:
        UnmatchedError: a name without a counterpart is not allowed.
        ValueError: two published tensors fill one of ours, or a tensor has another shape or a value
            that is not finite.
    """
    patterns = [(re.compile(as_pattern(row.published)), row) for row in rows]
    converted: dict[str, Tensor] = {}
    matched: list[tuple[str, str]] = []
    for name, tensor in published.items():
        for ours, convert in _targets(name, patterns):
            if ours not in expected:
                continue
            if ours in converted:
                raise ValueError(f"{ours} must come from one published tensor; got {name} as well")
            shape = expected[ours].shape
            converted[ours] = _converted(name, tensor, convert, shape)
            matched.append((name, ours))
    used = {name for name, _ in matched}
    report = Report(
        tuple(matched),
        tuple(name for name in expected if name not in converted),
        tuple(name for name in published if name not in used),
    )
    _check_allowed("missing", report.missing, allow_missing, report)
    _check_allowed("left over", report.left_over, allow_left_over, report)
    return converted, report


def _targets(
    name: str, patterns: Sequence[tuple[re.Pattern[str], Rename]]
) -> list[tuple[str, Conversion | None]]:
    return [
        (row.ours.format(**match.groupdict()), row.convert)
        for pattern, row in patterns
        if (match := pattern.fullmatch(name))
    ]


def _converted(name: str, tensor: Tensor, convert: Conversion | None, shape: torch.Size) -> Tensor:
    converted = tensor if convert is None else convert(tensor, shape)
    if converted.shape != shape:
        raise ValueError(
            f"{name} must have shape {tuple(shape)} for this configuration; "
            f"got {tuple(converted.shape)}"
        )
    check_finite(name, converted, "the published file")
    return converted.clone()  # so that no two of our tensors share memory


def _check_allowed(kind: str, names: Sequence[str], allowed: Sequence[str], report: Report) -> None:
    refused = [n for n in names if not any(fnmatchcase(n, pattern) for pattern in allowed)]
    if refused:
        shown = ", ".join(refused[:5]) + (" ..." if len(refused) > 5 else "")
        raise UnmatchedError(
            f"every name must have a counterpart; got {len(refused)} {kind}: {shown}: "
            "choose the configuration of these weights, or allow the names",
            report,
        )
