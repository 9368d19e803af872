"""Batches: consistent shapes, and the transfer to a device."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from bevstack.geometry import CameraRig
from bevstack.types import Annotations, Batch, Boxes3D, CameraAnnotations


def some_annotations(count: int) -> CameraAnnotations:
    return CameraAnnotations(
        torch.rand(count, 4),
        torch.arange(count),
        torch.rand(count, 4),
        torch.rand(count, 3) + 1,
        torch.rand(count, 3),
        torch.arange(count) % 3,
        torch.full((count,), torch.nan),
    )


def some_batch(batch: int = 2, cameras: int = 3) -> Batch:
    eye = torch.eye(4, dtype=torch.float64)
    leading = (batch, 1, cameras)
    return Batch(
        images=torch.rand(*leading, 3, 8, 16),
        rig=CameraRig(
            eye[:3, :3].repeat(*leading, 1, 1),
            eye.repeat(*leading, 1, 1),
            torch.tensor((8, 15)).repeat(*leading, 1),
            torch.ones(leading, dtype=torch.bool),
        ),
        frame_valid=torch.ones(batch, 1, dtype=torch.bool),
        camera_slots=torch.zeros(batch, cameras, dtype=torch.int64),
        world_from_bev=eye.repeat(batch, 1, 1, 1),
        timestamp_us=torch.zeros(batch, 1, dtype=torch.int64),
        sample_tokens=("sample",) * batch,
        scene_tokens=("scene",) * batch,
    )


def with_annotations(batch: Batch) -> Batch:
    cameras = int(batch.camera_slots.shape[1])
    boxes = Boxes3D(torch.rand(2, 3), torch.rand(2, 3), torch.rand(2), torch.rand(2, 2))
    return replace(
        batch,
        annotations=(Annotations(boxes, torch.zeros(2).long(), torch.ones(2).long()),)
        * batch.batch_size,
        camera_annotations=tuple(
            tuple(some_annotations(sample + camera) for camera in range(cameras))
            for sample in range(batch.batch_size)
        ),
        bev_augmentation=torch.eye(3, dtype=torch.float64).repeat(batch.batch_size, 1, 1),
    )


def tensors_of(value: object) -> list[Tensor]:
    """Return every tensor in a batch, nested ones included."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in tensors_of(part)]
    if hasattr(value, "__dataclass_fields__"):
        return [t for field in fields(value) for t in tensors_of(getattr(value, field.name))]
    return []


@pytest.mark.parametrize("batch", [some_batch(), with_annotations(some_batch())])
def test_every_tensor_goes_to_the_device(batch: Batch) -> None:
    moved = batch.to("meta")
    assert len(tensors_of(moved)) == len(tensors_of(batch))
    assert {tensor.device.type for tensor in tensors_of(moved)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(batch)} == {"cpu"}


def test_a_batch_without_annotations_has_none_on_a_device() -> None:
    moved = some_batch().to("meta")
    assert moved.annotations is None
    assert moved.camera_annotations is None
    assert moved.bev_augmentation is None


def test_camera_annotations_must_hold_one_set_for_each_camera_of_each_sample() -> None:
    empty = CameraAnnotations.empty()
    message = r"camera_annotations must hold 3 cameras for each of 2 samples; got \[{}\]"
    with pytest.raises(ValueError, match=message.format("3")):
        replace(some_batch(), camera_annotations=((empty,) * 3,))
    with pytest.raises(ValueError, match=message.format("3, 2")):
        replace(some_batch(), camera_annotations=((empty,) * 3, (empty,) * 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: nothing to pin memory for")
def test_pinned_images_arrive_unchanged_on_the_gpu() -> None:
    batch = with_annotations(some_batch()).pin_memory()
    assert batch.images.is_pinned()
    assert torch.equal(batch.to("cuda").images.cpu(), batch.images)
