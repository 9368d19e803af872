"""Motion of the vehicle for the node: from odometry, from transforms, or none."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.runtime.node.inputs import Odometry, Transform
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.transforms import PoseBuffer, PoseGap, StaticTree, pose_from_parts

STANDING = "none"
_AHEAD_US, _BEHIND_US = 500_000, 10_000_000  # of a pose's stamp, from the node's time


class Motion:
    """Poses of ``base_frame`` in ``odom_frame``, and frames fixed to the vehicle.

    Args:
        parameters: names of the frames and the source of the poses.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.source: str = parameters["ego_motion"]
        self.base_frame: str = parameters["base_frame"]
        self.odom_frame: str = parameters["odom_frame"]
        self.fixed = StaticTree()
        self.poses = PoseBuffer(
            max_extrapolation_s=1e-6 * parameters.microseconds("max_extrapolation_ms")
        )
        self.now_us: int | None = None  # the node's time; None: it has not started
        self.last_error = ""
        self.errors = self.gaps = self.static_changes = 0

    def clear(self) -> None:
        """Forget the poses, at the start of another drive; fixed frames stay."""
        self.poses.clear()

    def add_odometry(self, message: Odometry) -> None:
        """Take a pose from odometry; a wrong one is counted, and its reason kept."""
        if self.source != "odometry":
            return
        try:
            self._check_frames(message.parent, message.child)
            pose = pose_from_parts("odometry", message.translation_m, message.rotation_wxyz)
            self._add("odometry", message.timestamp_us, pose)
        except ValueError as error:
            self._count(error)

    def add_transform(self, message: Transform) -> None:
        """Take a transform; a wrong one is counted, and its reason kept."""
        child, parent = message.child.lstrip("/"), message.parent.lstrip("/")
        what = f"transform {parent} to {child}"
        try:
            pose = pose_from_parts(what, message.translation_m, message.rotation_wxyz)
            if parent != self.odom_frame and child != self.odom_frame:
                # Some drivers repeat fixed transforms on /tf: the newest one counts.
                self.static_changes += self.fixed.set(parent, child, pose)
            elif self.source == "tf" and parent == self.odom_frame:
                child_from_base = self.fixed.lookup(child, self.base_frame)
                if child_from_base is not None:
                    self._add(what, message.timestamp_us, pose @ child_from_base)
        except ValueError as error:
            self._count(error)

    def at(self, timestamp_us: int) -> Tensor | PoseGap:  # (4, 4) world_from_ego
        """Return the vehicle's pose at a time, or a reason for none."""
        if self.source == STANDING:
            return torch.eye(4, dtype=torch.float64)
        return self.poses.at(timestamp_us)

    @property
    def waits_for_first_pose(self) -> bool:
        """Return True while the vehicle moves and no pose has come."""
        return self.source != STANDING and not len(self.poses)

    @property
    def poses_until_us(self) -> int | None:
        """Return the time of the newest pose; None if no pose is to be waited for."""
        if self.source == STANDING or not len(self.poses):
            return None
        return self.poses.last_us

    def ego_from_optical(self, frame_id: str) -> Tensor | None:  # (4, 4)
        """Return the place of a camera's frame on the vehicle; None if it is not known."""
        return self.fixed.lookup(self.base_frame, frame_id.lstrip("/"))

    def _add(self, what: str, timestamp_us: int, world_from_ego: Tensor) -> None:
        """Keep a pose; one of another time would push all good ones out."""
        ahead_us = 0 if self.now_us is None else timestamp_us - self.now_us
        if not -_BEHIND_US <= ahead_us <= _AHEAD_US:
            raise ValueError(
                f"stamp of {what} must be near the node's time; got {ahead_us / 1e6:+.1f} s: "
                "synchronise the clocks, or set use_sim_time and play bags with --clock"
            )
        self.poses.add(timestamp_us, world_from_ego)

    def _check_frames(self, parent: str, child: str) -> None:
        if (parent.lstrip("/"), child.lstrip("/")) != (self.odom_frame, self.base_frame):
            raise ValueError(
                f"odometry must give {self.base_frame} in {self.odom_frame}; got {child!r} in "
                f"{parent!r}: set the parameters base_frame and odom_frame"
            )

    def _count(self, error: ValueError) -> None:
        self.errors += 1
        self.last_error = str(error)
