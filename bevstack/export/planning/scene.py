"""The input of every format: the objects, cues and trust of one frame.

Values stand in the ego frame (x forward, y left, z up) with the project's conventions. A format's
own conventions exist only in its file.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry import invert_se3
from bevstack.geometry.se3 import check_rigid
from bevstack.planning.paths import PredictedPaths
from bevstack.tracking import Tracks
from bevstack.types import Detections
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.sectors import SectorTrust
from bevstack.types.uncertainty import BoxUncertainty
from bevstack.vocabulary import DETECTION_CLASSES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of the identifiers of tracks and cues, so that they are the same in every export of a drive.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "bevstack")


@dataclass(frozen=True, kw_only=True)
class PlanningObjects:
    """N detected or tracked objects of a frame, in the ego frame at the frame's time.

    Raises:
        ValueError: a shape does not fit, a class is unknown, a value is not finite, a size is not
            positive, a score is outside 0..1 or an identity occurs twice.
    """

    class_names: tuple[str, ...]  # N, of DETECTION_CLASSES
    scores: Floats  # (N,) 0 to 1, of the detector or tracker; see ``existence``
    center: Floats  # (N, 3) metres, centre of gravity
    size: Floats  # (N, 3) metres, (length, width, height)
    yaw: Floats  # (N,) radians, counter-clockwise about z
    velocity: Floats  # (N, 2) metres per second over ground, along x and y; NaN where unknown
    # (N, 4, 4) of x, y, vx, vy: calibrated, or of the tracker alone; None: unknown
    covariance: Floats | None = None
    # Calibrated, in the ego frame, with ``covariance`` as its state; None: no calibration.
    uncertainty: BoxUncertainty | None = None
    identity: Ints | None = None  # (N,) of tracks, unique in the frame; None: detections
    last_seen_us: Ints | None = None  # (N,) time of a track's last box; None: that of the frame
    turn_rate: Floats | None = None  # (N,) radians per second; None: unknown
    turn_rate_std: Floats | None = None  # (N,) radians per second

    def __post_init__(self) -> None:
        count = len(self.class_names)
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape != (count, *shape):
                raise ValueError(
                    f"objects.{name} must have shape {(count, *shape)}; got {value.shape}"
                )
            known = np.isfinite(value) | (np.isnan(value) & (name == "velocity"))
            if not known.all():
                row = int(np.argwhere(~known)[0, 0])
                raise ValueError(f"objects.{name} must be finite; got {value[row]} in object {row}")
        if self.uncertainty is not None and len(self.uncertainty) != count:
            raise ValueError(
                f"objects.uncertainty must be of {count} objects; got {len(self.uncertainty)}"
            )
        for row, class_name in enumerate(self.class_names):
            if class_name not in DETECTION_CLASSES:
                raise ValueError(
                    f"class of object {row} must be one of {', '.join(DETECTION_CLASSES)}; got "
                    f"{class_name!r}"
                )
        if not (self.size > 0).all():
            raise ValueError(f"objects.size must be positive; got {self.size.min():g}")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError(f"objects.scores must be from 0 to 1; got {self.scores.tolist()}")
        identity = self.identity
        if identity is not None and (len(np.unique(identity)) < count or (identity < 0).any()):
            raise ValueError(
                "objects.identity must be unique in a frame and not negative; got "
                f"{identity.tolist()}"
            )

    def __len__(self) -> int:
        """Return N."""
        return len(self.class_names)

    @property
    def existence(self) -> Floats:  # (N,)
        """Return the probabilities that the objects exist; the scores without a calibration."""
        known = self.uncertainty
        return self.scores if known is None else known.existence.to(torch.float64).numpy()

    @cached_property
    def pose_covariances(self) -> Floats | None:  # (N, 6, 6)
        """Return the covariances of the objects' (x, y, z, rx, ry, rz), 0 where they are unknown.

        None: nothing is known. The variance of rz is that of the heading modulo pi.
        """
        if self.covariance is None:
            return None
        pose = np.zeros((len(self), 6, 6))
        pose[:, :2, :2] = self.covariance[:, :2, :2]
        if self.uncertainty is not None:
            pose[:, 2, 2] = self.uncertainty.elevation_m2.numpy()
            pose[:, 5, 5] = self.uncertainty.yaw_rad2.numpy()
        return pose

    def pose_covariance(self, row: int) -> Floats | None:  # (6, 6)
        """Return the covariance of an object's pose; see ``pose_covariances``."""
        known = self.pose_covariances
        return None if known is None else known[row]

    @cached_property
    def own_velocity(self) -> Floats:  # (N, 2)
        """Return the velocities along the headings and to their left; 0 where unknown."""
        return rotated_to_object(np.nan_to_num(self.velocity), self.yaw)

    @cached_property
    def own_velocity_covariance(self) -> Floats | None:  # (N, 2, 2)
        """Return the covariances of ``own_velocity``; None: unknown."""
        if self.covariance is None:
            return None
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.stack((cos, sin, -sin, cos), -1).reshape(-1, 2, 2)
        covariance: Floats = turn @ self.covariance[:, 2:, 2:] @ turn.swapaxes(-1, -2)
        return covariance

    @staticmethod
    def from_detections(
        detections: Detections,
        class_names: tuple[str, ...] = DETECTION_CLASSES,
        ego_from_bev: Tensor | None = None,  # (4, 4); None: the bev frame is the ego frame
    ) -> PlanningObjects:
        """Return the boxes of a detector, in their order.

        Raises:
            ValueError: a box is not finite, or its class is unknown.
        """
        detections = detections.to("cpu")
        boxes, known = detections.boxes.to(torch.float64), detections.uncertainty
        if ego_from_bev is not None:
            boxes = boxes.transformed(ego_from_bev)
            known = None if known is None else known.transformed(ego_from_bev)
        return PlanningObjects(
            class_names=tuple(class_names[label] for label in detections.labels.tolist()),
            scores=detections.scores.to(torch.float64).numpy(),
            center=boxes.center.numpy(),
            size=boxes.size.numpy(),
            yaw=boxes.yaw.numpy(),
            velocity=boxes.velocity.numpy(),
            covariance=None if known is None else known.state.to(torch.float64).numpy(),
            uncertainty=known,
        )

    @staticmethod
    def from_tracks(
        tracks: Tracks,  # in the world frame
        world_from_ego: Tensor,  # (4, 4)
        class_names: tuple[str, ...] = DETECTION_CLASSES,
        *,
        turn_rate: Floats | None = None,  # (M,) radians per second
        turn_rate_std: Floats | None = None,  # (M,)
    ) -> PlanningObjects:
        """Return the objects of a tracker, in their order.

        Raises:
            ValueError: a track is not finite, or its class is unknown.
        """
        ego_from_world = invert_se3(world_from_ego.to(torch.float64))
        boxes = tracks.detections().boxes.transformed(ego_from_world)
        both = torch.kron(torch.eye(2, dtype=torch.float64), ego_from_world[:2, :2])
        known = (
            None if tracks.uncertainty is None else tracks.uncertainty.transformed(ego_from_world)
        )
        state = (both @ tracks.covariance @ both.T) if known is None else known.state
        return PlanningObjects(
            class_names=tuple(class_names[label] for label in tracks.labels.tolist()),
            scores=tracks.scores.numpy(),
            center=boxes.center.numpy(),
            size=boxes.size.numpy(),
            yaw=boxes.yaw.numpy(),
            velocity=boxes.velocity.numpy(),
            covariance=state.numpy(),
            uncertainty=known,
            identity=tracks.identity.numpy(),
            last_seen_us=tracks.last_seen_us.numpy(),
            turn_rate=turn_rate,
            turn_rate_std=turn_rate_std,
        )


