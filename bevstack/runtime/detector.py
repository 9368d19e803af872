"""A model with its configuration: images in, boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bevstack.config import Config
from bevstack.datasets.collate import PreparedClip, prepare_clip, stack_clips
from bevstack.datasets.loader import collate
from bevstack.geometry import invert_se3, nominal_bev_from_ego
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import build_model, load_model
from bevstack.models.detection3d.box_code import DecoderOutput, detections_from
from bevstack.runtime.shipped import weights_path
from bevstack.runtime.streaming import DetectorStream
from bevstack.types import Batch, BEVMemory, Clip, Detections, Frame


class Detector:
    """What ``bevstack.load`` gives: call ``predict`` with a frame.

    Example:
        >>> detector = bevstack.load("model.safetensors")
        >>> frame = bevstack.Frame(images=images, intrinsics=K, ego_from_cam=poses)
        >>> detections = detector.predict(frame)
        >>> detections.boxes.center, detections.scores, detections.labels
    """

    def __init__(self, model: BEVFormerV2, config: Config) -> None:
        self.model = model.eval()
        self.config = config

    @property
    def class_names(self) -> tuple[str, ...]:
        """What ``Detections.labels`` index."""
        return self.config.class_names

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device

    @property
    def manner(self) -> str:
        """How frames are looked at; results of two manners differ."""
        return type(self).__qualname__

    def predict(self, frame: Frame) -> Detections:
        """Boxes of one frame, best first, in its bev frame: the ego frame unless the frame says.

        Any number of cameras, of different sizes, some possibly lost; no pose and no time needed.
        A model of several frames takes it for the first of a stream: there is no history.

        Raises:
            ValueError: every camera is lost.
        """
        return self.predict_batch([frame])[0]

    def predict_batch(self, frames: Sequence[Frame]) -> list[Detections]:
        """Boxes of several frames at once, each with a rig of its own and none with a history.

        The frames' annotations are not looked at.

        Raises:
            ValueError: no frame, or a frame without a working camera.
        """
        for index, frame in enumerate(frames):
            _check_sees(f"frames[{index}]", frame)
        batch = stack_clips([self.prepare(frame) for frame in frames])
        return self.run(batch, frames)[0]

    def predict_clip(self, clip: Clip) -> Detections:
        """Boxes of a clip's current frame, with the frames about it: those ahead too, offline.

        Raises:
            ValueError: a clip of other offsets than the configuration's, a frame without a pose,
                or a current frame without a working camera.
        """
        if clip.offsets != self.config.frames:
            raise ValueError(f"offsets must be {self.config.frames}; got {clip.offsets}")
        _check_sees("the current frame", clip.current)
        placed = tuple(frame if frame is None else self._place(frame) for frame in clip.frames)
        batch = collate([Clip(placed, clip.offsets)], self.config)
        return self.run(batch, [clip.current])[0][0]

    def stream(self) -> DetectorStream:
        """Something to give one vehicle's frames to, in order of time; it remembers them.

        Raises:
            ValueError: the configuration looks ahead.
        """
        return DetectorStream(self)

    def prepare(self, frame: Frame) -> PreparedClip:
        """A frame alone as model input."""
        return prepare_clip(Clip((self._place(frame),), (0,)), self.config)

    def run(
        self, batch: Batch, frames: Sequence[Frame], memory: BEVMemory | None = None
    ) -> tuple[list[Detections], BEVFormerOutput]:
        """Boxes of each sample of a batch, in the frames it was made of; and what the model gave.

        Args:
            batch: prepared frames or clips, on any device.
            frames: the current frame of each sample.
            memory: of each sample's stream, where streams go on.
        """
        with torch.inference_mode():
            output = self.model(batch.to(self.device), memory)
            detections = [found.to("cpu") for found in self._detections(output.decoder)]
        placed = [
            found
            if frame.bev_from_ego is not None
            else found.transformed(invert_se3(nominal_bev_from_ego(self.config.grid.frame)))
            for found, frame in zip(detections, frames, strict=True)
        ]
        return placed, output

    def _detections(self, output: DecoderOutput) -> list[Detections]:
        decoder = self.config.decoder
        return detections_from(
            output,
            max_detections=decoder.max_detections,
            post_range_m=decoder.post_range_m,
            nms_iou=decoder.nms_iou,
        )

    def _place(self, frame: Frame) -> Frame:
        """The frame without its annotations, in the frame the model's grid lies in."""
        bev_from_ego = frame.bev_from_ego
        if bev_from_ego is None:
            bev_from_ego = nominal_bev_from_ego(self.config.grid.frame)
        return replace(frame, bev_from_ego=bev_from_ego, annotations=None)


def _check_sees(name: str, frame: Frame) -> None:
    assert frame.camera_mask is not None  # Frame sets it
    if not bool(frame.camera_mask.any()):
        raise ValueError(f"{name} must have a working camera; all are lost")


def load(
    weights: str | Path,
    device: str | torch.device = "cpu",
    *,
    expected: Config | None = None,
) -> Detector:
    """A detector from a weights file, which holds its configuration.

    Args:
        weights: safetensors file, as training writes it; or the name of weights that come with
            bevstack, such as "tiny_cpu_t4".
        device: where the model goes.
        expected: refuse weights of another configuration.

    Raises:
        FileNotFoundError: no such file or name; lists the names.
        ValueError: a corrupt or pickled file, weights that do not fit their configuration, or a
            configuration that is not the expected one (names the first differing fields).
    """
    model, config = load_model(weights_path(weights), expected=expected)
    return Detector(model.to(device), config)


def build(config: Config, device: str | torch.device = "cpu") -> Detector:
    """A detector with random weights, drawn from the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = build_model(config)
    return Detector(model.to(device), config)
