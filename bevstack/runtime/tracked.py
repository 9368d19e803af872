"""A detector whose streams track: what earlier frames saw mends what the newest one says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.geometry import invert_se3
from bevstack.runtime.detector import Detector
from bevstack.runtime.mirrored import MirroredStream
from bevstack.runtime.streaming import DetectorStream
from bevstack.tracking import TrackedScene, Tracks, update_tracks
from bevstack.types import Clip, Detections, Frame, Reset

_ANEW = (Reset.START, Reset.SCENE, Reset.TIME, Reset.JUMP)  # what was tracked is not here any more


class TrackedDetector(Detector):
    """A detector whose streams give tracks instead of each frame's own boxes.

    Places, velocities, sizes, headings and scores are those of ``bevstack.tracking``: an object
    seen in several frames is better known than in one, and one that is hidden for a moment stays.
    Calls without a stream have no earlier frames and are those of the detector itself.

    Args:
        detector: what finds boxes in a frame; a ``MirroredDetector`` too.
        tracking: noise, reach and forgetting.

    Raises:
        ValueError: the model looks ahead, so that it has no streams.

    Example:
        >>> stream = TrackedDetector(bevstack.load("tiny_cpu_t4")).stream()
        >>> detections = stream.step(frame)
        >>> identities = stream.tracks.identity[: len(detections)]
    """

    def __init__(self, detector: Detector, tracking: TrackingConfig | None = None) -> None:
        super().__init__(detector.model, detector.config)
        detector.stream()  # raises
        self.detector = detector
        self.tracking = tracking or TrackingConfig()

    @property
    def manner(self) -> str:
        """See ``Detector.manner``."""
        return f"{super().manner}({self.detector.manner}, {self.tracking})"

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """As that of the detector: frames without a history."""
        return self.detector.predict_batch(frames)

    def predict_clip(self, clip: Clip) -> Detections:
        """As that of the detector: a clip has no stream."""
        return self.detector.predict_clip(clip)

    def stream(self) -> TrackedStream:
        """A stream that tracks."""
        return TrackedStream(self)


class FrameTracker:
    """Tracks of the boxes that are found in one vehicle's frames, whatever finds them.

    Another scene and time that runs backwards end all tracks.

    Args:
        tracking: noise, reach and forgetting.
    """

    def __init__(self, tracking: TrackingConfig) -> None:
        self.tracking = tracking
        self._scene: TrackedScene | None = None
        self._scene_token = ""

    @property
    def tracks(self) -> Tracks:
        """All objects known after the last step, surest first, in the world frame."""
        return Tracks.empty() if self._scene is None else self._scene.tracks

    def step(self, frame: Frame, found: Detections, *, anew: bool = False) -> Detections:
        """The objects known after a frame, in the order of ``tracks``, in its bev frame.

        Args:
            frame: the next one.
            found: its boxes, in its bev frame.
            anew: whether earlier tracks are of no use here.

        Raises:
            ValueError: a frame without a pose.
        """
        world_from_bev = check_placed(frame)
        exact = Detections(found.boxes.to(torch.float64), found.scores, found.labels)
        assert frame.world_from_ego is not None  # check_placed
        self._scene = update_tracks(
            None if anew or self._is_elsewhere(frame) else self._scene,
            exact.transformed(world_from_bev),
            eye=frame.world_from_ego[:2, 3],
            timestamp_us=frame.timestamp_us,
            config=self.tracking,
        )
        self._scene_token = frame.scene_token
        known = self.tracks.detections().transformed(invert_se3(world_from_bev))
        boxes, scores = known.boxes.to(torch.float32), known.scores.to(torch.float32)
        return Detections(boxes, scores, known.labels)

    def _is_elsewhere(self, frame: Frame) -> bool:
        return self._scene is not None and (
            frame.scene_token != self._scene_token or frame.timestamp_us < self._scene.timestamp_us
        )


def check_placed(frame: Frame) -> Tensor:  # (4, 4) world_from_bev
    """The pose of a frame's bev frame.

    Raises:
        ValueError: there is none.
    """
    world_from_bev = frame.world_from_bev()
    if world_from_bev is None:
        raise ValueError(
            "world_from_ego must be given for every frame that is tracked; got none in frame "
            f"{frame.sample_token!r}"
        )
    return world_from_bev


class TrackedStream:
    """One vehicle's frames in order of time; ``TrackedDetector.stream`` makes it.

    Another scene, time that runs backwards, or a pose that jumps ends all tracks. Through a gap, or
    another rig, they go on.

    Args:
        detector: what looks at them, and how they are tracked.
    """

    def __init__(self, detector: TrackedDetector) -> None:
        self.detector = detector
        self._stream: DetectorStream | MirroredStream = detector.detector.stream()
        self._tracker = FrameTracker(detector.tracking)

    @property
    def remembers(self) -> bool:
        """Whether earlier frames have a say: always."""
        return True

    @property
    def reset(self) -> Reset:
        """Why the model used no history in the last step, or NONE."""
        return self._stream.reset

    @property
    def tracks(self) -> Tracks:
        """All objects known after the last step, surest first, in the world frame.

        The boxes that the step gave are the first of them.
        """
        return self._tracker.tracks

    def step(self, frame: Frame) -> Detections:
        """Boxes of the tracks in the next frame, as ``DetectorStream.step``.

        Raises:
            ValueError: a frame without a pose, or what ``DetectorStream.step`` refuses. The stream
                is then as it was before.
        """
        check_placed(frame)
        found = self._stream.step(frame)
        # A model without a memory says NONE whatever comes: the tracker looks at the frames itself.
        known = self._tracker.step(frame, found, anew=self.reset in _ANEW)
        return known[: self.detector.config.decoder.max_detections]
