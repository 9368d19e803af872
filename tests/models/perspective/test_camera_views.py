"""Selection of images for the perspective head, and undoing of mirroring."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import Config, FPNConfig, PerspectiveConfig
from bevstack.losses import DetectorCriterion
from bevstack.models.build import build_model
from bevstack.models.perspective.camera_views import PerspectiveViews, run_perspective_head
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.types import Batch, CameraAnnotations
from tests.models.perspective.perspective_cases import changed
from tests.models.small_models import (
    make_annotations,
    make_batch,
    randomise,
    ring_rig,
    small_config,
)

PERSPECTIVE = PerspectiveConfig(
    strides=(8, 16, 32),
    num_convs=1,
    norm="GN",
    norm_groups=4,
    mean_depth_m=(30.0, 15.0, 8.0),
    std_depth_m=(12.0, 6.0, 3.0),
    canonical_size_m=((4.6, 1.9, 1.7), (0.7, 0.6, 1.8), (7.0, 2.5, 2.8)),
    level_bounds_px=(16, 32),
)
SIZE = (32, 64)  # multiples of the strides, so that mirrored maps align exactly


def perspective_config() -> Config:
    # Two levels for the map, three for the head; published models have four and five.
    config = small_config()
    fpn = FPNConfig(in_stages=(1, 2, 3), num_outputs=3, channels=24)
    encoder = replace(config.encoder, num_levels=2)
    return replace(config, fpn=fpn, encoder=encoder, perspective=PERSPECTIVE)


def boxes(count: int, seed: int) -> CameraAnnotations:
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    corner = torch.stack((between(0, 30, count), between(0, 15, count)), -1)
    return CameraAnnotations(
        boxes_px=torch.cat((corner, corner + between(6, 30, count, 2)), -1),
        labels=torch.randint(3, (count,), generator=generator),
        quaternion=torch.nn.functional.normalize(between(-1, 1, count, 4), dim=-1),
        center_m=torch.cat((between(-5, 5, count, 2), between(4, 40, count, 1)), -1),
        size_m=between(0.5, 5, count, 3),
        attributes=torch.randint(-1, 3, (count,), generator=generator),
        speed_mps=between(0, 9, count),
    )


def training_batch(counts: tuple[tuple[int, ...], ...], seed: int = 0) -> Batch:
    batch = make_batch(len(counts), len(counts[0]), image_size=SIZE, padded_size=SIZE, seed=seed)
    camera_annotations = tuple(
        tuple(boxes(count, 10 * sample + camera) for camera, count in enumerate(row))
        for sample, row in enumerate(counts)
    )
    annotations = tuple(
        make_annotations(2 + sample, 3, seed=sample) for sample in range(len(counts))
    )
    return replace(batch, annotations=annotations, camera_annotations=camera_annotations)


def head_and_pyramid(
    batch: int, cameras: int, ground_z_m: float | None = None
) -> tuple[PerspectiveHead, list[Tensor]]:
    torch.manual_seed(0)
    config = changed(PERSPECTIVE, ground_z_m=ground_z_m)
    head = randomise(PerspectiveHead(config, channels=8))
    shapes = [(SIZE[0] // s, SIZE[1] // s) for s in PERSPECTIVE.strides]
    return head, [torch.randn(batch, cameras, 8, *shape) for shape in shapes]


@pytest.mark.parametrize("ground_z_m", [None, 0.0])
def test_mirroring_of_an_image_is_undone(ground_z_m: float | None) -> None:
    head, pyramid = head_and_pyramid(2, 3, ground_z_m)
    rig = ring_rig(2, 3, SIZE)[:, 0]
    wanted = torch.ones(2, 3, dtype=torch.bool)
    plain = run_perspective_head(head, pyramid, rig, wanted=wanted, padded_width=SIZE[1])
    turned = [level.clone() for level in pyramid]
    for level in turned:
        level[1] = level[1].flip(-1)  # the second sample's images are mirrored
    mirrored_rig = replace(
        rig, intrinsics=torch.stack((rig.intrinsics[0], rig.flipped().intrinsics[1]))
    )
    mirrored = run_perspective_head(head, turned, mirrored_rig, wanted=wanted, padded_width=SIZE[1])
    assert mirrored.mirrored.tolist() == [False] * 3 + [True] * 3
    torch.testing.assert_close(mirrored.intrinsics, plain.intrinsics)
    for name in ("logits", "ltrb_px", "quaternion", "depth", "center_offset_px"):
        assert torch.equal(getattr(mirrored.output, name), getattr(plain.output, name)), name


def test_boxes_of_mirrored_images_change_sides() -> None:
    head, pyramid = head_and_pyramid(1, 2)
    rig = ring_rig(1, 2, SIZE)[:, 0]
    rig = replace(rig, intrinsics=rig.flipped().intrinsics)
    wanted = torch.tensor([[False, True]])
    views = run_perspective_head(
        head, pyramid, rig, wanted=wanted, padded_width=80
    )  # 16 of padding
    true = boxes(2, 3)
    true = replace(true, boxes_px=torch.tensor([[5.0, 1.0, 20.0, 9.0], [0.0, 2.0, 64.0, 3.0]]))
    (unmirrored,) = views.unmirror([[boxes(4, 1), true]])
    assert unmirrored.boxes_px.tolist() == [[60.0, 1.0, 75.0, 9.0], [16.0, 2.0, 80.0, 3.0]]
    assert torch.equal(unmirrored.center_m, true.center_m)
    # A point at u in the mirrored image is at padded_width - u in the unmirrored one.
    point = torch.tensor([2.0, 1.0, 10.0], dtype=torch.float64)
    u, _, depth = rig.intrinsics[0, 1] @ point
    unmirrored_u, _, _ = views.intrinsics[0] @ point
    torch.testing.assert_close(unmirrored_u / depth, 80 - u / depth)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_samples_in_a_batch_equal_samples_alone(batch_size: int) -> None:
    # Group norm: the output of an image does not depend on the other images.
    config = perspective_config()
    model = randomise(build_model(config)).train()
    batch = training_batch(((2, 0, 1), (0, 3, 0), (1, 1, 1))[:batch_size])
    views = model(batch).perspective
    at = 0
    for sample in range(batch_size):
        camera_annotations = batch.camera_annotations
        assert camera_annotations is not None
        alone = Batch(
            images=batch.images[sample : sample + 1],
            rig=batch.rig[sample : sample + 1],
            frame_valid=batch.frame_valid[sample : sample + 1],
            camera_slots=batch.camera_slots[sample : sample + 1],
            world_from_bev=batch.world_from_bev[sample : sample + 1],
            timestamp_us=batch.timestamp_us[sample : sample + 1],
            sample_tokens=batch.sample_tokens[sample : sample + 1],
            scene_tokens=batch.scene_tokens[sample : sample + 1],
            camera_annotations=camera_annotations[sample : sample + 1],
        )
        one = model(alone).perspective
        end = at + one.image.shape[0]
        assert torch.equal(views.image[at:end], one.image + 3 * sample)
        # The convolution library uses other algorithms for other batch sizes.
        torch.testing.assert_close(views.output.logits[at:end], one.output.logits)
        torch.testing.assert_close(views.output.depth[at:end], one.output.depth)
        at = end
    assert at == views.image.shape[0]


def test_only_images_with_true_boxes_of_working_cameras_take_part() -> None:
    model = build_model(perspective_config()).train()
    batch = training_batch(((2, 0, 1), (4, 3, 0)))
    mask = batch.rig.camera_mask.clone()
    mask[1, 0, 0] = False
    batch = replace(batch, rig=replace(batch.rig, camera_mask=mask))
    assert model(batch).perspective.image.tolist() == [0, 2, 4]
    without = model(replace(batch, camera_annotations=None)).perspective
    assert without.image.tolist() == [0, 1, 2, 4, 5]


def test_evaluation_leaves_the_perspective_head_out() -> None:
    model = build_model(perspective_config()).eval()
    assert model(training_batch(((1, 1),))).perspective is None


def test_every_parameter_learns_from_both_heads_and_also_from_no_boxes() -> None:
    config = perspective_config()
    criterion = DetectorCriterion(config.loss, config.perspective)
    for counts in (((2, 1), (0, 2)), ((0, 0), (0, 0))):
        torch.manual_seed(0)
        model = build_model(config).train()
        batch = training_batch(counts)
        losses = criterion(model(batch), batch, model.grid)
        losses.total.backward()
        assert torch.isfinite(losses.total)
        assert {"class_0", "box_1", "perspective_depth"} <= losses.terms.keys()
        lacking = [name for name, p in model.named_parameters() if p.grad is None]
        assert not lacking


def test_the_weight_scales_the_perspective_losses_alone() -> None:
    config = perspective_config()
    model = build_model(config).train()
    batch = training_batch(((2, 1),))
    output = model(batch)
    one = DetectorCriterion(config.loss, config.perspective)(output, batch, model.grid)
    weighted = replace(config.loss, perspective_weight=3.0)
    three = DetectorCriterion(weighted, config.perspective)(output, batch, model.grid)
    none = DetectorCriterion(config.loss)(output, batch, model.grid)
    torch.testing.assert_close(three.total - none.total, 3 * (one.total - none.total))
    parts = [value for name, value in three.terms.items() if name.startswith("perspective_")]
    torch.testing.assert_close(torch.stack(parts).sum(), three.total - none.total)


def test_training_without_camera_boxes_is_refused() -> None:
    config = perspective_config()
    model = build_model(config).train()
    batch = replace(training_batch(((2, 1),)), camera_annotations=None)
    criterion = DetectorCriterion(config.loss, config.perspective)
    with pytest.raises(ValueError, match="camera_annotations must be given"):
        criterion(model(batch), batch, model.grid)
    with pytest.raises(ValueError, match="annotations must be given"):
        criterion(model(batch), replace(batch, annotations=None), model.grid)


def test_boxes_for_too_few_cameras_are_refused() -> None:
    head, pyramid = head_and_pyramid(1, 2)
    rig = ring_rig(1, 2, SIZE)[:, 0]
    wanted = torch.ones(1, 2, dtype=torch.bool)
    views = run_perspective_head(head, pyramid, rig, wanted=wanted, padded_width=SIZE[1])
    assert isinstance(views, PerspectiveViews)
    with pytest.raises(ValueError, match="annotations must be one a camera"):
        views.unmirror([[boxes(1, 0)]])
