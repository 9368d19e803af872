"""Plausibility of a rig: calibrations that are valid numbers but cannot be those of a vehicle.

``find_rig_faults`` names the camera and the fault, and the likely cause: a common mistake whose
reversal makes the camera plausible. Limits are wide, so that trucks, narrow lenses, fisheyes and
cameras that look down stay silent. Axes are those of STYLE: ego x forward, y left, z up; camera
x right, y down, z forward.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.geometry.rig_causes import CAUSES
from bevstack.vocabulary import CAMERA_CHANNELS

MAX_DISTANCE_M = 10.0  # from the ego origin: a lorry's cab is 6 m before its rear axle, 3.5 m high
MAX_ELEVATION_DEG = 65.0  # of the optical axis; parking cameras look down by up to 60
MAX_ROLL_DEG = 45.0  # of the image about the optical axis
VIEW_DEG = (10.0, 170.0)  # field of view of a pinhole camera
MAX_OFF_CENTER = 0.2  # of the principal point, in parts of width and of height, in both at once
NARROW_DEG = 33.0  # a tele camera is not meant to overlap with its neighbours
MAX_GAP_DEG = 13.0  # between the views of neighbours; those of nuScenes overlap by 4 to 13
_CHECK = "check the calibration"
_REMEDY = f"{_CHECK}: angles in radians, quaternions w first, metres, the pose from camera to ego"
MAX_NORM_ERROR = 0.01  # of a quaternion, before it is normalised

# Words of a camera's name -> the direction of its role and the greatest deviation, degrees
# counter-clockwise from straight ahead. nuScenes' own cameras deviate by less than 5.
_ROLES: dict[frozenset[str], tuple[float, float]] = {
    frozenset({"front"}): (0.0, 50.0),
    frozenset({"front", "left"}): (45.0, 60.0),
    frozenset({"left"}): (90.0, 110.0),
    frozenset({"back", "left"}): (125.0, 60.0),
    frozenset({"back"}): (180.0, 50.0),
    frozenset({"back", "right"}): (-125.0, 60.0),
    frozenset({"right"}): (-90.0, 110.0),
    frozenset({"front", "right"}): (-45.0, 60.0),
}
_SYNONYMS = {"forward": "front", "rear": "back", "backward": "back"}
_DIRECTIONS = frozenset({"front", "left", "back", "right"})
_PAIRS = {"stereo", "pair"}  # "stereo_front_left" is the left one of two cameras that look ahead


class ImplausibleRigWarning(UserWarning, ValueError):
    """Warning about a rig that cannot be; as an error (``--strict-rig``) it is a ValueError."""


class RigFault(NamedTuple):
    """Faults of one camera, and their likely cause."""

    camera: str
    sentence: str  # "camera 'CAM_BACK' must ...; got ...: <likely cause>"
    cause: str  # "" if none is known


@dataclass(frozen=True, kw_only=True)
class RigCameras:
    """Calibrations of the cameras of one rig.

    A size of 0 is unknown, and the checks of the intrinsics are left out.
    """

    names: Sequence[str]  # N roles
    ego_from_cam: NDArray[np.float64]  # (N, 4, 4) metres
    intrinsics: NDArray[np.float64]  # (N, 3, 3) pixels
    image_size: NDArray[np.int64]  # (N, 2) of (H, W)
    fisheye: NDArray[np.bool_] | None = None  # (N,) True: equidistant lens; None: all pinhole
    norm: NDArray[np.float64] | None = None  # (N,) of the quaternions as given; None: unknown

    def select(self, rows: Sequence[int]) -> RigCameras:
        """Return some of the cameras."""
        index = list(rows)
        return RigCameras(
            names=[self.names[row] for row in index],
            ego_from_cam=self.ego_from_cam[index],
            intrinsics=self.intrinsics[index],
            image_size=self.image_size[index],
            fisheye=None if self.fisheye is None else self.fisheye[index],
            norm=None if self.norm is None else self.norm[index],
        )


def warn_of_rig_faults(faults: Sequence[RigFault], place: str = "") -> None:
    """Warn of every faulty camera; ``place`` names the rig, such as " in rig.json"."""
    for fault in faults:
        warnings.warn(f"{fault.sentence}{place}", ImplausibleRigWarning, stacklevel=1)


def find_rig_faults(cameras: RigCameras) -> tuple[RigFault, ...]:
    """Return one fault for each camera that cannot be, in the order of the cameras.

    A pair of neighbours that should overlap and do not is a fault of its first camera.
    """
    faults = _pose_faults(cameras, cameras.ego_from_cam)
    intrinsics = _intrinsics_faults(cameras)
    bad = [row for row, texts in enumerate(faults) if texts]
    causes = _find_causes(cameras, bad) if bad else {}
    if cameras.norm is not None:
        for row in np.flatnonzero(~(abs(cameras.norm - 1) <= MAX_NORM_ERROR)):
            faults[row].append(f"must have a quaternion of length 1; got {cameras.norm[row]:.4g}")
    unique = not bad and not any(intrinsics)
    copies = _copied_poses(cameras) if unique else {}
    gaps = _gap_faults(cameras) if unique and not copies else {}
    result = []
    for row, name in enumerate(cameras.names):
        texts = [*faults[row], *intrinsics[row], *copies.get(row, []), *gaps.get(row, [])]
        if not texts:
            continue
        cause = causes.get(row, "" if faults[row] else _intrinsics_cause(cameras, row))
        remedy = f"looks like {cause}" if cause else _REMEDY if faults[row] else _CHECK
        result.append(
            RigFault(name, f"camera {name!r} {', and '.join(texts[:2])}: {remedy}", cause)
        )
    return tuple(result)


def _pose_faults(
    cameras: RigCameras,
    ego_from_cam: NDArray[np.float64],  # (N, 4, 4)
) -> list[list[str]]:  # N
    """Return the faults of position, direction and role of every camera."""
    position = ego_from_cam[:, :3, 3]
    axis, right, down = ego_from_cam[:, :3, 2], ego_from_cam[:, :3, 0], ego_from_cam[:, :3, 1]
    distance = np.linalg.norm(position, axis=1)
    elevation = np.degrees(np.arcsin(axis[:, 2].clip(-1, 1)))
    yaw = np.degrees(np.arctan2(axis[:, 1], axis[:, 0]))
    roll = np.degrees(np.arctan2(-right[:, 2], -down[:, 2]))
    steep = abs(elevation) > MAX_ELEVATION_DEG
    rolled = ~steep & (abs(roll) > MAX_ROLL_DEG)
    faults: list[list[str]] = [[] for _ in cameras.names]
    for row in np.flatnonzero(position[:, 2] < 0):
        faults[row].append(f"must be above the ground; got a height of {position[row, 2]:.2f} m")
    for row in np.flatnonzero(distance > MAX_DISTANCE_M):
        faults[row].append(
            f"must be within {MAX_DISTANCE_M:.0f} m of the ego origin; got {distance[row]:.4g} m"
        )
    for row in np.flatnonzero(steep):
        direction = "up" if elevation[row] > 0 else "down"
        faults[row].append(
            f"must look along the ground; got an optical axis that points {direction} by "
            f"{abs(elevation[row]):.0f} degrees"
        )
    for row in np.flatnonzero(rolled):
        faults[row].append(
            f"must be upright; got an image that is turned by {abs(roll[row]):.0f} degrees"
        )
    for row in np.flatnonzero(~steep):
        role = find_role(cameras.names[row])
        if role is not None and abs((yaw[row] - role[0] + 180) % 360 - 180) > role[1]:
            faults[row].append(
                f"must look to about {role[0]:.0f} degrees, as its name states; got "
                f"{round(yaw[row])} degrees (counter-clockwise from straight ahead)"
            )
    return faults


def find_role(name: str) -> tuple[float, float] | None:
    """Return direction and greatest deviation of a camera's role in degrees; None without one."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    words = {_SYNONYMS.get(word, word) for word in map(str.lower, parts)}
    return None if words & _PAIRS else _ROLES.get(frozenset(words & _DIRECTIONS))


