"""Reading and writing of safetensors files, which are complete or absent, and checked when read."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bevstack.files import write_atomically
from bevstack.models.checksum import CHECKSUM_KEY, compute_checksum, find_packaged, hash_content
from bevstack.models.file_kinds import PICKLE_STARTS, describe_start, read_start
from bevstack.safetensors_metadata import sort_safetensors_metadata

_LOG = logging.getLogger(__name__)
BACKBONE = "backbone."  # prefix of the weights that the tasks of a model share


class DamagedWeightsError(ValueError):
    """Error for a weights file that is not whole or holds values that no training leaves."""


class WeightsFile(NamedTuple):
    """Checked content of a weights file."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]  # without the checksum


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors, metadata and their checksum; the file gets its name only when it is complete.

    Equal tensors and metadata give equal bytes, and so the same digest. A temporary file in the
    same folder is written, flushed to disk and renamed. If the process is killed or the disk is
    full, an older file of that name stays intact.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; names the file.
    """
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    stored = {**metadata, CHECKSUM_KEY: compute_checksum(plain, metadata)}
    write_atomically(path, sort_safetensors_metadata(save(plain, metadata=stored)))


def read_safetensors(
    path: str | Path, *, verify: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, as copies in memory, and its metadata without the checksum.

    Args:
        path: the file.
        verify: compare the tensors and metadata with the checksum, if the file has one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged, truncated or pickled file; the message gives the remedy.
    """
    tensors, metadata, _ = _read(Path(path), verify)
    return tensors, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file without its tensors; none of a damaged file."""
    try:
        with safe_open(Path(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def read_weights_file(path: str | Path, *, verify: bool = True) -> WeightsFile:
    """Read a weights file and check that its values are finite and equal to its checksum.

    A file without a checksum, which an older version wrote, is read with a note. For packaged
    files the checksum is known.

    Args:
        path: the file.
        verify: False skips the checksum, but no other check.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged, truncated or pickled file, or a value that is not finite; the message
            names the tensor and gives the remedy.
    """
    path = Path(path)
    tensors, metadata, has_checksum = _read(path, verify)
    for name, tensor in tensors.items():
        check_finite(name, tensor, str(path))
    if verify and not has_checksum:
        warnings.warn(
            f"{path} holds no checksum, as an older version wrote it, so that damage may pass "
            "unnoticed: bevstack.models.build.save_model writes files with a checksum",
            stacklevel=2,
        )
    _LOG.info("read %s: %d tensors", path, len(tensors))
    return WeightsFile(path, tensors, metadata)


def tensors_digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return a digest of tensors, their names and a text, such as the configuration."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()


def check_finite(name: str, tensor: Tensor, where: str) -> None:
    """Check that no value of a tensor is NaN or infinite.

    Raises:
        ValueError: a value is not finite; names the tensor and the value.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta:
        return
    values = tensor.float() if tensor.itemsize == 1 else tensor  # float8 has no aminmax
    low, high = torch.aminmax(values)  # both are NaN if any value is
    wrong = [value for value in (float(low), float(high)) if not abs(value) < float("inf")]
    if wrong:
        raise DamagedWeightsError(
            f"weights must be finite; got {wrong[0]} in {name} of {where}: the file is damaged or "
            "its training diverged, so use another copy or an earlier checkpoint"
        )


def joint_name(task: str, name: str) -> str:
    """Return the name in a joint model of a weight of one task's model."""
    return name if name.startswith(BACKBONE) else f"tasks.{task}.{name}"


def task_weights(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights of one task's model, of those of a joint model."""
    prefix = f"tasks.{name}."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {**{k: v for k, v in weights.items() if k.startswith(BACKBONE)}, **own}


def _read(path: Path, verify: bool) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """Return tensors, metadata, and True if the file has a checksum or one is known for it."""
    if not path.is_file():
        raise FileNotFoundError(f"weights must be a file; got {path}, which is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # Copied because mapped tensors are unaligned: sums would differ in the last bit.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise DamagedWeightsError(_fault(path, error)) from None
    except OSError as error:
        raise _named(path, error) from None
    stored = metadata.pop(CHECKSUM_KEY, None)
    packaged = find_packaged(path) if stored is None else None
    if packaged is not None:
        if verify and hash_content(path) != packaged.content:
            raise DamagedWeightsError(_mismatch(path, "of the packaged weights"))
    elif stored is not None and verify and compute_checksum(tensors, metadata) != stored:
        raise DamagedWeightsError(_mismatch(path, "that it was written with"))
    return tensors, metadata, stored is not None or packaged is not None


def _named(path: Path, error: OSError) -> OSError:
    """Return the error with its number and the file, which safetensors leaves out or mistakes.

    It calls every file that it cannot open missing.
    """
    stated = re.search(r"\(os error (\d+)\)", str(error))
    number = int(stated[1]) if stated else error.errno
    if number is None or number == errno.ENOENT:
        with path.open("rb"):  # raises the cause, if it lasts
            number = errno.EIO
    return OSError(number, os.strerror(number), str(path))


def _mismatch(path: Path, origin: str) -> str:
    return (
        f"weights must equal the checksum {origin}; got {path}, which is damaged or was changed by "
        "another program: copy or download it again, or skip the check with --no-verify (in Python "
        "verify=False)"
    )


def _fault(path: Path, error: Exception) -> str:
    start = read_start(path)
    if start.startswith(PICKLE_STARTS):
        return (
            f"weights must be a safetensors file; got the pickled file {path}, which could run "
            "code: convert published weights with `bevstack convert-weights`, and write your "
            "own with bevstack.models.build.save_model"
        )
    kind = describe_start(start) if start else None
    if kind is not None:
        return f"weights must be a safetensors file; got {path}, which is {kind[0]}: {kind[1]}"
    reason = " ".join(str(error).split())[:200]
    return (
        f"weights must be a whole safetensors file; got {path}, which is damaged or cut short "
        f"({reason}): copy or download it again"
    )
