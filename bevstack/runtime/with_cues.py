"""Cues from traffic lights and signs beside the boxes of any detector's streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bevstack.config.cues import CueConfig
from bevstack.runtime.frame_cuer import TRAFFIC, CueSource, ElementPredictor, FrameCuer
from bevstack.runtime.stream_protocol import (
    FrameDetector,
    Stream,
    StreamState,
    admit,
    ignore_health,
)
from bevstack.runtime.wrapped import WrappedDetector
from bevstack.tracking import Tracks
from bevstack.types import Detections, Frame, Reset
from bevstack.types.cues import FrameCues
from bevstack.types.health import CameraState
from bevstack.types.sectors import SectorTrust
from bevstack.types.traffic_map import TrafficMap


class CuedStream:
    """Stream that gives boxes and cues; ``add_cues`` makes it of any stream of boxes.

    Args:
        boxes: the stream of boxes.
        cuer: the cues of the same vehicle.
    """

    def __init__(self, boxes: Stream, cuer: FrameCuer) -> None:
        self.boxes = boxes
        self.cuer = cuer

    @property
    def uses_history(self) -> bool:
        """Return True if earlier frames affect the boxes; cues use them if there are poses."""
        return self.boxes.uses_history

    @property
    def reset(self) -> Reset:
        """Return the reason why the boxes of the last step used no history, or ``Reset.NONE``."""
        return self.boxes.reset

    @property
    def tracks(self) -> Tracks:
        """Return the tracks of the boxes."""
        return self.boxes.tracks

    @property
    def state(self) -> StreamState:
        """Return all that the stream knows after the last step."""
        return self.cuer.state(self.boxes.state)

    @property
    def health(self) -> Mapping[str, CameraState]:
        """Return the state of each camera in the last frame, also if it was refused."""
        return self.boxes.state.health

    @property
    def sectors(self) -> SectorTrust | None:
        """Return the trust in the sectors around the vehicle; None: it is not known."""
        return self.state.sectors

    def admit(self, frame: Frame) -> Frame:
        """Judge the cameras of the next frame; return it with unusable cameras masked."""
        return admit(self.boxes, frame)

    def ignore_health(self) -> None:
        """Judge no camera from now on."""
        ignore_health(self.boxes)

    def step(self, frame: Frame) -> Detections:
        """Detect objects, lights and signs in the next frame; return the boxes of objects.

        Raises:
            ValueError: the stream of boxes or the predictor refuses the frame. Both are then
                unchanged.
        """
        return step_with_cues([self], [frame], lambda: [self.boxes.step(frame)])[0]

    def look(self, frame: Frame) -> FrameCues:
        """Update the cues alone, with images that came between two steps; boxes stay.

        Front cameras often run faster than the whole rig. The frame has all cameras of the rig,
        those without a new image as lost ones.

        Raises:
            ValueError: the predictor cannot use the frame. The cues are then unchanged.
        """
        return self.cuer.step(frame)


class CueDetector(WrappedDetector):
    """Detector of boxes whose streams give cues from traffic lights and signs, too.

    ``bevstack.load`` of weights with both tasks needs no such step. This class joins the detector
    of one file and the predictor of another one, or changes the parameters of the cues. Calls
    without a stream return boxes alone.

    Args:
        detector: the detector of the boxes; tracked, mirrored and recorded ones work too.
        predictor: the predictor of lights and signs.
        config: tracking of elements, states, relevance and advice.
        traffic_map: lights and lanes in the world frame, optional.

    Example:
        >>> traffic = load_tasks("lights.safetensors")["traffic"]
        >>> stream = CueDetector(bevstack.load("tiny_cpu_t4"), traffic).stream()
        >>> boxes = stream.step(frame)
        >>> stream.state.ego_cues[0].advice, stream.state.ego_cues[0].reason
    """

    def __init__(
        self,
        detector: FrameDetector,
        predictor: ElementPredictor,
        *,
        config: CueConfig | None = None,
        traffic_map: TrafficMap | None = None,
    ) -> None:
        super().__init__(detector)
        self.cue_source = CueSource(
            predictor=predictor, config=config or CueConfig(), traffic_map=traffic_map
        )

    @property
    def mode(self) -> str:
        """Return the inference mode of the boxes, which cues do not change."""
        return self.detector.mode

    def stream(self) -> Stream:
        """Return a new stream, whose ``state`` holds cues after each step.

        Raises:
            ValueError: the model of the boxes uses future frames.
        """
        return add_cues(without_cues(self.detector.stream()), self)

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams; boxes as the inner detector computes them together.

        Raises:
            ValueError: the number of frames differs, or a stream refuses its frame.
        """
        inner = [without_cues(stream) for stream in streams]
        return step_with_cues(streams, frames, lambda: self.detector.step_together(inner, frames))


def find_cue_source(detector: FrameDetector) -> CueSource | None:
    """Return the source of a detector's cues, however it is wrapped; None if it gives none."""
    inner: object = detector
    while inner is not None:
        source = getattr(inner, "cue_source", None)
        if isinstance(source, CueSource):
            return source
        predictor = getattr(inner, "further", {}).get(TRAFFIC)
        if isinstance(predictor, ElementPredictor):
            return CueSource(predictor=predictor)
        inner = getattr(inner, "detector", None)
    return None


def add_cues(stream: Stream, detector: FrameDetector) -> Stream:
    """Return a stream that also gives the cues of a detector, if it gives any."""
    source = find_cue_source(detector)
    return stream if source is None else CuedStream(stream, source.new_cuer())


def without_cues(stream: Stream) -> Stream:
    """Return the stream of the boxes alone."""
    return stream.boxes if isinstance(stream, CuedStream) else stream


def step_with_cues(
    streams: Sequence[Stream],
    frames: Sequence[Frame],
    step_boxes: Callable[[], list[Detections]],
) -> list[Detections]:
    """Run one step of several streams; if a frame is refused, no stream advances.

    Args:
        streams: streams with cues, or without.
        frames: one frame a stream.
        step_boxes: runs the step of the streams' boxes, and refuses what does not fit.

    Raises:
        ValueError: a predictor or ``step_boxes`` refuses a frame.
    """
    cued = []
    for stream, given in zip(streams, frames, strict=False):  # ``step_boxes`` checks the number
        if isinstance(stream, CuedStream):
            frame = stream.admit(given)
            cued.append((stream.cuer, frame, stream.cuer.detect(frame)))
    detections = step_boxes()
    for cuer, frame, elements in cued:
        cuer.step(frame, elements)
    return detections