def _views(cameras: RigCameras) -> NDArray[np.float64]:  # (N, 2)
    """Return how far each camera sees to its left and to its right, in degrees."""
    center, focal = cameras.intrinsics[:, 0, 2], cameras.intrinsics[:, 0, 0]
    sides = np.stack((center, cameras.image_size[:, 1] - center), axis=1) / focal[:, None]
    angles = np.degrees(np.arctan(sides))
    if cameras.fisheye is not None:
        angles = np.where(cameras.fisheye[:, None], np.degrees(sides), angles)
    return np.asarray(angles)


def _intrinsics_faults(cameras: RigCameras) -> list[list[str]]:  # N
    """Return the faults of principal points and fields of view."""
    faults: list[list[str]] = [[] for _ in cameras.names]
    known = (cameras.image_size > 0).all(axis=1)
    center = cameras.intrinsics[:, :2, 2]
    size = cameras.image_size[:, ::-1]
    inside = ((center > 0) & (center < size)).all(axis=1)
    for row in np.flatnonzero(known & ~inside):
        faults[row].append(
            f"must have its principal point inside the image of {size[row, 0]}x{size[row, 1]} "
            f"pixels; got ({center[row, 0]:.1f}, {center[row, 1]:.1f})"
        )
    off = (abs(center / size.clip(1) - 0.5) > MAX_OFF_CENTER).all(axis=1)
    for row in np.flatnonzero(known & inside & off):
        faults[row].append(
            f"must have its principal point near the middle of the image of {size[row, 0]}x"
            f"{size[row, 1]} pixels; got ({center[row, 0]:.1f}, {center[row, 1]:.1f})"
        )
    pinhole = np.ones(len(known), bool) if cameras.fisheye is None else ~cameras.fisheye
    focal = cameras.intrinsics[:, (0, 1), (0, 1)]
    width, height = np.degrees(2 * np.arctan(size / (2 * focal))).T
    bad = (width < VIEW_DEG[0]) | (width > VIEW_DEG[1]) | (height > VIEW_DEG[1])
    for row in np.flatnonzero(known & pinhole & bad):
        faults[row].append(
            f"must have a field of view of {VIEW_DEG[0]:.0f} to {VIEW_DEG[1]:.0f} degrees; got "
            f"{width[row]:.1f} by {height[row]:.1f}"
        )
    return faults


