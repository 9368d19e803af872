"""Fields of rig files and tables of frames: poses, matrices, and names of the known fields."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor

from bevstack.geometry import se3_from_parts
from bevstack.geometry.camera import check_rigid
from bevstack.json_files import expect_field, expect_numbers, expect_object, shorten


def read_pose(name: str, values: Any) -> Tensor:  # (4, 4) float64
    """Return a pose given as quaternion and translation, or as a matrix.

    Raises:
        ValueError: a field is unknown, missing or of another kind, or the pose is not rigid.
    """
    if isinstance(values, dict):
        fields = ("rotation_wxyz", "translation_m")
        check_fields(name, values, fields, required=fields)
        rotation = read_matrix(f"{name}.rotation_wxyz", values["rotation_wxyz"], (4,))
        translation = read_matrix(f"{name}.translation_m", values["translation_m"], (3,))
        try:
            pose = se3_from_parts(rotation, translation)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    else:
        pose = read_matrix(name, values, (4, 4))
    check_rigid(name, pose)
    return pose


def read_matrix(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:  # float64
    """Return nested lists of finite numbers as a tensor of the given shape.

    Raises:
        ValueError: the values have another shape, or one is not a finite number.
    """
    return torch.from_numpy(expect_numbers(name, values, shape))


def check_fields(
    where: str, values: Any, known: tuple[str, ...], *, required: tuple[str, ...]
) -> None:
    """Check that an object has the required fields, and none that is unknown.

    Raises:
        ValueError: a field is unknown or missing; names it, and the nearest known one.
    """
    for name in expect_object(where, values):
        if name not in known:
            similar = difflib.get_close_matches(name[:100], known, n=1)
            remedy = f"did you mean {similar[0]!r}?" if similar else f"known: {', '.join(known)}"
            raise ValueError(f"{where} has no field {shorten(name)}; {remedy}")
    for name in required:
        expect_field(where, values, name)
