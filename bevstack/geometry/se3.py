"""Batched rigid motions as (..., 4, 4) matrices named ``dst_from_src``; quaternions are wxyz.

Leading axes are free and broadcast. Matrices compose left to right with equal neighbours:
``image_from_ego = image_from_cam @ cam_from_ego``. Poses are float64 until the last product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.geometry.constants import constant
from bevstack.shapes import expect_shape


def rotation_from_quaternion(
    quaternion: Tensor,  # (..., 4) wxyz, any non-zero length
) -> Tensor:  # (..., 3, 3)
    """Return the rotation matrix of a quaternion, which is normalised first.

    Raises:
        ValueError: a quaternion of zero or non-finite length.
    """
    expect_shape("quaternion", quaternion, ("...", 4))
    length = torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
    if not bool(torch.isfinite(length).all()) or bool((length == 0).any()):
        raise ValueError("quaternion must be finite and of non-zero length; check the calibration")
    w, x, y, z = (quaternion / length).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), -1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), -1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1),
    )
    return torch.stack(rows, -2)


def quaternion_from_rotation(
    rotation: Tensor,  # (..., 3, 3)
) -> Tensor:  # (..., 4) wxyz with w >= 0
    """Return the unit quaternion of a rotation matrix.

    The matrix of all products q_i q_j is linear in the rotation. Its row with the largest diagonal
    entry is a well-conditioned multiple of the quaternion. This is the noise-free form of
    Bar-Itzhack 2000, New Method for Extracting the Quaternion from a Rotation Matrix.
    """
    expect_shape("rotation", rotation, ("...", 3, 3))
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = (
        r[..., 2, 1] - r[..., 1, 2],
        r[..., 0, 2] - r[..., 2, 0],
        r[..., 1, 0] - r[..., 0, 1],
    )
    xy, xz, yz = (
        r[..., 1, 0] + r[..., 0, 1],
        r[..., 0, 2] + r[..., 2, 0],
        r[..., 2, 1] + r[..., 1, 2],
    )
    products = torch.stack(  # 4 q_i q_j
        (
            torch.stack((1 + xx + yy + zz, wx, wy, wz), -1),
            torch.stack((wx, 1 + xx - yy - zz, xy, xz), -1),
            torch.stack((wy, xy, 1 - xx + yy - zz, yz), -1),
            torch.stack((wz, xz, yz, 1 - xx - yy + zz), -1),
        ),
        -2,
    )
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = torch.nn.functional.normalize(products.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def se3_from_parts(
    rotation: Tensor,  # (..., 3, 3), or (..., 4) quaternion wxyz
    translation: Tensor,  # (..., 3) metres
) -> Tensor:  # (..., 4, 4)
    """Return the homogeneous matrix ``dst_from_src`` of a rotation and a translation.

    Raises:
        ValueError: wrong shapes, or a quaternion of zero or non-finite length.
    """
    if rotation.shape[-1] == 4:
        rotation = rotation_from_quaternion(rotation)
    expect_shape("rotation", rotation, ("...", 3, 3))
    expect_shape("translation", translation, ("...", 3))
    upper = torch.cat((rotation, translation[..., None]), -1)
    last_row = constant(upper, (0.0, 0.0, 0.0, 1.0)).expand(*upper.shape[:-2], 1, 4)
    return torch.cat((upper, last_row), -2)


def invert_se3(
    dst_from_src: Tensor,  # (..., 4, 4) rigid
) -> Tensor:  # (..., 4, 4)
    """Return ``src_from_dst``, the exact inverse of a rigid motion, by transposing the rotation."""
    expect_shape("dst_from_src", dst_from_src, ("...", 4, 4))
    src_from_dst_rotation = dst_from_src[..., :3, :3].transpose(-1, -2)
    translation = -(src_from_dst_rotation @ dst_from_src[..., :3, 3:]).squeeze(-1)
    return se3_from_parts(src_from_dst_rotation, translation)


def transform_points(
    dst_from_src: Tensor,  # (..., 4, 4)
    points: Tensor,  # (..., P, 3) in src
) -> Tensor:  # (..., P, 3) in dst
    """Transform points from src to dst; leading axes broadcast."""
    expect_shape("dst_from_src", dst_from_src, ("...", 4, 4))
    expect_shape("points", points, ("...", "P", 3))
    rotated = points @ dst_from_src[..., :3, :3].transpose(-1, -2)
    return rotated + dst_from_src[..., None, :3, 3]


def yaw_from_rotation(
    rotation: Tensor,  # (..., 3, 3)
) -> Tensor:  # (...,) radians in (-pi, pi]
    """Return the heading of the rotated x axis seen from above, counter-clockwise about z."""
    return torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])


def check_rigid(
    name: str,
    dst_from_src: Tensor,  # (..., 4, 4)
) -> None:
    """Check that every matrix is a finite, proper rigid motion.

    The rotation may differ from an orthonormal one by 1e-3, because calibration files keep only a
    few decimals.

    Args:
        name: the name of the argument, for the message.
        dst_from_src: the matrices.

    Raises:
        ValueError: a matrix breaks the rule; the message gives its index and error.
    """
    expect_shape(name, dst_from_src, ("...", 4, 4))
    if not bool(torch.isfinite(dst_from_src).all()):
        raise ValueError(f"{name} must be finite; got {_first_non_finite(dst_from_src)}")
    rotation = dst_from_src[..., :3, :3].double()
    identity = torch.eye(3, dtype=torch.float64, device=rotation.device)
    error = (rotation @ rotation.transpose(-1, -2) - identity).abs().amax((-1, -2))
    last_row = dst_from_src[..., 3, :] - dst_from_src.new_tensor((0.0, 0.0, 0.0, 1.0))
    rigid = (error < 1e-3) & (last_row.abs().amax(-1) < 1e-9)
    if not bool(rigid.all()):
        index = (~rigid).nonzero()[0].tolist()
        fault = f"a rotation error of {float(error[tuple(index)]):.3g}"
        if float(last_row[tuple(index)].abs().max()) >= 1e-9:
            fault = f"the last row {dst_from_src[tuple(index)][3].tolist()} instead of 0, 0, 0, 1"
        raise ValueError(
            f"{name} must be a rigid motion (rotation and translation); got {fault}"
            f"{_entry(index)}: check the calibration"
        )
    mirrored = torch.linalg.det(rotation) < 0
    if bool(mirrored.any()):
        raise ValueError(
            f"{name} must be right-handed (determinant 1); got a left-handed, mirrored one "
            f"(determinant -1){_entry(mirrored.nonzero()[0].tolist())}: negate one axis, as "
            "simulators with a left-handed frame need"
        )


def _entry(index: list[int]) -> str:
    """Return the index of a matrix for a message; nothing for a single matrix."""
    return f" in entry {index}" if index else ""


def _first_non_finite(matrices: Tensor) -> str:
    non_finite = ~torch.isfinite(matrices)
    index = tuple(int(i) for i in non_finite.nonzero()[0])
    return f"{float(matrices[index])} at {list(index)}"
