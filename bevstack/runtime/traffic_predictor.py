"""Prediction of traffic lights and signs in single frames."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from bevstack.config import Config, config_from_json, config_to_json
from bevstack.datasets.traffic_view.front_view import (
    FrontCamera,
    choose_front_cameras,
    path_of_motion,
)
from bevstack.datasets.traffic_view.samples import prepare_sample, stack_samples
from bevstack.geometry import invert_se3
from bevstack.models.build_traffic import mapless_section, traffic_model_with
from bevstack.models.traffic.decode import decode
from bevstack.models.traffic.model import TrafficModel
from bevstack.types import Frame
from bevstack.types.traffic_detections import TrafficDetections


class TrafficPredictor:
    """A traffic model that predicts the lights and signs of frames.

    It keeps no state: streams may share it.

    Args:
        model: the model, in evaluation mode.
        config: its configuration.
    """

    def __init__(self, model: TrafficModel, config: Config) -> None:
        self.model = model
        self.config = config
        self.section = mapless_section(config)

    @staticmethod
    def load(
        weights: Mapping[str, Tensor], config_json: str, device: torch.device
    ) -> TrafficPredictor:
        """Build a predictor from a weights file's tensors and configuration.

        Raises:
            ValueError: the configuration has no traffic section, or wants a BEV map.
        """
        config = config_from_json(config_json)
        return TrafficPredictor(traffic_model_with(weights, config, device), config)

    def predict(self, frame: Frame, previous: Frame | None = None) -> TrafficDetections:
        """Detect lights and signs in the frame's front cameras, best first; none if all are lost.

        Args:
            frame: whole images.
            previous: an earlier frame of the same drive, whose pose gives the own motion; its
                images are not used. None: relevance is judged without the own motion.
        """
        cameras = front_cameras(frame, self.section.num_cameras)
        if not cameras:
            return TrafficDetections.empty()
        sample = prepare_sample(
            cameras,
            self.section,
            self.config.images,
            token=frame.sample_token,
            ego_motion=ego_motion(frame, previous),
        )
        device = next(self.model.parameters()).device
        views = stack_samples([sample]).views.to(device)
        with torch.no_grad():
            output = self.model(views)
        return decode(output, views, self.section, self.model.calibration)[0]

    def camera_indices(self, frame: Frame) -> list[int]:
        """Return the cameras of the frame that ``predict`` looks at, lost ones included."""
        names = frame.camera_names or ("",) * frame.num_cameras
        return choose_front_cameras(names, frame.ego_from_cam, self.section.num_cameras)

    def fingerprint(self) -> str:
        """Return a digest of the weights and the configuration."""
        digest = hashlib.sha256(config_to_json(self.config).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def front_cameras(frame: Frame, count: int) -> list[FrontCamera]:
    """Return the front cameras of a frame that work, in the ego frame at its reference time."""
    pose = frame.ego_from_cam
    moved = pose
    if frame.world_from_ego_at_camera is not None and frame.world_from_ego is not None:
        moved = invert_se3(frame.world_from_ego) @ frame.world_from_ego_at_camera @ pose
    assert frame.camera_mask is not None  # Frame sets it
    names = frame.camera_names or ("",) * frame.num_cameras
    found = []
    for camera in choose_front_cameras(names, pose, count):
        image = frame.images[camera]
        if image is not None and bool(frame.camera_mask[camera]):
            found.append(
                FrontCamera(image, frame.intrinsics[camera], moved[camera], camera, names[camera])
            )
    return found


def ego_motion(frame: Frame, previous: Frame | None) -> Tensor:  # (3,)
    """Return speed, curvature and 1 from the poses of two frames; zeros if they are unknown."""
    if previous is None or previous.world_from_ego is None or frame.world_from_ego is None:
        return torch.zeros(3)
    elapsed_s = (frame.timestamp_us - previous.timestamp_us) * 1e-6
    return path_of_motion(invert_se3(previous.world_from_ego), frame.world_from_ego, elapsed_s)
