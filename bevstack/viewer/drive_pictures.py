"""Camera pictures of a drive with your own cameras, as the bytes of their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bevstack.file_bytes import read_bytes
from bevstack.render.layers import as_array
from bevstack.runtime.frame_plans import FramePlan
from bevstack.runtime.frame_source import FrameSource
from bevstack.types import Frame
from bevstack.viewer.camera_files import JPEG, MAX_BYTES, encode_jpeg, media_type
from bevstack.viewer.moment import CameraView, Floats


class DrivePictures:
    """Pictures of the frames of a source, which are asked for in the source's order.

    Args:
        source: the frames.
        interval_s: of ``FrameSource.frames``.
    """

    def __init__(self, source: FrameSource, interval_s: float | None) -> None:
        self._source = source
        self._plans: Iterator[FramePlan] = iter(source.files.plans(interval_s, None))
        self._listed = {frame.timestamp_us: frame for frame in source.files.listed}

    def views(self, frame: Frame) -> tuple[CameraView, ...]:
        """Return the cameras of the next frame.

        A picture keeps the bytes of its file. That of a video, or of a lens with distortion, is
        encoded again, as it is after undistortion. A missing one leaves its camera without a
        picture, with the file's name.

        Raises:
            OSError: a file is gone.
        """
        plan = next(plan for plan in self._plans if plan.timestamp_us == frame.timestamp_us)
        ego_from_cam = as_array(frame.bev_from_cam())
        if frame.bev_from_ego is not None:
            ego_from_cam = np.linalg.inv(as_array(frame.bev_from_ego)) @ ego_from_cam
        return tuple(
            self._view(frame, plan, index, ego_from_cam) for index in range(frame.num_cameras)
        )

    def _view(self, frame: Frame, plan: FramePlan, index: int, ego_from_cam: Floats) -> CameraView:
        camera = self._source.rig.cameras[index]
        picture, image = plan.pictures.get(camera.name), frame.images[index]
        height, width = camera.image_size
        encoded, missing = None, ""
        if image is None:
            missing = self._name(camera.name, plan)
        elif camera.lens is None and picture is not None and isinstance(picture.source, Path):
            encoded = read_bytes(picture.source, "image", max_bytes=MAX_BYTES)
        else:
            encoded = encode_jpeg(image)
        return CameraView(
            name=camera.name,
            size_px=(width, height),
            intrinsics=as_array(frame.intrinsics[index]),
            ego_from_cam=ego_from_cam[index],
            encoded=encoded,
            media_type=JPEG if encoded is None else media_type(encoded),
            missing=missing,
        )

    def _name(self, camera: str, plan: FramePlan) -> str:
        """Return the name of a missing picture, or a reason for none."""
        if camera not in self._source.files.cameras:
            return "camera is lost"
        picture = plan.pictures.get(camera)
        if picture is not None:
            number = picture.source
            return number.name if isinstance(number, Path) else f"picture {number} of the video"
        listed = self._listed.get(plan.timestamp_us)
        image = None if listed is None or listed.cameras is None else listed.cameras.get(camera)
        return "no picture at this time" if image is None else Path(image.image).name
