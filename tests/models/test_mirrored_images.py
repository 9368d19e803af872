"""Mirrored images (``flip_images``): both heads get features that are mirrored back.

The reference mirrors the features back by hand and gives them to both heads with mirroring off
(v2 specification, section 3.2).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import load_config
from bevstack.geometry import CameraRig
from bevstack.losses import DetectorCriterion
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import build_model
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from bevstack.types import Batch, CameraAnnotations
from tests.models.drives import ALIGNMENTS, FRAMES, Drive, make_drive, temporal_model
from tests.models.perspective.test_camera_views import SIZE, perspective_config, training_batch
from tests.models.small_models import make_batch, randomise, ring_rig

EXACT = {"rtol": 1e-6, "atol": 1e-6}  # the order of float32 sums may differ
SUMMED = {"rtol": 1e-6, "atol": 2e-6}  # gradients of biases sum some thousand pixels


def mirror_boxes_px(annotations: CameraAnnotations, width: int) -> CameraAnnotations:
    left, top, right, bottom = annotations.boxes_px.unbind(-1)
    boxes_px = torch.stack((width - right, top, width - left, bottom), -1)
    return replace(annotations, boxes_px=boxes_px)


def mirror_rows(batch: Batch, rows: list[bool]) -> Batch:
    """Mirror the images of some samples, with their rigs and image boxes; padding stays right."""
    chosen = torch.tensor(rows)
    images, rig = batch.images.clone(), batch.rig
    flipped = rig.flipped()
    for b in range(len(rows)):
        for n in range(images.shape[2]):
            width = int(rig.image_size[b, 0, n, 1])
            if rows[b]:
                images[b, :, n, :, :, :width] = images[b, :, n, :, :, :width].flip(-1)
    intrinsics = torch.where(chosen[:, None, None, None, None], flipped.intrinsics, rig.intrinsics)
    annotations = batch.camera_annotations
    if annotations is not None:
        annotations = tuple(
            tuple(mirror_boxes_px(a, int(rig.image_size[b, 0, n, 1])) for n, a in enumerate(sample))
            if rows[b]
            else sample
            for b, sample in enumerate(annotations)
        )
    return replace(
        batch,
        images=images,
        rig=replace(rig, intrinsics=intrinsics),
        camera_annotations=annotations,
    )


def by_hand(model: BEVFormerV2, batch: Batch, mirrored: Batch, rows: list[bool]) -> BEVFormerOutput:
    """Run backbone and neck on mirrored images, mirror back, and run both heads without mirrors."""
    images, _ = model.current_frame(mirrored, None)
    chosen = torch.tensor(rows)[:, None, None, None, None]
    pyramid = [
        torch.where(chosen, level.flip(-1), level) for level in model.extract_pyramid(images)
    ]
    rig = batch.rig[:, 0]
    assert not bool(rig.mirrored.any())
    views = model.run_perspective_head(pyramid, rig, batch)
    bev, _ = model.encode_bev(pyramid, rig, batch, None, None)
    return BEVFormerOutput(bev, model.decoder(bev, None), None, views)


def losses_and_gradients(
    model: BEVFormerV2, output: BEVFormerOutput, batch: Batch
) -> dict[str, Tensor]:
    config = perspective_config()
    criterion = DetectorCriterion(config.loss, config.perspective)
    model.zero_grad(set_to_none=True)
    losses = criterion(output, batch, model.grid)
    losses.total.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 100
    return {**losses.terms, **gradients}


@pytest.mark.parametrize("rows", [[True], [True, False]])
def test_losses_and_gradients_equal_features_mirrored_back_by_hand(rows: list[bool]) -> None:
    torch.manual_seed(0)
    model = randomise(build_model(perspective_config()), scale=0.1).train()
    counts = ((2, 0, 3), (1, 2, 0), (0, 4, 1))[: len(rows)]
    batch = training_batch(counts)
    mask = batch.rig.camera_mask.clone()
    mask[0, 0, 1] = False  # a lost camera in a mirrored sample
    batch = replace(batch, rig=replace(batch.rig, camera_mask=mask))
    mirrored = mirror_rows(batch, rows)
    found = losses_and_gradients(model, model(mirrored), mirrored)
    wanted = losses_and_gradients(model, by_hand(model, batch, mirrored, rows), batch)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = max(1.0, float(value.abs().max()))
        # Gradients of biases sum some thousand pixels: four roundings of float32 more.
        torch.testing.assert_close(
            found[name] / scale, value / scale, rtol=1e-6, atol=2e-6, msg=name
        )
    plain = losses_and_gradients(model, model(batch), batch)
    assert (plain["box_1"] - found["box_1"]).abs() > 1e-4  # the images were really mirrored


def test_learned_offsets_point_as_in_the_real_image() -> None:
    """Move all sampling points to the right; only pixels right of the anchors then matter."""
    torch.manual_seed(0)
    model = randomise(build_model(perspective_config()), scale=0.1).eval()
    for layer in model.encoder.layers:
        offsets = layer.cross_attention.sampling_offsets
        offsets.weight.data.zero_()
        offsets.bias.data = torch.tensor([2.0, 0.0]).repeat(len(offsets.bias) // 2)
    batch = make_batch(2, 3, image_size=SIZE, padded_size=SIZE)
    mirrored = mirror_rows(batch, [True, False])
    pyramid = [torch.randn(2, 3, 24, SIZE[0] // s, SIZE[1] // s) for s in (8, 16, 32)]
    turned = [level.clone() for level in pyramid]
    for level in turned:
        level[0] = level[0].flip(-1)
    with torch.no_grad():
        arguments = {"camera_slots": batch.camera_slots, "padded_size": SIZE}
        wanted = model.encode(pyramid, batch.rig[:, 0], **arguments)
        found = model.encode(turned, mirrored.rig[:, 0], **arguments)
    torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("width", [71, 95, 96])
def test_anchors_of_padded_images_follow_their_content(width: int) -> None:
    """Padding on the right of a mirrored image is on the left of the features mirrored back."""
    padded = (64, 96)
    rig = ring_rig(2, 3, (50, width))[:, 0]
    intrinsics = torch.stack((rig.flipped().intrinsics[0], rig.intrinsics[1]))
    grid = perspective_config().grid
    plain, mirrored = (
        find_visible_pairs(cameras, grid, num_heights=3, padded_size=padded, capacity_step=64)
        for cameras in (rig, replace(rig, intrinsics=intrinsics))
    )
    assert torch.equal(mirrored.camera, plain.camera) and torch.equal(mirrored.query, plain.query)
    assert torch.equal(mirrored.num_cameras, plain.num_cameras)
    wanted = plain.anchors.clone()
    real = plain.query < 2 * 77
    first = real & (plain.camera < 3)
    assert 0 < int(first.sum()) < int(real.sum())
    wanted[first, :, 0] += (padded[1] - width) / padded[1]
    torch.testing.assert_close(mirrored.anchors, wanted)
    assert torch.equal(mirrored.anchors[~first], plain.anchors[~first])


def mirror_drive(drive: Drive) -> Drive:
    """Mirror all frames of the first vehicle."""
    images, intrinsics = drive.images.clone(), drive.rig.intrinsics.clone()
    images[0] = images[0].flip(-1)
    intrinsics[0] = drive.rig.flipped().intrinsics[0]
    return replace(drive, images=images, rig=replace(drive.rig, intrinsics=intrinsics))


class _Mirror(torch.nn.Module):
    """Neck that mirrors images' features back by hand, for vehicles whose images are mirrored."""

    def __init__(self, neck: torch.nn.Module) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(level.flip(-1) for level in self.neck(maps))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_past_frames_of_clips_and_streams_are_mirrored_back(alignment: str) -> None:
    model = temporal_model(FRAMES, alignment).eval()
    drive = make_drive(1, 5)
    whole = torch.tensor((64, 96)).expand_as(drive.rig.image_size)  # no padding
    drive = replace(drive, rig=replace(drive.rig, image_size=whole))
    mirrored = mirror_drive(drive)
    neck = model.neck
    with torch.no_grad():
        clip = model(mirrored.clip(4, FRAMES))
        memory = None
        for moment in range(5):
            stream = model(mirrored.step(moment), memory)
            memory = stream.memory
        # the same pixels, mirrored back by hand, with cameras that are not mirrored
        model.neck = _Mirror(neck)
        pixels = replace(drive, images=mirrored.images)
        wanted = model(pixels.clip(4, FRAMES))
    # Five frames of float32, whose sums differ in their order.
    torch.testing.assert_close(clip.bev, wanted.bev, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(stream.bev, wanted.bev, rtol=1e-5, atol=1e-5)


def test_no_map_is_copied_without_mirrored_images() -> None:
    from bevstack.models.layers.mirroring import mirror_back

    levels = (torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 3, 3))
    same = mirror_back(levels, torch.zeros(2, 3, dtype=torch.bool))
    assert all(a is b for a, b in zip(same, levels, strict=True))


def test_published_recipes_mirror_images() -> None:
    names = ("bevformerv2_r50_t1", "bevformerv2_r50_t2", "bevformerv2_r50_t8")
    assert all(load_config(name).augmentation.flip_images for name in names)
    rig = CameraRig.stack([ring_rig(1, 3, (4, 8))[0, 0]])
    assert not rig.mirrored.any() and rig.flipped().mirrored.all()
