"""Detector: a model with its configuration, from images to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config import Config, config_to_json
from bevstack.datasets.collate import PreparedClip, prepare_clip, stack_clips
from bevstack.datasets.loader import collate
from bevstack.geometry import invert_se3, nominal_bev_from_ego
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import DETECTION3D, build_model, build_with_weights
from bevstack.models.detection3d.box_code import DecoderOutput, detections_from
from bevstack.models.skeleton import skeleton
from bevstack.models.weights import tensors_digest
from bevstack.runtime.bounded import BoundedModel
from bevstack.runtime.precision import FLOAT32, cast_weights, choose_precision, computing_in
from bevstack.runtime.stream_protocol import NO_HEALTH, Stream
from bevstack.runtime.streaming import DetectorStream, check_has_camera, step_together
from bevstack.runtime.with_cues import add_cues, step_with_cues, without_cues
from bevstack.types import Batch, BEVMemory, Clip, Detections, Frame
from bevstack.types.sectors import SectorTrust
from bevstack.uncertainty import BoxCalibration
from bevstack.uncertainty.sector_watch import SectorWatch
from bevstack.uncertainty.sectors import SectorModel


class Detector:
    """Detector of objects in frames; ``bevstack.load`` returns one.

    Example:
        >>> detector = bevstack.load("model.safetensors")
        >>> frame = bevstack.Frame(images=images, intrinsics=K, ego_from_cam=poses)
        >>> detections = detector.predict(frame)
        >>> detections.boxes.center, detections.scores, detections.labels
        >>> detections.save("boxes.json")
    """

    def __init__(
        self,
        model: BEVFormerV2,
        config: Config,
        *,
        further: Mapping[str, object] | None = None,
        calibration: BoxCalibration | None = None,
        sector_model: SectorModel | None = None,
        precision: str = FLOAT32,
    ) -> None:
        self.model = model.eval()
        self.precision = choose_precision(precision, self.device)
        cast_weights(self.model, self.precision)
        self.config = config
        self.further: Mapping[str, object] = further or {}  # predictors of further tasks, by task
        self.calibration = calibration  # of the boxes' uncertainty; None: boxes have none
        self.sector_model = sector_model  # of the trust in sectors; None: there is none
        self._bounded = BoundedModel(self.model)

    def __repr__(self) -> str:
        """Return name, classes, frames, size of images, parameters and device on one line."""
        config = self.config
        frames = f"{len(config.frames)} frame{'s' if len(config.frames) > 1 else ''}"
        height, width = config.images.size
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"Detector({config.name}: {len(config.class_names)} classes, {frames}, images "
            f"{height}x{width}, {parameters:,} parameters, {self.device})"
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks that this object offers, 3D detection first."""
        return (DETECTION3D, *self.further)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the class names; ``Detections.labels`` index them."""
        return self.config.class_names

    @property
    def classes(self) -> tuple[str, ...]:
        """Return ``class_names``."""
        return self.class_names

    @property
    def device(self) -> torch.device:
        """Return the device that holds the model's weights."""
        return next(self.model.parameters()).device

    @property
    def mode(self) -> str:
        """Return the inference mode; detectors of different modes give different results."""
        return "Detector" if self.precision == FLOAT32 else f"Detector({self.precision})"

    def fingerprint(self) -> str:
        """Return a digest of the weights and the configuration."""
        return tensors_digest(self.model.state_dict(), config_to_json(self.config))

    def predict(self, frame: Frame) -> Detections:
        """Detect objects in one frame; boxes come best first.

        Boxes are in the frame's bev frame, or in the ego frame if ``bev_from_ego`` is not given.
        The frame may have any number of cameras, of different sizes, and lost ones. It needs no
        pose and no time. A model of several frames treats it as the first frame of a stream.

        Raises:
            ValueError: every camera is lost.
        """
        return self.predict_batch([frame])[0]

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect objects in several frames at once; each may have another rig, none has a history.

        Annotations of the frames are not used.

        Raises:
            ValueError: ``frames`` is empty, or a frame has no working camera.
        """
        for index, frame in enumerate(frames):
            check_has_camera(f"frames[{index}]", frame)
        batch = stack_clips([self.prepare(frame) for frame in frames])
        return self.run(batch, frames)[0]

    def predict_clip(self, clip: Clip) -> Detections:
        """Detect objects in a clip's current frame, with its past and (offline) future frames.

        Raises:
            ValueError: the clip's offsets are not those of the configuration, a frame has no pose,
                or the current frame has no working camera.
        """
        if clip.offsets != self.config.frames:
            raise ValueError(f"offsets must be {self.config.frames}; got {clip.offsets}")
        check_has_camera("the current frame", clip.current)
        frames = tuple(
            frame if frame is None else self.place_in_bev(frame) for frame in clip.frames
        )
        batch = collate([Clip(frames, clip.offsets)], self.config)
        return self.run(batch, [clip.current])[0][0]

    def stream(self) -> Stream:
        """Return a new stream for one vehicle's frames in order of time; it keeps their history.

        With the task "traffic" its ``state`` holds cues of lights and signs, too.

        Raises:
            ValueError: the model uses future frames.
        """
        return add_cues(DetectorStream(self), self)

    def sector_watch(self) -> SectorWatch | None:
        """Return a new judge of the sectors; None: the weights have no calibration of them."""
        return None if self.sector_model is None else SectorWatch(self.sector_model)

    def sector_trust(self, frame: Frame) -> SectorTrust | None:
        """Return the trust in the sectors around a frame's vehicle, in its ego frame.

        It is that of the first frame of a stream whose cameras are all judged OK or lost. None: the
        weights have no calibration of sectors.
        """
        watch = self.sector_watch()
        return None if watch is None else watch.look(frame, NO_HEALTH)

    def step_together(self, streams: Sequence[Stream], frames: Sequence[Frame]) -> list[Detections]:
        """Run one step of several streams; on a GPU, those with images of one size run at once.

        Raises:
            ValueError: a stream is of another detector or is given twice, the number of frames
                differs, or a stream refuses its frame. All streams are then unchanged.
        """
        inner = [without_cues(stream) for stream in streams]
        own = [s for s in inner if isinstance(s, DetectorStream) and s.detector is self]
        if len(own) != len(streams):
            raise ValueError(
                f"streams must be of this detector; got {len(streams) - len(own)} of another one"
            )
        return step_with_cues(streams, frames, lambda: step_together(own, frames))

    def prepare(self, frame: Frame) -> PreparedClip:
        """Prepare a single frame as model input."""
        return prepare_clip(Clip((self.place_in_bev(frame),), (0,)), self.config)

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], BEVFormerOutput]:
        """Run the model on a batch; return the boxes of each sample and the model's output.

        Boxes are in the bev frame of ``frames``, as for ``predict``.

        Args:
            batch: prepared frames or clips, on any device.
            frames: the current frame of each sample.
            memory: the history of each sample's stream; None if streams start here.
        """
        with torch.inference_mode(), computing_in(self.precision, self.device):
            # Bounds save waiting for a GPU. On a CPU exact sizes are less work.
            forward = self.model if self.device.type == "cpu" else self._bounded
            output = forward(batch.to(self.device), memory)
            in_grid = [boxes.to("cpu") for boxes in self._detections(output.decoder)]
        detections = [
            boxes
            if frame.bev_from_ego is not None
            else boxes.transformed(invert_se3(nominal_bev_from_ego(self.config.grid.frame)))
            for boxes, frame in zip(in_grid, frames, strict=True)
        ]
        if self.calibration is not None:
            detections = [
                self.calibration.calibrated(boxes, _ego_position(frame))
                for boxes, frame in zip(detections, frames, strict=True)
            ]
        return detections, output

    def _detections(self, output: DecoderOutput) -> list[Detections]:
        decoder = self.config.decoder
        found = detections_from(
            output,
            max_detections=decoder.max_detections,
            post_range_m=decoder.post_range_m,
            nms_iou=decoder.nms_iou,
        )
        return [replace(detections, class_names=self.class_names) for detections in found]

    def place_in_bev(self, frame: Frame) -> Frame:
        """Return the frame with ``bev_from_ego`` set and without annotations."""
        return place_in_bev(frame, self.config)


def place_in_bev(frame: Frame, config: Config) -> Frame:
    """Return the frame with ``bev_from_ego`` set and without annotations."""
    bev_from_ego = frame.bev_from_ego
    if bev_from_ego is None:
        bev_from_ego = nominal_bev_from_ego(config.grid.frame)
    return replace(frame, bev_from_ego=bev_from_ego, annotations=None)


def _ego_position(frame: Frame) -> Tensor:  # (2,) metres, in the bev frame of the boxes
    if frame.bev_from_ego is None:
        return torch.zeros(2, dtype=torch.float64)
    return frame.bev_from_ego[:2, 3].to("cpu", torch.float64)


def build(
    config: Config, device: str | torch.device = "cpu", *, precision: str = FLOAT32
) -> Detector:
    """Build a detector with random weights, drawn from the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = build_model(config)
    return Detector(model.to(device), config, precision=precision)


def with_config(detector: Detector, config: Config) -> Detector:
    """Return a detector of the same weights with another configuration, e.g. other thresholds.

    It has no calibrations, which hold for the weights' own configuration alone.

    Raises:
        ValueError: the configuration's model has other tensors than the detector's.
    """
    weights = detector.model.state_dict()
    with skeleton():
        wanted = build_model(config).state_dict()
    shapes, needed = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (weights, wanted)
    )
    differing = [n for n in (*shapes, *needed) if shapes.get(n) != needed.get(n)]
    if differing:
        name = differing[0]
        raise ValueError(
            "a changed configuration must keep the shapes of the weights; got "
            f"{needed.get(name, 'none')} instead of {shapes.get(name, 'none')} for {name}: change "
            "only fields of inference, or train with the changed configuration"
        )
    model = build_with_weights(weights, config, detector.device)
    return Detector(model, config, further=detector.further, precision=detector.precision)
