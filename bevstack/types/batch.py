"""The input of a model: images and rigs of several clips, one clip a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from bevstack.geometry import CameraRig
from bevstack.shapes import expect_shape
from bevstack.types.detections import Annotations
from bevstack.types.memory import sequence_ids
from bevstack.types.perspective import CameraAnnotations


class TaskLabels(Protocol):
    """Labels of a further task for the samples of a batch."""

    def to(self, device: torch.device | str) -> TaskLabels:
        """Return the labels on a device."""
        ...


@dataclass(frozen=True)
class Batch:
    """B clips of T frames of N cameras, padded to one size; each sample may have a different rig.

    ``rig`` is expressed in the bev frame of the current frame, also for past frames. It describes
    the network's images: the focal length of mirrored ones is negative (``rig.mirrored``), and the
    model mirrors their features back.

    Raises:
        ValueError: shapes that do not agree, or a field without one entry a sample.
    """

    images: Tensor  # (B, T, N, 3, H, W) float32, normalised, zero where padded
    rig: CameraRig  # leading axes (B, T)
    frame_valid: Tensor  # (B, T) bool, False where a frame is missing
    camera_slots: Tensor  # (B, N) int64, index of each camera's embedding in the model
    world_from_bev: Tensor  # (B, T, 4, 4) float64, identity without a pose
    timestamp_us: Tensor  # (B, T) int64
    sample_tokens: tuple[str, ...]  # B
    scene_tokens: tuple[str, ...]  # B
    annotations: tuple[Annotations, ...] | None = None  # B, in the bev frame
    bev_augmentation: Tensor | None = None  # (B, 3, 3) float64, augmented_bev_from_bev
    # B x N, for the images of the current frame. 2D boxes follow the augmented images: they are
    # clipped and mirrored with them. Rotations and centres stay those of the real camera.
    camera_annotations: tuple[tuple[CameraAnnotations, ...], ...] | None = None
    sequence_id: Tensor = field(init=False)  # (B,) int64, of scene_tokens
    # labels of further tasks for the same samples, by task; a task without labels here is absent
    labels: Mapping[str, TaskLabels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = sequence_ids(self.scene_tokens).to(self.images.device)
        object.__setattr__(self, "sequence_id", numbers)
        sizes = expect_shape("images", self.images, ("B", "T", "N", 3, "H", "W"))
        expect_shape("rig.intrinsics", self.rig.intrinsics, ("B", "T", "N", 3, 3), sizes)
        expect_shape("frame_valid", self.frame_valid, ("B", "T"), sizes)
        expect_shape("camera_slots", self.camera_slots, ("B", "N"), sizes)
        expect_shape("world_from_bev", self.world_from_bev, ("B", "T", 4, 4), sizes)
        expect_shape("timestamp_us", self.timestamp_us, ("B", "T"), sizes)
        for name in ("sample_tokens", "scene_tokens"):
            if len(getattr(self, name)) != sizes["B"]:
                raise ValueError(
                    f"{name} must hold one entry a sample ({sizes['B']}); "
                    f"got {len(getattr(self, name))}"
                )
        if self.camera_annotations is not None:
            counts = [len(cameras) for cameras in self.camera_annotations]
            if counts != [sizes["N"]] * sizes["B"]:
                raise ValueError(
                    f"camera_annotations must hold {sizes['N']} cameras for each of {sizes['B']} "
                    f"samples; got {counts}"
                )

    @property
    def batch_size(self) -> int:
        """Return B."""
        return int(self.images.shape[0])

    @property
    def num_images(self) -> int:
        """Return the number of images, of all frames and cameras."""
        return int(self.images.shape[0] * self.images.shape[1] * self.images.shape[2])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; images in pinned memory are copied asynchronously."""
        annotations = self.annotations
        camera_annotations = self.camera_annotations
        augmentation = self.bev_augmentation
        return replace(
            self,
            images=self.images.to(device, non_blocking=self.images.is_pinned()),
            rig=self.rig.to(device),
            frame_valid=self.frame_valid.to(device),
            camera_slots=self.camera_slots.to(device),
            world_from_bev=self.world_from_bev.to(device),
            timestamp_us=self.timestamp_us.to(device),
            annotations=annotations and tuple(a.to(device) for a in annotations),
            camera_annotations=camera_annotations
            and tuple(tuple(a.to(device) for a in cameras) for cameras in camera_annotations),
            bev_augmentation=None if augmentation is None else augmentation.to(device),
            labels={name: labels.to(device) for name, labels in self.labels.items()},
        )

    def pin_memory(self) -> Batch:
        """Return the batch with its images in page-locked memory; this needs a GPU."""
        return replace(self, images=self.images.pin_memory())
