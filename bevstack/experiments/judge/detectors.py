"""One model used in other ways: without history, or its perspective head alone."""

from __future__ import annotations

import torch

from bevstack.config import ProposalConfig
from bevstack.datasets.collate import stack_clips
from bevstack.evaluation.baselines.lifting import ClassPriors, ImageBoxes, lift_boxes
from bevstack.geometry import CameraRig, invert_se3
from bevstack.models.perspective.camera_views import PerspectiveViews, run_perspective_head
from bevstack.models.perspective.decode import detect
from bevstack.models.perspective.proposals import find_proposals
from bevstack.runtime.detector import Detector
from bevstack.types import Boxes3D, Clip, Detections, Frame


class FrameByFrame(Detector):
    """A detector that takes every frame for the first of a stream.

    Args:
        detector: whose model it is.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector.model, detector.config)

    def predict_clip(self, clip: Clip) -> Detections:
        """Boxes of the current frame, without the others."""
        return self.predict(clip.current)

    def stream(self) -> ForgetfulStream:
        """A stream that remembers nothing."""
        return ForgetfulStream(self)


class ForgetfulStream:
    """Frames one after the other, each as if it were alone.

    Args:
        detector: what looks at them.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def step(self, frame: Frame) -> Detections:
        """Boxes of the next frame."""
        return self._detector.predict(frame)


class PerspectiveAlone(FrameByFrame):
    """The perspective head's boxes of all cameras, joined as they are for the decoder.

    Args:
        detector: whose perspective head it is.

    Raises:
        ValueError: the model has none.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector)
        if detector.config.perspective is None:
            raise ValueError(f"model must have a perspective head; got {detector.config.name}")
        self._perspective = detector.config.perspective

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Detections:
        """Boxes of one frame in its bev frame, best first."""
        views, rig = self._look(frame)
        found = find_proposals(
            views,
            rig,
            grid=self.config.grid,
            perspective=self._perspective,
            config=self.config.proposals or ProposalConfig(),
        )
        valid, boxes = found.valid[0], found.boxes
        rows = (boxes.center, boxes.size, boxes.yaw, boxes.velocity)
        chosen = Boxes3D(*(part[0][valid] for part in rows))
        joined = Detections(chosen, found.scores[0][valid], found.labels[0][valid]).to("cpu")
        if frame.bev_from_ego is None:
            return joined.transformed(invert_se3(self._place(frame).bev_from_ego))
        return joined

    def _look(self, frame: Frame) -> tuple[PerspectiveViews, CameraRig]:
        """What the head says of the working cameras, and the rig (1, N) in the bev frame."""
        batch = stack_clips([self.prepare(frame)]).to(self.device)
        images, rig = self.model.current_frame(batch, None)
        views = run_perspective_head(
            self.model.perspective_head,
            self.model.extract_pyramid(images),
            rig,
            wanted=rig.camera_mask,
            padded_width=int(images.shape[-1]),
        )
        return views, rig


class LiftedPerspective(PerspectiveAlone):
    """The rectangles, classes and scores of the perspective head, stood on the ground.

    Args:
        detector: whose perspective head it is.
        priors: of the detection classes.
        contact_at_near_edge: see ``lift_boxes``.
    """

    def __init__(
        self, detector: Detector, *, priors: ClassPriors, contact_at_near_edge: bool = False
    ) -> None:
        super().__init__(detector)
        self._priors = priors.select_classes(detector.class_names)
        self._behind_edge = contact_at_near_edge

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Detections:
        """Boxes of one frame in its bev frame, best first."""
        bev_from_ego = self._place(frame).bev_from_ego
        views, rig = self._look(frame)
        seen = detect(views.output, views.intrinsics, self._perspective)
        camera = views.image[:, None].expand_as(seen.labels)
        found = ImageBoxes(
            boxes_px=seen.boxes_px[seen.valid].cpu(),
            labels=seen.labels[seen.valid].cpu(),
            cameras=camera[seen.valid].cpu(),
            scores=seen.image_scores[seen.valid].cpu(),
        )
        lifted = lift_boxes(
            found,
            self._priors,
            intrinsics=rig.intrinsics[0].cpu(),
            ego_from_cam=invert_se3(bev_from_ego) @ rig.bev_from_cam[0].cpu(),
            contact_at_near_edge=self._behind_edge,
        )
        given = frame.bev_from_ego
        return lifted if given is None else lifted.transformed(given)
