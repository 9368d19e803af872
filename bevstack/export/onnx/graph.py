"""The detector as a function of plain tensors, from pixels to boxes, with fixed shapes.

Letters: B batch, N cameras, H W image, D detections, S slots of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config import Config
from bevstack.geometry import CameraRig, constant
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.detection3d.box_code import NMS_CANDIDATES, DecoderOutput, decode
from bevstack.models.layers.nms import suppress_in_bev
from bevstack.models.layers.ranking import best_first
from bevstack.models.layers.sizes import Bounds, Sizes
from bevstack.types import Batch, BEVMemory

CAMERA_INPUTS = (
    "images",
    "intrinsics",
    "bev_from_cam",
    "image_size",
    "camera_mask",
    "camera_slots",
)
STREAM_INPUTS = ("world_from_bev", "timestamp_us", "sequence_id")
BOX_OUTPUTS = ("center", "size", "yaw", "velocity", "scores", "labels", "valid", "counts")
RESETS = "resets"
MEMORY = "memory_"  # prefix of a memory's inputs
NEXT = "next_"  # prefix of an input's name in the output for the next step


class GraphBoxes(NamedTuple):
    """Boxes of a batch in the grid's bev frame, best first; rows that are not valid are last."""

    center: Tensor  # (B, D, 3) metres
    size: Tensor  # (B, D, 3) metres
    yaw: Tensor  # (B, D) radians
    velocity: Tensor  # (B, D, 2) metres a second
    scores: Tensor  # (B, D)
    labels: Tensor  # (B, D) int64
    valid: Tensor  # (B, D) bool


@dataclass(frozen=True)
class MemoryLayout:
    """Shape of a stream's memory, which plain tensors do not carry."""

    levels: int  # feature tensors
    with_rig: bool  # the memory holds the rig of each frame (temporal.alignment "reproject")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the memory's tensors in their order, without prefix."""
        features = tuple(f"features_{level}" for level in range(self.levels))
        poses = ("valid", "world_from_bev", "timestamp_us")
        rig = ("intrinsics", "bev_from_cam", "image_size", "camera_mask", "camera_slots")
        return (*features, *poses, *(rig if self.with_rig else ()), "sequence_id")

    def memory(
        self,
        tensors: tuple[Tensor, ...],  # in the order of ``names``
        *,
        fingerprint: int,
        padded_size: tuple[int, int],  # (H, W) pixels
    ) -> BEVMemory:
        """Return the memory of these tensors."""
        named = dict(zip(self.names, tensors, strict=True))
        batch = int(named["valid"].shape[0])
        rig = None
        if self.with_rig:
            rig = CameraRig(
                *(named[n] for n in ("intrinsics", "bev_from_cam", "image_size", "camera_mask"))
            )
        return BEVMemory(
            tuple(named[f"features_{level}"] for level in range(self.levels)),
            named["valid"],
            named["world_from_bev"],
            named["timestamp_us"],
            named["sequence_id"],
            (fingerprint,) * batch,
            rig,
            named.get("camera_slots"),
            (padded_size,) * batch if self.with_rig else None,
        )


def memory_tensors(memory: BEVMemory) -> tuple[Tensor, ...]:
    """Return the tensors of a memory, in the order of ``MemoryLayout.names``."""
    return (*memory.frame_tensors(), memory.sequence_id)


