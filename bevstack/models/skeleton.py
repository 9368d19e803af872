"""Models without values, whose tensors are then replaced by those of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Draws in place, of ``torch.nn.init`` and of tensors.
_DRAWS = ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_")


@contextmanager
def skeleton() -> Iterator[None]:
    """Build the modules of its block on torch's device "meta": with shapes, but without values.

    Random initial values are not drawn. On "meta" they have no effect, but torch loads its compiler
    for them, which takes longer than to load a small model.
    """
    with torch.device("meta"), _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        tensor = args[0] if args else named.get("tensor")
        draws = getattr(func, "__name__", "") in _DRAWS
        if draws and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **named)
