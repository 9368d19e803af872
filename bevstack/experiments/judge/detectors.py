"""Variants of one model: without history, or its perspective head alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.config import ProposalConfig
from bevstack.datasets.collate import stack_clips
from bevstack.evaluation.baselines.lifting import ClassPriors, ImageBoxes, lift_boxes
from bevstack.geometry import CameraRig, invert_se3
from bevstack.models.perspective.camera_views import PerspectiveViews, run_perspective_head
from bevstack.models.perspective.decode import detect
from bevstack.models.perspective.proposals import find_proposals
from bevstack.runtime.detector import Detector
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState
from bevstack.runtime.wrapped import WrappedDetector
from bevstack.tracking import Tracks
from bevstack.types import Boxes3D, Clip, Detections, Frame, Reset


class FrameByFrame(WrappedDetector):
    """A detector that treats every frame as the first of a stream (``FrameDetector``).

    Args:
        detector: the detector of the boxes in each frame.
    """

    detector: Detector

    @property
    def mode(self) -> str:
        """Return the inference mode: the name of the class."""
        return type(self).__name__

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames."""
        return [self.predict(frame) for frame in frames]

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in the current frame, without the remaining frames of the clip."""
        return self.predict(clip.current)

    def stream(self) -> Stream:
        """Return a stream that keeps no history."""
        return MemorylessStream(self)


class MemorylessStream:
    """A stream that predicts every frame independently.

    Args:
        detector: the detector that predicts the frames.
    """

    def __init__(self, detector: FrameDetector) -> None:
        self._detector = detector
        self.uses_history = False
        self.reset = Reset.NONE  # there is no history to drop
        self.tracks = Tracks.empty()
        self.state = StreamState(reset=self.reset)

    def step(self, frame: Frame) -> Detections:
        """Detect objects in the next frame."""
        return self._detector.predict(frame)


class PerspectiveAlone(FrameByFrame):
    """The 3D boxes of the perspective head, merged over all cameras as they are for the decoder.

    Args:
        detector: the detector whose perspective head is used.

    Raises:
        ValueError: the model has no perspective head.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector)
        if detector.config.perspective is None:
            raise ValueError(f"model must have a perspective head; got {detector.config.name}")
        assert detector.model.perspective_head is not None  # the configuration has one
        self._perspective = detector.config.perspective
        self._perspective_head = detector.model.perspective_head

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame, in its bev frame; boxes come best first."""
        views, rig = self._run_perspective_head(frame)
        proposals = find_proposals(
            views,
            rig,
            grid=self.config.grid,
            perspective=self._perspective,
            config=self.config.proposals or ProposalConfig(),
        )
        valid, boxes = proposals.valid[0], proposals.boxes
        fields = (boxes.center, boxes.size, boxes.yaw, boxes.velocity)
        boxes_3d = Boxes3D(*(field[0][valid] for field in fields))
        scores, labels = proposals.scores[0][valid], proposals.labels[0][valid]
        detections = Detections(boxes_3d, scores, labels).to("cpu")
        if frame.bev_from_ego is None:
            return detections.transformed(invert_se3(self._bev_from_ego(frame)))
        return detections

    def _bev_from_ego(self, frame: Frame) -> Tensor:
        """Return the pose of the ego frame in the frame's bev frame."""
        bev_from_ego = self.detector.place_in_bev(frame).bev_from_ego
        assert bev_from_ego is not None  # place_in_bev sets it
        return bev_from_ego

    def _run_perspective_head(self, frame: Frame) -> tuple[PerspectiveViews, CameraRig]:
        """Return the perspective head's output for the working cameras, and the rig (1, N).

        The rig is in the bev frame.
        """
        batch = stack_clips([self.detector.prepare(frame)]).to(self.detector.device)
        images, rig = self.detector.model.current_frame(batch, None)
        views = run_perspective_head(
            self._perspective_head,
            self.detector.model.extract_pyramid(images),
            rig,
            wanted=rig.camera_mask,
            padded_width=int(images.shape[-1]),
        )
        return views, rig


class LiftedPerspective(PerspectiveAlone):
    """The 2D boxes, classes and scores of the perspective head, lifted to the ground plane.

    Args:
        detector: the detector whose perspective head is used.
        priors: size and heading of the detection classes.
        contact_at_near_edge: see ``lift_boxes``.
    """

    def __init__(
        self, detector: Detector, *, priors: ClassPriors, contact_at_near_edge: bool = False
    ) -> None:
        super().__init__(detector)
        self._priors = priors.select_classes(detector.class_names)
        self._contact_at_near_edge = contact_at_near_edge

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame, in its bev frame; boxes come best first."""
        bev_from_ego = self._bev_from_ego(frame)
        views, rig = self._run_perspective_head(frame)
        decoded = detect(views.output, views.intrinsics, self._perspective)
        camera = views.image[:, None].expand_as(decoded.labels)
        image_boxes = ImageBoxes(
            boxes_px=decoded.boxes_px[decoded.valid].cpu(),
            labels=decoded.labels[decoded.valid].cpu(),
            cameras=camera[decoded.valid].cpu(),
            scores=decoded.image_scores[decoded.valid].cpu(),
        )
        lifted = lift_boxes(
            image_boxes,
            self._priors,
            intrinsics=rig.intrinsics[0].cpu(),
            ego_from_cam=invert_se3(bev_from_ego) @ rig.bev_from_cam[0].cpu(),
            contact_at_near_edge=self._contact_at_near_edge,
        )
        return lifted if frame.bev_from_ego is None else lifted.transformed(frame.bev_from_ego)
