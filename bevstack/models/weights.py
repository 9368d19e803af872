"""Reading and writing of safetensors files, which are complete or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bevstack.files import sort_safetensors_metadata, write_atomically

# First bytes of files written by torch.save: a zip archive, or a pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

BACKBONE = "backbone."  # prefix of the weights that the tasks of a model share


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata; the file gets its name only when it is complete on disk.

    Equal tensors and metadata give equal bytes, and so the same digest. A temporary file in the
    same folder is written, flushed to disk and renamed. If the process is killed or the disk is
    full, an older file of that name stays intact.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; names the file.
    """
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, sort_safetensors_metadata(save(plain, metadata=dict(metadata))))


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, as copies in memory, and its metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged, truncated or pickled file; the message gives the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights must be a file; got {path}, which is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # Copied because mapped tensors are unaligned: sums would differ in the last bit.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(_fault(path, error)) from None
    return tensors, metadata


def _fault(path: Path, error: SafetensorError) -> str:
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


def task_weights(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights of one task's model, of those of a joint model."""
    prefix = f"tasks.{name}."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {**{k: v for k, v in weights.items() if k.startswith(BACKBONE)}, **own}
