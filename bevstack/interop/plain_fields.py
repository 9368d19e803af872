"""Entries of a dictionary that was read without trust, with errors that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry import se3_from_parts
from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.se3 import check_rigid


class Fields:
    """Entries of a dictionary that was read without trust.

    Args:
        content: the dictionary, or anything else, which is refused.
        where: its place, for error messages.

    Raises:
        ValueError: ``content`` is no dictionary.
    """

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, Mapping):
            raise ValueError(f"{where} must be a dictionary; got {type(content).__name__}")
        self.content = content
        self.where = where

    def get(self, name: str) -> object:
        """Return an entry.

        Raises:
            ValueError: there is none.
        """
        if name not in self.content:
            shown = ", ".join(ascii(key)[:30] for key in list(self.content)[:8])
            raise ValueError(f"{self.where} must have the entry {name!r}; got {shown or 'none'}")
        return self.content[name]

    def text(self, name: str) -> str:
        """Return a text that is not empty.

        Raises:
            ValueError: it is something else.
        """
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self._name(name)} must be a text; got {type(value).__name__}")
        return value

    def inner(self, name: str) -> Fields:
        """Return the fields of an inner dictionary.

        Raises:
            ValueError: it is something else.
        """
        return Fields(self.get(name), self._name(name))

    def items(self, name: str) -> Sequence[object]:
        """Return a list.

        Raises:
            ValueError: it is something else.
        """
        value = self.get(name)
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{self._name(name)} must be a list; got {type(value).__name__}")
        return value

    def number(self, name: str) -> float:
        """Return a finite number.

        Raises:
            ValueError: it is something else.
        """
        return float(self.array(name, ()))

    def array(self, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
        """Return numbers of a shape; None stands for any size. Velocities may be NaN.

        Raises:
            ValueError: they are something else.
        """
        value = self.get(name)
        try:
            array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError):
            kind = type(value).__name__
            raise ValueError(f"{self._name(name)} must hold numbers; got {kind}") from None
        fits = array.ndim == len(shape) and all(
            want in (None, size) for want, size in zip(shape, array.shape, strict=True)
        )
        if not fits and array.size == 0 and shape[:1] == (None,):
            array, fits = np.zeros([size or 0 for size in shape]), True
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise ValueError(
                f"{self._name(name)} must have the shape {wanted}; got {array.shape}".replace(
                    "'", ""
                )
            )
        if "velocity" not in name and not np.isfinite(array).all():
            raise ValueError(
                f"{self._name(name)} must be finite; got {array[~np.isfinite(array)][0]}"
            )
        return array

    def motion(self, name: str) -> Tensor:  # (4, 4) float64
        """Return a rigid motion, stored as a matrix (3, 4) or (4, 4).

        Raises:
            ValueError: it is something else.
        """
        matrix = self.array(name, (None, 4))
        whole = np.eye(4)
        if matrix.shape[0] not in (3, 4):
            raise ValueError(f"{self._name(name)} must have 3 or 4 rows; got {matrix.shape[0]}")
        whole[: len(matrix)] = matrix
        motion = torch.from_numpy(whole)
        check_rigid(self._name(name), motion)
        return motion

    def motion_from_parts(self, prefix: str) -> Tensor:  # (4, 4) float64
        """Return the rigid motion of ``<prefix>_rotation`` (wxyz) and ``<prefix>_translation``.

        Raises:
            ValueError: it is something else.
        """
        rotation = torch.from_numpy(self.array(f"{prefix}_rotation", (4,)))
        translation = torch.from_numpy(self.array(f"{prefix}_translation", (3,)))
        try:
            return se3_from_parts(rotation, translation)
        except ValueError as error:
            raise ValueError(f"{self._name(prefix + '_rotation')}: {error}") from None

    def intrinsics(self, name: str) -> Tensor:  # (3, 3) float64
        """Return the intrinsics of a matrix (3, 3), (3, 4) or (4, 4).

        Raises:
            ValueError: it is something else.
        """
        matrix = self.array(name, (None, None))
        if matrix.shape not in ((3, 3), (3, 4), (4, 4)):
            raise ValueError(f"{self._name(name)} must have 3 rows; got {matrix.shape}")
        intrinsics = torch.from_numpy(matrix[:3, :3].copy())
        check_intrinsics(self._name(name), intrinsics)
        return intrinsics

    def _name(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name
