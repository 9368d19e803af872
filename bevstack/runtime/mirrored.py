"""Looking at every frame twice, as it is and in a mirror: test-time augmentation.

What a network says of a mirrored scene is not quite the mirror image of what it says of the scene,
and where the two differ their mean is nearer the truth than either. It takes twice the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.datasets.augmentation.mirror import mirror_boxes, mirror_clip, mirror_frame
from bevstack.runtime.detector import Detector
from bevstack.runtime.streaming import DetectorStream, step_together
from bevstack.types import Boxes3D, Clip, Detections, Frame, Reset
from bevstack.types.boxes import blend_yaw

# Chosen on 200 samples of the synthetic validation split, where NDS changes by 0.002 at most with
# a reach of 1 to 2 m + 0.1 to 0.2 of the distance, or a weight of 0.6 to 0.8.
REACH_M, REACH_PER_M = 1.0, 0.1  # as far as two boxes of one object lie apart
ALONE = 0.7  # what a score is worth if only one of the two views has the box


class MirroredDetector(Detector):
    """A detector that joins what it finds in a frame and in its mirror image.

    For models trained with ``augmentation.mirror_scene``, or otherwise as good in a mirror. What it
    says of a mirrored frame is the mirror image of what it says of the frame.

    Args:
        detector: whose model it is.

    Raises:
        ValueError: the model's grid does not lie in the ego frame, whose x axis is the axis of
            symmetry.

    Example:
        >>> detector = MirroredDetector(bevstack.load("tiny_cpu_t4"))
        >>> detections = detector.predict(frame)
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector.model, detector.config)
        frame = detector.config.grid.frame
        if frame != "ego":
            raise ValueError(
                f"grid.frame must be 'ego' where frames are looked at in a mirror; got {frame!r}"
            )

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """As ``Detector.predict_batch``, of twice as many frames.

        Raises:
            ValueError: no frame, a frame without a working camera, or one whose bev frame is not
                its own mirror image.
        """
        both = [*frames, *(mirror_frame(frame) for frame in frames)]
        found = super().predict_batch(both)
        count = len(frames)
        return [self.join(*pair) for pair in zip(found[:count], found[count:], strict=True)]

    def predict_clip(self, clip: Clip) -> Detections:
        """As ``Detector.predict_clip``, twice."""
        return self.join(super().predict_clip(clip), super().predict_clip(mirror_clip(clip)))

    def stream(self) -> MirroredStream:
        """A stream that remembers both views."""
        return MirroredStream(self)

    def join(self, found: Detections, in_mirror: Detections) -> Detections:
        """Boxes of both views as one set: those of the second still as the mirror shows them."""
        back = Detections(mirror_boxes(in_mirror.boxes), in_mirror.scores, in_mirror.labels)
        return join_views(found, back)[: self.config.decoder.max_detections]


class MirroredStream:
    """One vehicle's frames in order of time; ``MirroredDetector.stream`` makes it.

    Args:
        detector: what looks at them.
    """

    def __init__(self, detector: MirroredDetector) -> None:
        self.detector = detector
        self._views = (DetectorStream(detector), DetectorStream(detector))

    @property
    def remembers(self) -> bool:
        """Whether the model looks back at all."""
        return self._views[0].remembers

    @property
    def reset(self) -> Reset:
        """Why the last step used no history, or NONE."""
        return self._views[0].reset

    def step(self, frame: Frame) -> Detections:
        """Boxes of the next frame, as ``DetectorStream.step``."""
        return self.detector.join(*step_together(self._views, (frame, mirror_frame(frame))))


def join_views(first: Detections, second: Detections) -> Detections:
    """Two sets of boxes of one frame as one, best first; the order of the two does not matter.

    Boxes of one class of which each is the other's nearest, and not farther than the reach, are one
    object: their mean, weighted by score, with the mean of their scores. Headings that differ by
    more than a right angle have no mean: the better box has its way. A box that has no partner
    stays, with a smaller score.

    Args:
        first: boxes in a frame whose origin is where distances are measured from.
        second: in the same frame.
    """
    pairs = _partners(first, second)
    joined = _mean(first[pairs[:, 0]], second[pairs[:, 1]])
    parts = [joined]
    for found, taken in ((first, pairs[:, 0]), (second, pairs[:, 1])):
        alone = torch.ones(len(found), dtype=torch.bool)
        alone[taken] = False
        left = found[alone]
        parts.append(Detections(left.boxes, left.scores * ALONE, left.labels))
    together = Detections(
        Boxes3D.concatenate([part.boxes for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.labels for part in parts]),
    )
    return together[together.scores.argsort(descending=True, stable=True)]


def _partners(first: Detections, second: Detections) -> Tensor:  # (P, 2) indices
    if not len(first) or not len(second):
        return torch.zeros(0, 2, dtype=torch.int64)
    places, others = first.boxes.center[:, :2].double(), second.boxes.center[:, :2].double()
    away = places.norm(dim=-1)[:, None] + others.norm(dim=-1)
    apart = torch.linalg.vector_norm(places[:, None] - others, dim=-1)
    one_object = first.labels[:, None] == second.labels
    one_object &= apart <= REACH_M + REACH_PER_M * away / 2
    apart = apart.masked_fill(~one_object, torch.inf)
    nearest = torch.zeros_like(one_object).scatter_(1, apart.argmin(1, keepdim=True), True)
    nearest_back = torch.zeros_like(one_object).scatter_(0, apart.argmin(0, keepdim=True), True)
    return (nearest & nearest_back & one_object).nonzero()


def _mean(first: Detections, second: Detections) -> Detections:
    """Boxes that belong together, one by one."""
    total = first.scores + second.scores
    share = torch.where(total > 0, second.scores / total, 0.5)
    boxes, others = first.boxes, second.boxes
    mean = Boxes3D(
        torch.lerp(boxes.center, others.center, share[:, None]),
        torch.lerp(boxes.size, others.size, share[:, None]),
        blend_yaw(boxes.yaw, others.yaw, share, share > 0.5),
        torch.lerp(boxes.velocity, others.velocity, share[:, None]),
    )
    return Detections(mean, total / 2, first.labels)
