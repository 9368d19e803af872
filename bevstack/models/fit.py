"""Check that the weights of a file fit a model, before the model takes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_HALF_TYPES = (torch.float16, torch.bfloat16)


def fitted_weights(
    where: str,
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],  # the model's own ``state_dict``
) -> dict[str, Tensor]:
    """Return weights in the dtypes of a model; half precision is widened, which is lossless.

    Args:
        where: the file or the part of it that holds them, for messages.
        weights: the weights of the file.
        wanted: names, sizes and dtypes of the model's weights.

    Raises:
        ValueError: a weight is missing, unknown, of another size or of another dtype.
    """
    _check_fit(where, wanted, weights)
    widened = widen_halves(weights, wanted)
    _check_types(where, wanted, widened)
    return widened


def widen_halves(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors of half precision to the model's dtype, which is lossless.

    Tensors that the model lacks, or has in another kind, stay as they are.
    """
    return {
        name: tensor.to(wanted[name].dtype)
        if tensor.dtype in _HALF_TYPES and name in wanted and wanted[name].is_floating_point()
        else tensor
        for name, tensor in tensors.items()
    }


def _check_fit(where: str, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    missing = sorted(wanted.keys() - got.keys())
    unknown = sorted(got.keys() - wanted.keys())
    reshaped = sorted(k for k in wanted.keys() & got.keys() if wanted[k].shape != got[k].shape)
    for names, fault in (
        (missing, "lacks"),
        (unknown, "also has"),
        (reshaped, "has other sizes of"),
    ):
        if names:
            raise ValueError(
                f"weights must fit the model of their configuration; got {where}, which {fault} "
                f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''} ({len(names)} in all)"
            )


def _check_types(where: str, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    wrong = next((name for name in sorted(got) if got[name].dtype != wanted[name].dtype), None)
    if wrong is not None:
        must = str(wanted[wrong].dtype).removeprefix("torch.")
        halves = ", float16 or bfloat16" if wanted[wrong].is_floating_point() else ""
        raise ValueError(
            f"weights must be {must}{halves}; got {str(got[wrong].dtype).removeprefix('torch.')} "
            f"in {wrong} of {where}: convert its tensors to {must} and write them with save_model"
        )
