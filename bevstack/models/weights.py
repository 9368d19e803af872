"""Tensors on disk: safetensors files that are whole or absent, and say what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bevstack.files import safetensors_in_order, write_atomically

# How files begin that torch.save wrote: a zip archive, or a pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Writes tensors and metadata; the file appears under its name only when it is on disk.

    The same tensors and metadata are the same bytes, and so have the same digest, each time.
    A temporary file in the same folder is filled, flushed to the disk and renamed, so a kill or a
    full disk leaves an older file of that name whole.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; names the file.
    """
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, safetensors_in_order(save(plain, metadata=dict(metadata))))


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, in memory of their own, and metadata of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged or truncated file, or a pickled one, with the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights must be a file; got {path}, which is none")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # Copied: in the mapped file they lie unaligned, and sums would differ in the last bit.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(_complaint(path, error)) from None
    return tensors, metadata


def _complaint(path: Path, error: SafetensorError) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLE_STARTS):
        return (
            f"weights must be a safetensors file; got the pickled file {path}, which could run "
            "code: convert published weights with `bevstack convert-weights`, and write your "
            "own with bevstack.models.build.save_model"
        )
    return (
        f"weights must be a whole safetensors file; got {path}, which is damaged or cut short "
        f"({error}): copy or download it again"
    )
