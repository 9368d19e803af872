"""Detector that runs an exported model in another runtime, with the same images, rigs and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.collate import PreparedClip, prepare_clip, stack_clips, with_lost_cameras
from bevstack.export.onnx.arrays import (
    camera_arrays,
    counts_from,
    detections_from_arrays,
    memory_from,
    stream_arrays,
)
from bevstack.export.onnx.graph import RESETS
from bevstack.export.runtimes import Session
from bevstack.geometry import invert_se3, nominal_bev_from_ego
from bevstack.runtime.detector import place_in_bev
from bevstack.runtime.stream_protocol import Stream, step_each
from bevstack.runtime.streaming import DetectorStream, check_has_camera
from bevstack.types import Batch, BEVMemory, Clip, Detections, Frame
from bevstack.uncertainty.sector_watch import SectorWatch


@dataclass(frozen=True)
class ExportedOutput:
    """Memory and resets of a step, as ``DetectorStream`` takes them."""

    memory: BEVMemory | None
    resets: Tensor | None  # (B,) int64, codes of Reset; None for a model of single frames


class ExportedDetector:
    """Detector in a file of ``bevstack export --onnx``; a ``FrameDetector`` like ours.

    A file of single frames has no history, also if its weights are those of a model of several
    frames. Its boxes have no uncertainty, and there is no trust in sectors.

    Args:
        session: the loaded file, of one sample.

    Raises:
        ValueError: the file is one of several samples.

    Example:
        >>> detector = ExportedDetector(open_session(Path("model.onnx")))
        >>> stream = detector.stream()
        >>> detections = stream.step(frame)
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.further: dict[str, object] = {}  # no further task is exported
        if session.info.batch != 1:
            raise ValueError(
                f"model must be exported for one sample; got {session.info.batch}: export it again"
            )

    def __repr__(self) -> str:
        """Return the name, the kind of model and the backend."""
        kind = "stream" if self.session.info.stream else "single frames"
        return f"ExportedDetector({self.config.name}: {kind}, {self.session.backend})"

    @property
    def config(self) -> Config:
        """Return the configuration of the exported model."""
        return self.session.info.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the class names; ``Detections.labels`` index them."""
        return self.config.class_names

    @property
    def device(self) -> torch.device:
        """Return the device of inputs and outputs."""
        return torch.device("cpu")

    @property
    def max_cameras(self) -> int:
        """Return the largest number of cameras of a frame."""
        return self.session.info.cameras

    @property
    def mode(self) -> str:
        """Return the inference mode: the backend and the kind of model."""
        return repr(self)

    def fingerprint(self) -> str:
        """Return the digest of the exported weights and their configuration."""
        return self.session.info.weights

    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame; boxes come best first, in its bev frame.

        Raises:
            ValueError: every camera is lost, or the frame does not fit the model.
        """
        return self.predict_batch([frame])[0]

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames one after the other, each without history.

        Raises:
            ValueError: ``frames`` is empty, or a frame has no working camera or does not fit.
        """
        if not frames:
            raise ValueError("frames must hold at least one; got none")
        found = []
        for index, frame in enumerate(frames):
            check_has_camera(f"frames[{index}]", frame)
            found += self.run(stack_clips([self.prepare(frame)]), [frame])[0]
        return found

    def predict_clip(self, clip: Clip) -> Detections:
        """Refuse clips, which no exported model takes.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"an exported model takes frames and streams; got a clip of {len(clip.frames)} frames: "
            "use the weights"
        )

    def stream(self) -> Stream:
        """Return a new stream for one vehicle's frames in order of time."""
        return DetectorStream(self)

    def sector_watch(self) -> SectorWatch | None:
        """Return None: an exported model has no calibration of sectors."""
        return None

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams, one after the other.

        Raises:
            ValueError: the number of frames differs, or a stream refuses its frame.
        """
        return step_each(streams, frames)

    def prepare(self, frame: Frame) -> PreparedClip:
        """Prepare a single frame as model input, with lost cameras in place of missing ones."""
        placed = place_in_bev(frame, self.config)
        prepared = prepare_clip(Clip((placed,), (0,)), self.config)
        # The memory has the cameras of the graph: another number would drop it.
        return with_lost_cameras(prepared, max(self.session.info.cameras, frame.num_cameras))

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], ExportedOutput]:
        """Run the model; return the boxes of each sample, and memory and resets.

        Raises:
            ValueError: the batch does not fit the model, or has more visible cells or candidates
                than its bounds.
        """
        info, shapes = self.session.info, self.session.shapes
        arrays = camera_arrays(batch, info)
        if info.stream:
            arrays |= stream_arrays(batch, memory, shapes)
        outputs = self.session.run(arrays)
        counts = counts_from(outputs)
        if not info.bounds.holds(counts):
            raise ValueError(
                f"counts of a frame must not exceed the bounds of the model, {info.bounds}; got "
                f"{counts}: export it with frames of this rig (--nuscenes)"
            )
        detections = [
            boxes
            if frame.bev_from_ego is not None
            else boxes.transformed(invert_se3(nominal_bev_from_ego(self.config.grid.frame)))
            for boxes, frame in zip(
                detections_from_arrays(outputs, self.class_names), frames, strict=True
            )
        ]
        if not info.stream:
            return detections, ExportedOutput(None, None)
        resets = torch.from_numpy(outputs[RESETS])
        return detections, ExportedOutput(memory_from(outputs, shapes, info), resets)
