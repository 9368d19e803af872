"""One step of the node: a window's images become a frame, and the frame boxes, tracks and cues."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config import Config
from bevstack.config.tracking import TrackingConfig
from bevstack.geometry.se3 import se3_from_parts
from bevstack.runtime.node.calibration import Calibration
from bevstack.runtime.node.cameras import CameraInput, InputState
from bevstack.runtime.node.inputs import Image
from bevstack.runtime.node.motion import Motion
from bevstack.runtime.node.pixels import decode
from bevstack.runtime.node.transforms import PoseGap
from bevstack.runtime.node.windows import Window
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState, sector_trust
from bevstack.runtime.tracked import RESTARTS, FrameTracker, calibration_of_tracks
from bevstack.runtime.with_cues import CuedStream, find_cue_source
from bevstack.tracking import Tracks
from bevstack.types import Detections, Frame
from bevstack.types.health import CameraState


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of a window."""

    timestamp_us: int  # of the reference camera
    drive: str  # within which identities hold
    frame: Frame
    detections: Detections  # in the ego frame, best first
    tracks: Tracks | None  # None: nothing is tracked in this frame
    state: StreamState
    pose_gap: str  # reason why the frame has no pose; "": it has one
    warnings: tuple[str, ...]  # of the model's input, such as an implausible rig
    times_ms: Mapping[str, float]  # images, model, tracking, total, and cycle after the first


@dataclass(frozen=True, kw_only=True)
class GatheredCamera:
    """A camera of a window: its message, and all that turns it into a pinhole image."""

    name: str
    message: Image | None  # None: it has none in this window
    calibration: Calibration  # of the image as it is decoded
    reduction: int  # the image is decoded at this fraction of its size
    ego_from_cam: Tensor  # (4, 4)
    stamp_us: int  # of the message; without one, that of the window


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All that a step needs, taken from the node at one moment."""

    timestamp_us: int  # of the reference camera
    drive: str
    cameras: tuple[GatheredCamera, ...]
    world_from_ego: Tensor | None  # (4, 4)
    world_from_ego_at_camera: Tensor | None  # (N, 4, 4)
    pose_gap: str  # reason why there is no pose; "": there is one


@dataclass(frozen=True)
class Assembled:
    """Frame of a window; None if no camera works. And the images that decoding refused."""

    frame: Frame | None
    refused: Mapping[str, str]  # reason by camera


def config_of_images(detector: FrameDetector, transport: str) -> Config | None:
    """Return the configuration that compressed images are decoded for; None: at full size.

    ``bevstack predict`` decodes the files of a data set in the same way. Lights need full size.
    """
    return detector.config if transport == "compressed" and not find_cue_source(detector) else None


def gather(
    window: Window,
    cameras: Mapping[str, CameraInput],
    motion: Motion,
    *,
    time_us: int,
    drive: str,
    now_us: int,
) -> Gathered:
    """Take the messages of a window with calibrations and poses.

    A camera without calibration or place on the vehicle is left out, and the reason recorded.
    """
    found = []
    for name, camera in cameras.items():
        stamp_us = window.stamps_us.get(name)
        message = camera.take(stamp_us)
        place = _place(camera, motion, has_image=stamp_us is not None, now_us=now_us)
        if camera.decoded is not None and place is not None:
            found.append(
                GatheredCamera(
                    name=name,
                    message=message,
                    calibration=camera.decoded,
                    reduction=camera.reduction,
                    ego_from_cam=place,
                    stamp_us=time_us if stamp_us is None else stamp_us,
                )
            )
    pose, poses_at, gap = _poses(motion, time_us, [camera.stamp_us for camera in found])
    return Gathered(
        timestamp_us=time_us,
        drive=drive,
        cameras=tuple(found),
        world_from_ego=pose,
        world_from_ego_at_camera=poses_at,
        pose_gap=gap,
    )


def assemble(gathered: Gathered) -> Assembled:
    """Decode and rectify the images, and return them as a frame.

    A camera whose image is missing or damaged is part of the frame, as a lost one.

    Raises:
        ValueError: the frame is refused as a whole.
    """
    images: list[NDArray[np.uint8] | None] = []
    refused = {}
    for camera in gathered.cameras:
        image = None
        if camera.message is not None:
            try:
                image = camera.calibration.rectify(
                    decode(camera.message, reduction=camera.reduction)
                )
            except ValueError as error:
                refused[camera.name] = str(error)
        images.append(image)
    if all(image is None for image in images):
        return Assembled(None, refused)
    frame = Frame(
        images=images,
        intrinsics=torch.stack([camera.calibration.intrinsics for camera in gathered.cameras]),
        ego_from_cam=torch.stack([camera.ego_from_cam for camera in gathered.cameras]),
        camera_names=tuple(camera.name for camera in gathered.cameras),
        timestamp_us=gathered.timestamp_us,
        camera_timestamp_us=tuple(camera.stamp_us for camera in gathered.cameras),
        world_from_ego=gathered.world_from_ego,
        world_from_ego_at_camera=gathered.world_from_ego_at_camera,
        sample_token=str(gathered.timestamp_us),
        scene_token=gathered.drive,
        rejected_cameras=tuple(refused),
    )
    return Assembled(frame, refused)


def _place(
    camera: CameraInput, motion: Motion, *, has_image: bool, now_us: int
) -> Tensor | None:  # (4, 4) ego_from_cam
    """Return a camera's place on the vehicle; record why it is unknown if it has an image."""
    calibration = camera.calibration
    if calibration is None:
        if has_image:
            camera.fault(
                InputState.WAITING_CAMERA_INFO,
                f"no camera_info on {camera.info_topic} yet: let the camera's driver publish it",
                now_us,
            )
        return None
    frame_id = calibration.info.frame_id
    place = motion.ego_from_optical(frame_id)
    if place is None:
        if has_image:
            camera.fault(
                InputState.NO_TRANSFORM,
                f"no transform from {frame_id!r} to {motion.base_frame}: publish it on /tf_static",
                now_us,
            )
        return None
    rotation = calibration.camera_from_optical.T
    return place @ se3_from_parts(rotation.contiguous(), torch.zeros(3, dtype=torch.float64))


