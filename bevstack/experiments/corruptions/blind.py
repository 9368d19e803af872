"""Detection in frames of which some have no usable camera."""

from __future__ import annotations

from dataclasses import replace

import torch

from bevstack.runtime.stream_protocol import (
    FrameDetector,
    Stream,
    StreamState,
    admit,
    ignore_health,
)
from bevstack.runtime.with_cues import without_cues
from bevstack.runtime.wrapped import WrappedDetector
from bevstack.tracking import Tracks
from bevstack.types import Boxes3D, Clip, Detections, Frame, Reset


class BlindFrameDetector(WrappedDetector):
    """Detector that finds no boxes in a frame without usable camera, instead of refusing it.

    Its streams leave such a frame out, as if it had not arrived.

    Args:
        detector: the detector of frames with a camera.
        health: True: streams judge their cameras, and mask those that are not usable.

    Raises:
        ValueError: ``health`` with a model that uses future frames, which has no streams.
    """

    def __init__(self, detector: FrameDetector, *, health: bool) -> None:
        super().__init__(detector)
        if health and detector.config.frames[-1] > 0:
            raise ValueError(
                "health must be off for a model that uses future frames, which has no streams; "
                f"got it on with frames {detector.config.frames}"
            )
        self.health = health

    @property
    def mode(self) -> str:
        """Return the inner mode, and the use of camera health."""
        return f"{super().mode}, health {'on' if self.health else 'off'}"

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in a clip's current frame; none if it has no camera.

        Raises:
            ValueError: the inner detector refuses the clip.
        """
        if not _sees(clip.current):
            return _nothing(self.class_names)
        frames = [frame if frame is None or _sees(frame) else None for frame in clip.frames]
        return super().predict_clip(replace(clip, frames=tuple(frames)))

    def stream(self) -> Stream:
        """Return a new stream of boxes, without cues."""
        inner = without_cues(self.detector.stream())
        return BlindFrameStream(inner if self.health else ignore_health(inner), self.class_names)


class BlindFrameStream:
    """Stream that leaves out frames without usable camera.

    Args:
        stream: of the frames with a camera.
        class_names: of its boxes.
    """

    def __init__(self, stream: Stream, class_names: tuple[str, ...]) -> None:
        self._stream = stream
        self._class_names = class_names
        self._blind = False

    @property
    def uses_history(self) -> bool:
        """Return True if earlier frames affect the result."""
        return self._stream.uses_history

    @property
    def reset(self) -> Reset:
        """Return the reason why the last step used no history; NONE if it was left out."""
        return Reset.NONE if self._blind else self._stream.reset

    @property
    def tracks(self) -> Tracks:
        """Return the inner stream's tracks."""
        return self._stream.tracks

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the last step."""
        return replace(self._stream.state, reset=self.reset)

    def step(self, frame: Frame) -> Detections:
        """Detect objects in the next frame; none if every camera is lost or judged unusable.

        Raises:
            ValueError: the inner stream refuses the frame for another reason.
        """
        self._blind = not _sees(frame) or not _sees(admit(self._stream, frame))
        return _nothing(self._class_names) if self._blind else self._stream.step(frame)


def _sees(frame: Frame) -> bool:
    assert frame.camera_mask is not None  # Frame sets it
    return bool(frame.camera_mask.any())


def _nothing(class_names: tuple[str, ...]) -> Detections:
    no_labels = torch.zeros(0, dtype=torch.int64)
    return Detections(Boxes3D.empty(), torch.zeros(0), no_labels, class_names)
