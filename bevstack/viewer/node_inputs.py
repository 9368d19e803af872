"""Inputs of a running node as a viewer sees them: camera pictures and the vehicle's pose."""

from __future__ import annotations

import numpy as np
import torch

from bevstack.geometry.se3 import se3_from_parts
from bevstack.render.layers import as_array
from bevstack.runtime.node.calibration import Calibration, calibration_from_info
from bevstack.runtime.node.inputs import CameraInfo, FileImage, Image, Odometry, Transform
from bevstack.runtime.node.motion import Motion
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.pixels import decode
from bevstack.runtime.node.transforms import PoseGap
from bevstack.viewer.camera_files import JPEG, encode_jpeg, media_type
from bevstack.viewer.moment import CameraView, Floats

_KEPT_IMAGES = 30  # a camera; a model may take seconds


class NodeInputs:
    """Latest images, calibrations and poses on a node's topics.

    Args:
        parameters: of the node: its cameras, topics and frames.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._motion = Motion(parameters)
        self._images: dict[str, dict[int, Image]] = {name: {} for name in parameters.cameras}
        self._calibrations: dict[str, Calibration] = {}
        self.faults: dict[str, str] = {}  # reason by camera

    def add_image(self, camera: str, image: Image, now_us: int) -> None:
        """Keep an image."""
        kept = self._images[camera]
        if kept and image.timestamp_us < max(kept) - 1_000_000:
            kept.clear()  # another drive
        kept[image.timestamp_us] = image
        while len(kept) > _KEPT_IMAGES:
            del kept[min(kept)]

    def add_info(self, camera: str, info: CameraInfo, now_us: int) -> None:
        """Keep a calibration; an impossible one is a fault of its camera."""
        known = self._calibrations.get(camera)
        if known is not None and known.is_of(info):
            return
        try:
            rectified = bool(self._parameters["images_rectified"])
            self._calibrations[camera] = calibration_from_info(info, rectified=rectified)
        except ValueError as error:
            self.faults[camera] = str(error)

    def add_odometry(self, message: Odometry) -> None:
        """Keep the vehicle's pose."""
        self._motion.add_odometry(message)

    def add_transform(self, message: Transform) -> None:
        """Keep a transform."""
        self._motion.add_transform(message)

    def pose(self, timestamp_us: int) -> Floats | None:  # (4, 4) world_from_ego
        """Return the vehicle's pose at a time; None if it is unknown."""
        pose = self._motion.at(timestamp_us)
        return None if isinstance(pose, PoseGap) else as_array(pose)

    def views(self, timestamp_us: int, world_from_ego: Floats | None) -> tuple[CameraView, ...]:
        """Return the cameras at the time of a result; those without a calibration are left out.

        A compressed image keeps its bytes if its lens has no distortion.
        """
        found = (self._view(name, timestamp_us, world_from_ego) for name in self._images)
        return tuple(view for view in found if view is not None)

    def _view(
        self, name: str, timestamp_us: int, world_from_ego: Floats | None
    ) -> CameraView | None:
        calibration = self._calibrations.get(name)
        if calibration is None:
            return None
        place = self._motion.ego_from_optical(calibration.info.frame_id)
        if place is None:
            return None
        turn = se3_from_parts(
            calibration.camera_from_optical.T.contiguous(), torch.zeros(3, dtype=torch.float64)
        )
        ego_from_cam = as_array(place @ turn)
        image = self._nearest(name, timestamp_us)
        encoded, missing = None, "no picture at this time"
        if image is not None:
            at_camera = self.pose(image.timestamp_us)
            if at_camera is not None and world_from_ego is not None:
                ego_from_cam = np.linalg.inv(world_from_ego) @ at_camera @ ego_from_cam
            try:
                encoded = _encoded(image, calibration)
            except ValueError as error:
                missing = str(error)
        height, width = calibration.size
        return CameraView(
            name=name,
            size_px=(width, height),
            intrinsics=as_array(calibration.intrinsics),
            ego_from_cam=ego_from_cam,
            encoded=encoded,
            media_type=JPEG if encoded is None else media_type(encoded),
            missing="" if encoded is not None else missing,
        )

    def _nearest(self, name: str, timestamp_us: int) -> Image | None:
        """Return the image of a window: the nearest one to its time, if it is near enough."""
        limit_us = self._parameters.microseconds("max_camera_time_diff_ms")
        kept = self._images[name]
        stamp = min(kept, key=lambda time_us: abs(time_us - timestamp_us), default=None)
        if stamp is None or abs(stamp - timestamp_us) > limit_us:
            return None
        return kept[stamp]


def _encoded(image: Image, calibration: Calibration) -> bytes:
    if isinstance(image, FileImage) and calibration.undistorter is None:
        return image.data
    return encode_jpeg(calibration.rectify(decode(image)))