def _poses(
    motion: Motion, time_us: int, stamps_us: list[int]
) -> tuple[Tensor | None, Tensor | None, str]:
    """Return the pose at the reference time, those at the cameras' times, and why there is none."""
    pose = motion.at(time_us)
    if isinstance(pose, PoseGap):
        return None, None, pose.reason
    if not stamps_us:
        return pose, None, ""
    found = [motion.at(stamp_us) for stamp_us in stamps_us]
    known = [pose if isinstance(other, PoseGap) else other for other in found]
    return pose, torch.stack(known), ""


class Stepper:
    """Stream, tracker and cues of one vehicle.

    Args:
        detector: the detector, with cues or without.
        track: track the boxes.
        clock: seconds, for the times of the stages.
    """

    def __init__(
        self,
        detector: FrameDetector,
        *,
        track: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.detector = detector
        self.clock = clock
        self._track = track
        self._stream: Stream = detector.stream()
        self._tracker = self._new_tracker()
        self._last_started: float | None = None

    @property
    def health(self) -> Mapping[str, CameraState]:
        """Return the state of each camera in the last frame, also if it was refused."""
        return self._stream.state.health

    def restart(self) -> None:
        """Forget history, tracks and cues."""
        self._stream = self.detector.stream()
        self._tracker = self._new_tracker()

    def _new_tracker(self) -> FrameTracker:
        tracking = TrackingConfig()
        calibration = calibration_of_tracks(self.detector, tracking)
        return FrameTracker(tracking, calibration=calibration)

    def step(self, frame: Frame, gathered: Gathered, started: float) -> StepResult:
        """Detect and track the objects of a frame, and update its cues.

        Raises:
            ValueError: the detector refuses the frame. History and tracks are then unchanged.
        """
        ready = self.clock()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detections = self._detect(frame)
        predicted = self.clock()
        state = self._stream.state
        if not self._uses_stream(frame):
            state = replace(state, sectors=sector_trust(self.detector, frame))
        tracks: Tracks | None = None
        if self._track and frame.world_from_ego is not None:
            self._tracker.step(frame, detections, restart=self._stream.reset in RESTARTS)
            tracks = self._tracker.tracks
        finished = self.clock()
        last, self._last_started = self._last_started, started
        return StepResult(
            timestamp_us=frame.timestamp_us,
            drive=gathered.drive,
            frame=frame,
            detections=detections,
            tracks=tracks,
            state=state,
            pose_gap=gathered.pose_gap,
            warnings=tuple(dict.fromkeys(str(warning.message) for warning in caught)),
            times_ms={
                "images": 1e3 * (ready - started),
                "model": 1e3 * (predicted - ready),
                "tracking": 1e3 * (finished - predicted),
                "total": 1e3 * (finished - started),
                **({} if last is None else {"cycle": 1e3 * (started - last)}),
            },
        )

    def _uses_stream(self, frame: Frame) -> bool:
        return frame.world_from_ego is not None or not self._stream.uses_history

    def _detect(self, frame: Frame) -> Detections:
        """Run the stream; a frame without a pose that the model's history needs runs alone."""
        if self._uses_stream(frame):
            return self._stream.step(frame)
        if isinstance(self._stream, CuedStream):
            self._stream.look(frame)
        return self.detector.predict(frame)