_SHAPES: dict[str, tuple[int, ...]] = {
    "scores": (),
    "center": (3,),
    "size": (3,),
    "yaw": (),
    "velocity": (2,),
    "covariance": (4, 4),
    "identity": (),
    "last_seen_us": (),
    "turn_rate": (),
    "turn_rate_std": (),
}


@dataclass(frozen=True, kw_only=True)
class PlanningFrame:
    """All that a planner is given of one frame.

    Raises:
        ValueError: the time is negative, the pose is no rigid motion, or the number of paths is not
            that of the objects.
    """

    timestamp_us: int  # of the reference camera, not of the export
    world_from_ego: Floats  # (4, 4)
    objects: PlanningObjects
    drive: str = ""  # scene token, or another name of the drive, within which identities hold
    sample_token: str = ""  # of a keyframe; "": none
    paths: PredictedPaths | None = None  # N paths, in the ego frame of this frame's time
    cues: tuple[TrafficCue, ...] = ()  # lights and signs
    ego_cues: tuple[EgoCue, ...] = ()  # advice, one a manoeuvre
    sectors: SectorTrust | None = None

    def __post_init__(self) -> None:
        if self.timestamp_us < 0:
            raise ValueError(f"timestamp_us must not be negative; got {self.timestamp_us}")
        check_rigid("world_from_ego", torch.from_numpy(self.world_from_ego))
        if self.paths is not None and len(self.paths.position) != len(self.objects):
            raise ValueError(
                f"paths must be one an object, {len(self.objects)}; got {len(self.paths.position)}"
            )

    @property
    def seconds(self) -> int:
        """Return the whole seconds of the time."""
        return self.timestamp_us // 1_000_000

    @property
    def nanoseconds(self) -> int:
        """Return the rest of the time beyond the whole seconds."""
        return self.timestamp_us % 1_000_000 * 1000

    def object_ids(self) -> tuple[uuid.UUID, ...]:
        """Return an identifier of each object, the same in every export.

        A track keeps its identifier in the whole drive; that of a detection holds for its frame.
        """
        return self._object_ids

    @cached_property
    def _object_ids(self) -> tuple[uuid.UUID, ...]:
        identity = self.objects.identity
        if identity is None:
            keys = [f"{self.drive}/{self.timestamp_us}/box {i}" for i in range(len(self.objects))]
        else:
            keys = [f"{self.drive}/track {number}" for number in identity.tolist()]
        return tuple(uuid.uuid5(_NAMESPACE, key) for key in keys)

    @cached_property
    def world_center(self) -> Floats:  # (N, 3)
        """Return the centres in the world frame."""
        turned: Floats = self.objects.center @ self.world_from_ego[:3, :3].T
        return turned + self.world_from_ego[:3, 3]

    @cached_property
    def world_yaw(self) -> Floats:  # (N,)
        """Return the headings in the world frame, seen from above."""
        cos, sin = np.cos(self.objects.yaw), np.sin(self.objects.yaw)
        heading = np.stack((cos, sin), -1) @ self._turn.T
        yaw: Floats = np.arctan2(heading[:, 1], heading[:, 0])
        return yaw

    @cached_property
    def world_velocity(self) -> Floats:  # (N, 2)
        """Return the velocities in the world frame, seen from above; NaN where unknown."""
        velocity: Floats = self.objects.velocity @ self._turn.T
        return velocity

    @cached_property
    def world_covariance(self) -> Floats | None:  # (N, 4, 4)
        """Return the covariances of x, y, vx and vy in the world frame; None: unknown."""
        if self.objects.covariance is None:
            return None
        both = np.kron(np.eye(2), self._turn)
        covariance: Floats = both @ self.objects.covariance @ both.T
        return covariance

    @property
    def _turn(self) -> Floats:  # (2, 2)
        return self.world_from_ego[:2, :2]


def check_one_drive(frames: Sequence[PlanningFrame]) -> None:
    """Check that frames follow one another in one drive.

    Raises:
        ValueError: they do not.
    """
    for earlier, later in itertools.pairwise(frames):
        if earlier.drive != later.drive:
            raise ValueError(
                f"frames must be of one drive; got {earlier.drive!r} and {later.drive!r}: export "
                "each drive to its own file"
            )
        if earlier.timestamp_us >= later.timestamp_us:
            raise ValueError(
                f"frames must be in order of time; got {later.timestamp_us} us after "
                f"{earlier.timestamp_us} us"
            )


def rotated_to_object(
    vectors: Floats,  # (N, 2)
    yaw: Floats,  # (N,)
) -> Floats:  # (N, 2)
    """Return vectors in the axes of objects: along the heading, and to its left."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    along = cos * vectors[:, 0] + sin * vectors[:, 1]
    left = -sin * vectors[:, 0] + cos * vectors[:, 1]
    return np.stack((along, left), -1)