class DetectorGraph(nn.Module):
    """Detection of one frame, with normalisation before the model and boxes after it.

    Args:
        model: the detector, in evaluation mode.
        config: its configuration.
        bounds: bounds of the counts that depend on the data; None: exact sizes.
        layout: of the memory, for a graph that is a step of streams; None: a single frame.
    """

    def __init__(
        self,
        model: BEVFormerV2,
        config: Config,
        *,
        bounds: Bounds | None,
        layout: MemoryLayout | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.bounds = bounds
        self.layout = layout

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the names of the inputs, in order."""
        if self.layout is None:
            return CAMERA_INPUTS
        return (*CAMERA_INPUTS, *STREAM_INPUTS, *(MEMORY + name for name in self.layout.names))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs, in order."""
        if self.layout is None:
            return BOX_OUTPUTS
        return (*BOX_OUTPUTS, RESETS, *(NEXT + MEMORY + name for name in self.layout.names))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of ``output_names``."""
        cameras, rest = inputs[: len(CAMERA_INPUTS)], inputs[len(CAMERA_INPUTS) :]
        batch = self._batch(*cameras)
        memory = None
        if self.layout is not None:
            poses, slots = rest[: len(STREAM_INPUTS)], rest[len(STREAM_INPUTS) :]
            batch = _with_poses(batch, *poses)
            memory = self._memory(slots, batch)
        output = self.model(batch, memory, bounds=self.bounds)
        sizes = Sizes(self.bounds)
        boxes = fixed_detections(output.decoder, self.config, sizes)
        assert output.counts is not None  # set by forward
        counts = torch.maximum(output.counts, sizes.largest(output.counts.device))
        if output.memory is None or self.layout is None:
            return (*boxes, counts)
        # An input that is an output, too, would be renamed: the scene's number.
        stored = (tensor.clone() for tensor in memory_tensors(output.memory))
        return (*boxes, counts, output.resets, *stored)

    def memory_after(self, *cameras: Tensor) -> BEVMemory:
        """Return the memory after a first frame, from the inputs ``CAMERA_INPUTS``."""
        output = self.model(self._batch(*cameras))
        assert output.memory is not None  # the caller has a model of several frames
        memory: BEVMemory = output.memory
        return memory

    def _batch(
        self,
        images: Tensor,  # (B, N, H, W, 3) uint8 RGB
        intrinsics: Tensor,  # (B, N, 3, 3) float64 pixels
        bev_from_cam: Tensor,  # (B, N, 4, 4) float64 metres
        image_size: Tensor,  # (B, N, 2) int64 (H, W) without padding
        camera_mask: Tensor,  # (B, N) bool
        camera_slots: Tensor,  # (B, N) int64
    ) -> Batch:
        samples = images.shape[0]
        pixels = self._normalised(images, image_size)
        start = torch.eye(4, dtype=torch.float64, device=images.device)
        return Batch(
            pixels[:, None],
            CameraRig(
                intrinsics[:, None],
                bev_from_cam[:, None],
                image_size[:, None],
                camera_mask[:, None],
            ),
            torch.ones(samples, 1, dtype=torch.bool, device=images.device),
            camera_slots,
            start.repeat(samples, 1, 1, 1),
            torch.zeros(samples, 1, dtype=torch.int64, device=images.device),
            ("",) * samples,
            ("",) * samples,
        )

    def _normalised(
        self,
        images: Tensor,  # (B, N, H, W, 3) uint8 RGB
        image_size: Tensor,  # (B, N, 2)
    ) -> Tensor:  # (B, N, 3, H, W) float32, zero where padded
        config = self.config.images
        planes = list(images.unbind(-1))
        if config.channel_order != "rgb":
            planes = planes[::-1]
        pixels = torch.stack(planes, 2).float()
        mean, std = (constant(pixels, part)[:, None, None] for part in (config.mean, config.std))
        height, width = image_size[..., None, None].unbind(2)  # (B, N, 1, 1)
        row = torch.arange(images.shape[2], device=images.device)[:, None]
        column = torch.arange(images.shape[3], device=images.device)
        inside = (row < height) & (column < width)
        return ((pixels - mean) / std).masked_fill(~inside[:, :, None], 0.0)

    def _memory(self, tensors: tuple[Tensor, ...], batch: Batch) -> BEVMemory:
        assert self.layout is not None and self.model.history is not None  # a step of streams
        height, width = (int(side) for side in batch.images.shape[-2:])
        return self.layout.memory(
            tensors, fingerprint=self.model.history.fingerprint, padded_size=(height, width)
        )


def _with_poses(
    batch: Batch,
    world_from_bev: Tensor,  # (B, 4, 4) float64
    timestamp_us: Tensor,  # (B,) int64
    sequence_id: Tensor,  # (B,) int64
) -> Batch:
    posed = Batch(
        batch.images,
        batch.rig,
        batch.frame_valid,
        batch.camera_slots,
        world_from_bev[:, None],
        timestamp_us[:, None],
        batch.sample_tokens,
        batch.scene_tokens,
    )
    object.__setattr__(posed, "sequence_id", sequence_id)  # of tokens, which a graph cannot read
    return posed


def fixed_detections(output: DecoderOutput, config: Config, sizes: Sizes) -> GraphBoxes:
    """Return the boxes of ``detections_from`` in tensors of fixed shapes."""
    decoder = config.decoder
    count = decoder.max_detections
    candidates = count if decoder.nms_iou is None else max(count, NMS_CANDIDATES)
    scores = output.logits[-1].float().sigmoid()  # (B, Q, K)
    if output.active is not None:
        scores = scores.masked_fill(~output.active[..., None], -1.0)
    classes = scores.shape[-1]
    scores, index = best_first(scores.flatten(1), candidates)
    query = (index // classes)[..., None].expand(-1, -1, output.codes.shape[-1])
    boxes = decode(output.codes[-1].gather(1, query))
    labels = index % classes
    near = (boxes.center.abs() <= constant(boxes.center, decoder.post_range_m)).all(-1)
    valid = near & (scores >= 0)
    if decoder.nms_iou is not None:
        footprints = torch.cat(
            (boxes.center[..., :2], boxes.size[..., :2], boxes.yaw[..., None]), -1
        )
        valid = suppress_in_bev(footprints, labels, valid=valid, iou=decoder.nms_iou, sizes=sizes)
    first = (~valid).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    parts = (boxes.center, boxes.size, boxes.yaw, boxes.velocity, scores, labels, valid)
    return GraphBoxes(*(_rows(part, first) for part in parts))


def _rows(
    values: Tensor,  # (B, C, ...)
    index: Tensor,  # (B, D)
) -> Tensor:  # (B, D, ...)
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
