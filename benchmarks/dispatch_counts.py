"""Calls that make a forward pass wait for its device, copy to it, or allocate from numbers.

OMP_NUM_THREADS=1 python -m benchmarks.run forward --configs bevformerv2_internimage_xl_t1
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SYNC, COPY = "synchronisation", "copy"
PACKAGE = str(Path(__file__).resolve().parents[1] / "bevstack")
# Operators whose result, or its shape, depends on values: on a GPU the host waits for them.
WAITS = frozenset(
    (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "is_nonzero",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "bincount",
        "_linalg_check_errors",
    )
)
# Operators that copy an argument on the host to the device of the remaining ones. Arithmetic takes
# numbers without a copy.
WITHOUT_KERNEL = frozenset(
    ("prim::device", "aten::detach", "aten::empty", "aten::new_empty", "aten::empty_like")
)
INDEXES = frozenset(("index", "index_put", "index_put_", "_index_put_impl_"))
MOVES_ARGUMENTS = INDEXES | {"where"}


class DispatchCounts(TorchDispatchMode):
    """Counts of calls of operators, and of those that wait or copy, by line of the package.

    It runs on any device, also on fake tensors. A tensor that is made from Python numbers counts as
    a copy everywhere, because it is one on a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0  # of operators that compute or copy something
        self.sites: Counter[tuple[str, str, str]] = Counter()  # kind, operator, line

    def count(self, kind: str) -> int:
        """Return the number of synchronisations or copies."""
        return sum(number for (found, _, _), number in self.sites.items() if found == kind)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        self.calls += not (func.is_view or func._schema.name in WITHOUT_KERNEL)
        for kind in _kinds(func, args, options):
            self.sites[kind, func._schema.name.removeprefix("aten::"), _site()] += 1
        return func(*args, **options)


def count_dispatches(function: Callable[[], object]) -> DispatchCounts:
    """Run a function and return the counts of its calls."""
    with DispatchCounts() as counts:
        function()
    return counts


def _kinds(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> list[str]:
    name = func._schema.name.removeprefix("aten::")
    tensors = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
    found = []
    if name in WAITS or (name == "repeat_interleave" and "Tensor" in func._overloadname):
        found.append(SYNC)
    if name in INDEXES:
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, Tensor)]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            found.append(SYNC)
    found += _copies(name, tensors, options)
    return found


def _copies(name: str, tensors: list[Tensor], options: dict[str, Any]) -> list[str]:
    devices = {tensor.device.type for tensor in tensors}
    if name == "lift_fresh":  # a tensor from Python numbers; on a GPU the copy of it counts
        return [COPY]
    if name in MOVES_ARGUMENTS and len(devices) > 1:
        return [COPY]
    if name in ("_to_copy", "copy_"):
        target = torch.device(options.get("device") or tensors[0].device).type
        source = tensors[-1].device.type
        if target != source:
            return [SYNC if source == "cuda" else COPY]
    return []


def _site() -> str:
    """Return the innermost line of the package that is running."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{path.removeprefix(PACKAGE).lstrip('/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
