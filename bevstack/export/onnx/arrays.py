"""Inputs of an exported detector as arrays, and boxes and memory from its outputs.

Letters: B batch, N cameras, D detections, H W image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.collate import pad_images
from bevstack.export.onnx.graph import MEMORY, NEXT, MemoryLayout, memory_tensors
from bevstack.export.onnx.graph_info import GraphInfo
from bevstack.models.layers.sizes import Bounds
from bevstack.types import Batch, BEVMemory, Boxes3D, Detections

Arrays = dict[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


def camera_arrays(batch: Batch, info: GraphInfo) -> Arrays:
    """Return images and rig of single frames as the inputs of a graph.

    Missing cameras are added as lost ones, and images are padded to the size of the graph.

    Raises:
        ValueError: the batch has another number of samples, more cameras or larger images than the
            graph, or holds several frames.
    """
    samples, frames, cameras, _, height, width = batch.images.shape
    rows, columns = info.image_size
    if frames != 1 or samples != info.batch:
        raise ValueError(
            f"batch must hold {info.batch} samples of one frame, as the exported model does; got "
            f"{samples} of {frames}"
        )
    if cameras > info.cameras or height > rows or width > columns:
        raise ValueError(
            f"a frame must have at most {info.cameras} cameras of {rows}x{columns} pixels, as the "
            f"exported model does; got {cameras} of {height}x{width}: export with --cameras "
            f"{cameras}"
        )
    missing = info.cameras - cameras
    rig = batch.rig[:, 0]
    eye = torch.eye(4, dtype=torch.float64)

    def complete(tensor: Tensor, filling: Tensor) -> NDArray[Any]:
        rest = filling.to(tensor.dtype).expand(samples, missing, *filling.shape)
        array: NDArray[Any] = torch.cat((tensor.cpu(), rest), 1).numpy()
        return array

    pixels = pad_images(_as_uint8(batch.images[:, 0].cpu(), info), rows, columns)
    zero = torch.zeros(())
    return {
        "images": complete(pixels.permute(0, 1, 3, 4, 2), torch.zeros(rows, columns, 3)),
        "intrinsics": complete(rig.intrinsics, eye[:3, :3]),
        "bev_from_cam": complete(rig.bev_from_cam, eye),
        "image_size": complete(rig.image_size, torch.ones(2)),
        "camera_mask": complete(rig.camera_mask, zero),
        "camera_slots": complete(batch.camera_slots, zero),
    }


def stream_arrays(batch: Batch, memory: BEVMemory | None, shapes: Shapes) -> Arrays:
    """Return poses, times and memory as the inputs of a graph; None is an empty memory.

    Args:
        batch: one frame a sample.
        memory: the memory of these streams, or None at their start.
        shapes: shapes of the graph's inputs by name.
    """
    arrays: Arrays = {
        "world_from_bev": batch.world_from_bev[:, 0].cpu().numpy(),
        "timestamp_us": batch.timestamp_us[:, 0].cpu().numpy(),
        "sequence_id": batch.sequence_id.cpu().numpy(),
    }
    names = memory_layout(shapes).names
    if memory is None:
        return arrays | {
            MEMORY + name: np.zeros(shapes[MEMORY + name], _dtype(name)) for name in names
        }
    tensors = memory_tensors(memory)
    return arrays | {
        MEMORY + name: tensor.cpu().numpy() for name, tensor in zip(names, tensors, strict=True)
    }


def memory_layout(shapes: Shapes) -> MemoryLayout:
    """Return the layout of the memory among a graph's inputs."""
    levels = sum(name.startswith(f"{MEMORY}features_") for name in shapes)
    return MemoryLayout(levels, f"{MEMORY}intrinsics" in shapes)


def memory_from(outputs: Arrays, shapes: Shapes, info: GraphInfo) -> BEVMemory:
    """Return the memory for the next step from a graph's outputs."""
    layout = memory_layout(shapes)
    tensors = tuple(torch.from_numpy(outputs[NEXT + MEMORY + name]) for name in layout.names)
    return layout.memory(tensors, fingerprint=0, padded_size=info.image_size)


def detections_from_arrays(outputs: Arrays, class_names: tuple[str, ...]) -> list[Detections]:
    """Return the valid boxes of every sample, in the grid's bev frame."""
    tensors = {name: torch.from_numpy(outputs[name]) for name in _BOX_ARRAYS}
    found = []
    for row, valid in enumerate(torch.from_numpy(outputs["valid"])):
        center, size, yaw, velocity, scores, labels = (
            tensor[row][valid] for tensor in tensors.values()
        )
        boxes = Boxes3D(center, size, yaw, velocity)
        found.append(Detections(boxes, scores, labels, class_names))
    return found


def counts_from(outputs: Arrays) -> Bounds:
    """Return the largest counts of a step."""
    return Bounds(*(int(count) for count in outputs["counts"]))


_BOX_ARRAYS = ("center", "size", "yaw", "velocity", "scores", "labels")
_DTYPES = {
    "valid": np.bool_,
    "camera_mask": np.bool_,
    "world_from_bev": np.float64,
    "intrinsics": np.float64,
    "bev_from_cam": np.float64,
    "timestamp_us": np.int64,
    "image_size": np.int64,
    "camera_slots": np.int64,
    "sequence_id": np.int64,
}


def _dtype(name: str) -> type[np.generic]:
    return _DTYPES.get(name, np.float32)  # features


def _as_uint8(
    images: Tensor,  # (B, N, 3, H, W) normalised
    info: GraphInfo,
) -> Tensor:  # (B, N, 3, H, W) uint8 RGB
    """Undo the normalisation, which is exact for images that had whole levels."""
    config = info.config.images
    mean, std = (torch.tensor(part)[:, None, None] for part in (config.mean, config.std))
    levels = (images * std + mean).nan_to_num(0.0).round().clamp(0, 255).to(torch.uint8)
    return levels if config.channel_order == "rgb" else levels.flip(2)