def _intrinsics_cause(cameras: RigCameras, row: int) -> str:
    """Return the likely cause of wrong intrinsics."""
    focal, center = cameras.intrinsics[row, 0, 0], cameras.intrinsics[row, :2, 2]
    height, width = cameras.image_size[row]
    if focal < 0.05 * width and (center <= 1.0).all():
        return "intrinsics in parts of the image size instead of pixels"
    if focal < 0.05 * width:
        return "a focal length in millimetres instead of pixels"
    if center[0] >= width or center[1] >= height:
        return "intrinsics of a larger image, or width and height exchanged"
    offset = abs(center / (width, height) - 0.5)
    return "intrinsics of a smaller image" if (offset > MAX_OFF_CENTER).all() else ""


def _gap_faults(cameras: RigCameras) -> dict[int, list[str]]:
    """Return the neighbours of nuScenes' six roles that leave a gap between them."""
    if not set(CAMERA_CHANNELS) <= set(cameras.names) or (cameras.image_size <= 0).any():
        return {}
    axis = cameras.ego_from_cam[:, :2, 2]
    yaw = np.degrees(np.arctan2(axis[:, 1], axis[:, 0]))
    left, right = _views(cameras).T
    ring = sorted(map(list(cameras.names).index, CAMERA_CHANNELS), key=lambda row: -yaw[row])
    faults: dict[int, list[str]] = {}
    for row, neighbour in zip(ring, [*ring[1:], ring[0]], strict=True):  # clockwise
        narrow = min(left[row] + right[row], left[neighbour] + right[neighbour]) < NARROW_DEG
        start = yaw[row] - right[row]  # the sector to cover, clockwise from here
        gap = (yaw[row] - yaw[neighbour]) % 360 - right[row] - left[neighbour]
        if narrow or gap <= MAX_GAP_DEG:
            continue
        middle = (yaw - (start - gap / 2) + 180) % 360 - 180  # another camera may fill it
        if ((middle < right) & (middle > -left)).any():
            continue
        faults.setdefault(row, []).append(
            f"must overlap with its neighbour {cameras.names[neighbour]!r}; got a gap of "
            f"{gap:.0f} degrees"
        )
    return faults


def _find_causes(cameras: RigCameras, bad: Sequence[int]) -> dict[int, str]:
    """Return the likely cause by camera: the mistake that explains the greatest number of them."""
    wrong = cameras.select(bad)
    explained: dict[str, list[int]] = {}
    for cause, reverse in CAUSES:
        faults = _pose_faults(wrong, reverse(wrong.ego_from_cam))
        explained[cause] = [row for row, texts in zip(bad, faults, strict=True) if not texts]
    causes: dict[int, str] = {}
    for cause in sorted(explained, key=lambda name: -len(explained[name])):  # stable
        for row in explained[cause]:
            causes.setdefault(row, cause)
    explains_all = any(len(rows) == len(cameras.names) for rows in explained.values())
    if not explains_all or len(cameras.names) < 3:
        causes |= {row: text for row in bad if (text := _exchanged_with(cameras, row))}
    return causes


def _exchanged_with(cameras: RigCameras, row: int) -> str:
    """Return the camera whose pose this one seems to have; "" if there is none.

    It has an equal pose, or both fit after an exchange.
    """
    poses = cameras.ego_from_cam
    for other, name in enumerate(cameras.names):
        if other == row:
            continue
        exchanged = _pose_faults(cameras.select([row, other]), poses[[other, row]])
        if np.allclose(poses[row], poses[other], atol=1e-6) or not any(exchanged):
            return f"the pose of {name!r}"
    return ""


def _copied_poses(cameras: RigCameras) -> dict[int, list[str]]:
    """Return the cameras that have the pose of a camera of another role."""
    roles = [find_role(name) for name in cameras.names]
    axis = cameras.ego_from_cam[:, :2, 2]
    yaw = np.degrees(np.arctan2(axis[:, 1], axis[:, 0]))
    faults: dict[int, list[str]] = {}
    for pair in itertools.combinations(range(len(roles)), 2):
        one, other = (roles[row] for row in pair)
        if one is None or other is None or one == other:
            continue
        if np.allclose(cameras.ego_from_cam[pair[0]], cameras.ego_from_cam[pair[1]], atol=1e-6):
            deviation = [
                abs((yaw[row] - role[0] + 180) % 360 - 180)
                for row, role in zip(pair, (one, other), strict=True)
            ]
            row, source = pair if deviation[0] > deviation[1] else pair[::-1]
            faults.setdefault(row, []).append(
                f"must have a pose of its own; got that of {cameras.names[source]!r}"
            )
    return faults


__all__ = [
    "ImplausibleRigWarning",
    "RigCameras",
    "RigFault",
    "find_rig_faults",
    "find_role",
    "warn_of_rig_faults",
]
