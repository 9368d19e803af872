"""Boxes of the perspective head as proposals, against loops in numpy and polygons of shapely."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bevstack.config import ProposalConfig
from bevstack.datasets.augmentation.augment import BEVAugmentation
from bevstack.geometry import BEVGrid, CameraRig
from bevstack.models.perspective.camera_views import PerspectiveViews, run_perspective_head
from bevstack.models.perspective.decode import detect
from bevstack.models.perspective.head import PerspectiveHead
from bevstack.models.perspective.proposals import Proposals, find_proposals
from bevstack.types import Annotations
from tests.geometry.test_bev_iou import polygon
from tests.models.perspective.perspective_cases import SHAPES, SMALL, some_output
from tests.models.perspective.test_decode import rotation
from tests.models.small_models import randomise, ring_rig

GRID = BEVGrid(x_range_m=(-18, 24), y_range_m=(-15, 11), z_range_m=(-2, 3), shape=(7, 11))
CONFIG = ProposalConfig(max_per_view=40, max_proposals=70, bev_nms_iou=0.1)
AUGMENTATIONS = (
    BEVAugmentation(rotation_rad=0.4, scale=1.1, flip_x=True),
    BEVAugmentation(rotation_rad=-0.2, scale=0.8),
    BEVAugmentation(flip_x=True, flip_y=True),
)


def some_views(batch: int, cameras: int, *, seed: int = 0) -> tuple[PerspectiveViews, CameraRig]:
    """Return detections about 15 m away in all images but image 1, with different intrinsics."""
    rig = ring_rig(batch, cameras, (48, 72), seed=seed)[:, 0]
    zoom = 1 + 0.1 * torch.arange(batch * cameras, dtype=torch.float64).view(batch, cameras)
    intrinsics = rig.intrinsics.clone()
    intrinsics[..., 0, 0] *= zoom
    rig = replace(rig, intrinsics=intrinsics)
    image = torch.tensor([i for i in range(batch * cameras) if i != 1], dtype=torch.int64)
    output = some_output(len(image), seed=seed)
    output = replace(output, depth=output.depth * 16)
    image_intrinsics = rig.intrinsics.flatten(0, 1)[image]
    mirrored = torch.zeros(len(image), dtype=torch.bool)
    return PerspectiveViews(output, image, image_intrinsics, mirrored, 72), rig


def naive_proposals(
    views: PerspectiveViews,
    rig: CameraRig,
    sample: int,
    config: ProposalConfig,
    augmentation: np.ndarray,
) -> list[dict]:
    """Return the proposals of one sample, best first, computed box by box."""
    cameras = rig.num_cameras
    per_view = replace(SMALL, max_detections=config.max_per_view)
    detections = detect(views.output, views.intrinsics, per_view)
    boxes = []
    for row, image in enumerate(views.image.tolist()):
        if image // cameras != sample or not rig.camera_mask[sample, image % cameras]:
            continue
        bev_from_cam = rig.bev_from_cam[sample, image % cameras].numpy()
        for d in range(detections.valid.shape[1]):
            score = float(detections.scores[row, d])
            if not detections.valid[row, d] or score < config.score_threshold:
                continue
            center = bev_from_cam @ np.append(
                detections.boxes.centers()[row, d].double().numpy(), 1
            )
            center = augmentation @ center[:3]
            attitude = rotation(detections.boxes.quaternion[row, d])
            heading = augmentation @ (bev_from_cam[:3, :3] @ attitude)[:, 0]
            size = detections.boxes.size_m[row, d].numpy() * np.cbrt(
                abs(np.linalg.det(augmentation))
            )
            if not (-18 < center[0] < 24 and -15 < center[1] < 11):
                continue
            footprint = torch.tensor((*center[:2], *size[:2], math.atan2(heading[1], heading[0])))
            label = int(detections.labels[row, d])
            speed = float(detections.speed_mps[row, d])
            boxes.append(
                {
                    "score": score,
                    "label": label,
                    "center": center,
                    "size": size,
                    "heading": heading,
                    "velocity": speed * heading[:2],
                    "polygon": polygon(footprint),
                }
            )
    kept: list[dict] = []
    for box in sorted(boxes, key=lambda b: -b["score"]):
        rivals = [k["polygon"] for k in kept if k["label"] == box["label"]]
        shared = [r.intersection(box["polygon"]).area for r in rivals]
        unions = [r.union(box["polygon"]).area for r in rivals]
        if all(s / u <= config.bev_nms_iou for s, u in zip(shared, unions, strict=True)):
            kept.append(box)
    assert len(kept) < len(boxes)  # something was suppressed
    if config.max_per_class is not None:
        kept = [
            box
            for row, box in enumerate(kept)
            if sum(b["label"] == box["label"] for b in kept[:row]) < config.max_per_class
        ]
    return kept[: config.max_proposals]


def assert_are(proposals: Proposals, sample: int, wanted: list[dict]) -> None:
    count = int(proposals.valid[sample].sum())
    assert count == len(wanted) and proposals.valid[sample, :count].all()
    boxes = proposals.boxes
    for row, box in enumerate(wanted):
        near = {"rtol": 1e-4, "atol": 1e-4}  # detections are float32, at about 20 m
        assert int(proposals.labels[sample, row]) == box["label"]
        assert float(proposals.scores[sample, row]) == pytest.approx(box["score"])
        np.testing.assert_allclose(boxes.center[sample, row], box["center"], **near)
        np.testing.assert_allclose(boxes.size[sample, row], box["size"], **near)
        np.testing.assert_allclose(boxes.velocity[sample, row], box["velocity"], **near)
        yaw = math.atan2(box["heading"][1], box["heading"][0])
        turned = (float(boxes.yaw[sample, row]) - yaw + math.pi) % (2 * math.pi) - math.pi
        # a nearly vertical heading has a yaw that depends on the last digits
        assert abs(turned) * np.linalg.norm(box["heading"][:2]) < 1e-3
        normalised = (box["center"] - (-18, -15, -2)) / (42, 26, 5)
        got = proposals.reference_points[sample, row]
        np.testing.assert_allclose(got, normalised.clip(0, 1), **near)
    nothing = proposals.reference_points[sample, count:]
    assert (nothing == 0.5).all() and not proposals.scores[sample, count:].any()


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize(("batch", "cameras"), [(1, 4), (2, 3), (3, 2)])
def test_proposals_equal_loops_over_cameras_and_boxes(
    batch: int, cameras: int, augmented: bool
) -> None:
    views, rig = some_views(batch, cameras, seed=batch)
    matrices = torch.stack([a.matrix() for a in AUGMENTATIONS[:batch]])
    got = find_proposals(
        views,
        rig,
        grid=GRID,
        perspective=SMALL,
        config=CONFIG,
        bev_augmentation=matrices if augmented else None,
    )
    assert got.reference_points.shape == (batch, 70, 3)
    assert got.reference_points.dtype == torch.float32
    for b in range(batch):
        matrix = matrices[b].numpy() if augmented else np.eye(3)
        assert_are(got, b, naive_proposals(views, rig, b, CONFIG, matrix))
    assert got.valid.any(1).all()


def find(views: PerspectiveViews, rig: CameraRig, config: ProposalConfig = CONFIG) -> Proposals:
    return find_proposals(views, rig, grid=GRID, perspective=SMALL, config=config)


def test_only_the_best_boxes_above_the_threshold_are_proposed() -> None:
    views, rig = some_views(2, 3)
    few = replace(CONFIG, max_proposals=4)
    everything = find(views, rig)
    assert int(everything.valid.sum(1).min()) > 6
    got = find(views, rig, few)
    assert got.valid.all() and got.valid.shape == (2, 4)
    assert torch.equal(got.scores, everything.scores[:, :4])
    threshold = float(everything.scores[0, 5])
    strict = find(views, rig, replace(CONFIG, score_threshold=threshold))
    assert torch.equal(strict.valid, everything.valid & (everything.scores >= threshold))


@pytest.mark.parametrize("max_proposals", [5, 70])
def test_at_most_max_per_class_boxes_of_a_class_are_proposed(max_proposals: int) -> None:
    views, rig = some_views(3, 3)
    config = replace(CONFIG, max_per_class=2, max_proposals=max_proposals)
    got, everything = find(views, rig, config), find(views, rig)
    for b in range(3):
        counts = torch.bincount(everything.labels[b, everything.valid[b]])
        assert counts.max() > 2  # without the limit there are more of some class
        assert torch.bincount(got.labels[b, got.valid[b]]).max() == 2
        assert_are(got, b, naive_proposals(views, rig, b, config, np.eye(3)))


def test_boxes_of_different_classes_do_not_suppress_each_other() -> None:
    views, rig = some_views(1, 3)
    crowd = replace(views.output, center_offset_px=views.output.center_offset_px * 0)
    got = find(replace(views, output=crowd), rig, replace(CONFIG, bev_nms_iou=0.0))
    shapes = [
        polygon(torch.cat((c[:2], s[:2], y[None])).double())
        for c, s, y in zip(got.boxes.center[0], got.boxes.size[0], got.boxes.yaw[0], strict=True)
    ]
    count = int(got.valid.sum())
    pairs = [(i, j) for i in range(count) for j in range(i) if shapes[i].intersects(shapes[j])]
    assert pairs and all(got.labels[0, i] != got.labels[0, j] for i, j in pairs)


def test_two_rigs_in_a_batch_equal_separate_runs() -> None:
    views, rig = some_views(3, 2)
    together = find(views, rig)
    for b in range(3):
        rows = views.image // 2 == b
        names = ("logits", "ltrb_px", "centerness", "quaternion", "center_offset_px", "depth")
        names += ("size", "confidence", "attributes", "speed_mps")
        output = replace(
            views.output, **{name: getattr(views.output, name)[rows] for name in names}
        )
        alone = PerspectiveViews(
            output, views.image[rows] - 2 * b, views.intrinsics[rows], views.mirrored[rows], 72
        )
        wanted = find(alone, rig[b : b + 1])
        assert torch.equal(together.valid[b], wanted.valid[0])
        torch.testing.assert_close(together.reference_points[b], wanted.reference_points[0])
        assert torch.equal(together.labels[b], wanted.labels[0])


def test_lost_cameras_give_none() -> None:
    views, rig = some_views(2, 3)
    mask = torch.tensor(((True, True, False), (False, False, False)))
    got = find(views, replace(rig, camera_mask=mask))
    assert got.valid[0].any() and not got.valid[1].any()
    kept = views.image == 0  # the head did not run on image 1
    names = ("logits", "ltrb_px", "centerness", "quaternion", "center_offset_px", "depth")
    names += ("size", "confidence", "attributes", "speed_mps")
    output = replace(views.output, **{name: getattr(views.output, name)[kept] for name in names})
    one = PerspectiveViews(
        output, views.image[kept], views.intrinsics[kept], views.mirrored[kept], 72
    )
    assert torch.equal(find(one, rig).reference_points[0], got.reference_points[0])


def test_no_image_no_box_and_no_sample_give_empty_rows() -> None:
    head = randomise(PerspectiveHead(replace(SMALL, norm="BN"), channels=8))
    for batch, cameras in ((0, 3), (2, 3)):
        rig = ring_rig(batch, cameras, (48, 72))[:, 0]
        pyramid = [torch.randn(batch, cameras, 8, *shape) for shape in SHAPES]
        nothing = torch.zeros(batch, cameras, dtype=torch.bool)
        views = run_perspective_head(head, pyramid, rig, wanted=nothing, padded_width=72)
        got = find(views, rig)
        assert got.valid.shape == (batch, 70) and not got.valid.any()
        assert (got.reference_points == 0.5).all()
    views, rig = some_views(2, 3)
    silent = replace(views.output, logits=torch.full_like(views.output.logits, -30.0))
    assert not find(replace(views, output=silent), rig).valid.any()


def test_boxes_that_are_not_finite_are_left_out() -> None:
    views, rig = some_views(1, 3)
    depth = views.output.depth.clone()
    depth[:, ::2] = math.nan
    got = find(replace(views, output=replace(views.output, depth=depth)), rig)
    assert got.valid.any() and got.reference_points.isfinite().all()
    assert got.boxes.center.isfinite().all()


def test_no_gradient_reaches_the_perspective_head() -> None:
    views, rig = some_views(1, 3)
    depth = views.output.depth.clone().requires_grad_()
    got = find(replace(views, output=replace(views.output, depth=depth)), rig)
    parts: list[Tensor] = [got.reference_points, got.scores, got.boxes.center]
    assert not any(part.requires_grad for part in parts)


def test_a_true_box_is_proposed_at_its_position() -> None:
    """If the head predicts a true box exactly, the proposal is that box in the bev frame."""
    rig = some_views(1, 1)[1]
    output = some_output(1)
    logits = torch.full_like(output.logits, -30.0)
    location = 20
    logits[0, location, 2] = 5.0
    in_camera = torch.tensor((1.5, 0.4, 11.0))
    pixel = rig.intrinsics[0, 0].float() @ (in_camera / in_camera[2])
    offset = output.center_offset_px.clone()
    offset[0, location, :, 2] = pixel[:2] - output.locations_px[location]
    inverse = torch.linalg.inv(rig.intrinsics[0, 0])
    depth = output.depth.clone()
    depth[0, location, 2] = 11.0 * 500 * math.hypot(inverse[0, 0], inverse[1, 1])
    output = replace(output, logits=logits, center_offset_px=offset, depth=depth)
    views = PerspectiveViews(
        output, torch.tensor([0]), rig.intrinsics[0], torch.zeros(1, dtype=torch.bool), 72
    )
    got = find(views, rig)
    assert got.valid.sum() == 1 and got.labels[0, 0] == 2
    pose = rig.bev_from_cam[0, 0]
    wanted = pose[:3, :3] @ in_camera.double() + pose[:3, 3]
    torch.testing.assert_close(got.boxes.center[0, 0].double(), wanted, rtol=1e-4, atol=1e-3)
    metres = GRID.to_metres(got.reference_points[0, 0]).double()
    torch.testing.assert_close(metres, wanted, rtol=1e-4, atol=1e-3)


def test_proposals_move_as_annotations_do() -> None:
    views, rig = some_views(1, 3)
    still = find(views, rig)
    augmentation = AUGMENTATIONS[1]  # shrinks: nothing leaves the grid
    moved = find_proposals(
        views,
        rig,
        grid=GRID,
        perspective=SMALL,
        config=CONFIG,
        bev_augmentation=augmentation.matrix()[None],
    )
    kept = still.valid[0]
    points = torch.ones(int(kept.sum()), dtype=torch.int64)
    boxes = type(still.boxes)(
        still.boxes.center[0, kept],
        still.boxes.size[0, kept],
        still.boxes.yaw[0, kept],
        still.boxes.velocity[0, kept],
    )
    wanted = augmentation.apply(Annotations(boxes, still.labels[0, kept], points)).boxes
    for center, yaw, velocity in zip(wanted.center, wanted.yaw, wanted.velocity, strict=True):
        distance = (moved.boxes.center[0] - center).abs().sum(-1)
        row = int(distance.argmin())
        assert float(distance[row]) < 1e-4
        assert float(moved.boxes.yaw[0, row]) == pytest.approx(float(yaw), abs=1e-4)
        torch.testing.assert_close(moved.boxes.velocity[0, row], velocity, rtol=1e-4, atol=1e-4)
