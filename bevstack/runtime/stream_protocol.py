"""Interface of the streams that detectors return."""

from __future__ import annotations

from typing import Protocol

from bevstack.types import Detections, Frame, Reset


class Stream(Protocol):
    """Stream of one vehicle's frames in order of time."""

    @property
    def uses_history(self) -> bool:
        """Return True if earlier frames affect the result."""
        ...

    @property
    def reset(self) -> Reset:
        """Return the reason why the last step used no history, or ``Reset.NONE``."""
        ...

    def step(self, frame: Frame) -> Detections:
        """Detect objects in the next frame; boxes are in its bev frame, best first.

        Raises:
            ValueError: the stream cannot use the frame. The stream is then unchanged.
        """
        ...
