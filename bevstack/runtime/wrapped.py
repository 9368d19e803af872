"""Detectors that hold another detector and change a part of its results."""

from __future__ import annotations

from collections.abc import Sequence

from bevstack.config import Config
from bevstack.runtime.stream_protocol import FrameDetector, Stream, step_each
from bevstack.types import Clip, Detections, Frame


class WrappedDetector:
    """Detector that returns the results of another one; a subclass overrides what it changes.

    A subclass has at least its own ``stream``.

    Args:
        detector: the inner detector.
    """

    def __init__(self, detector: FrameDetector) -> None:
        self.detector = detector

    def __repr__(self) -> str:
        """Return the inner detector in brackets."""
        return f"{type(self).__name__}({self.detector!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return ``class_names``."""
        return self.class_names

    @property
    def config(self) -> Config:
        """Return the inner detector's configuration."""
        return self.detector.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the class names; ``Detections.labels`` index them."""
        return self.detector.class_names

    @property
    def mode(self) -> str:
        """Return the inference mode: the name of the class, with the inner detector's mode."""
        return f"{type(self).__name__}({self.detector.mode})"

    def fingerprint(self) -> str:
        """Return the inner detector's digest."""
        return self.detector.fingerprint()

    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame, without history.

        Raises:
            ValueError: the inner detector refuses the frame.
        """
        return self.detector.predict(frame)

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames, each without history.

        Raises:
            ValueError: the inner detector refuses the frames.
        """
        return self.detector.predict_batch(frames)

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in a clip's current frame.

        Raises:
            ValueError: the inner detector refuses the clip.
        """
        return self.detector.predict_clip(clip)

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams, one after the other.

        Raises:
            ValueError: the number of frames differs, or a stream refuses its frame.
        """
        return step_each(streams, frames)
