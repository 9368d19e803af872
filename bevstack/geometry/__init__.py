"""Rigid motions, cameras and the bird's-eye-view grid."""

from bevstack.geometry.bev_grid import BEVGrid, nominal_bev_from_ego
from bevstack.geometry.bev_iou import bev_iou
from bevstack.geometry.camera import CameraRig
from bevstack.geometry.constants import constant
from bevstack.geometry.se3 import (
    invert_se3,
    quaternion_from_rotation,
    rotation_from_quaternion,
    se3_from_parts,
    transform_points,
    yaw_from_rotation,
)

__all__ = [
    "BEVGrid",
    "CameraRig",
    "bev_iou",
    "constant",
    "invert_se3",
    "nominal_bev_from_ego",
    "quaternion_from_rotation",
    "rotation_from_quaternion",
    "se3_from_parts",
    "transform_points",
    "yaw_from_rotation",
]
