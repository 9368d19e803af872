from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bevstack.config.perspective import PerspectiveConfig
from bevstack.geometry import rotation_from_quaternion
from bevstack.models.perspective.decode import (
    RawBoxes,
    decode_boxes,
    detect,
    egocentric_from_allocentric,
    invert_intrinsics,
)
from bevstack.types.perspective import CameraBoxes
from tests.models.bevformer_oracle import Case, assert_close, read_case
from tests.models.perspective.perspective_cases import (
    SMALL,
    published_boxes,
    published_output,
    some_intrinsics,
    some_output,
)


def assert_same_attitude(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Compare quaternions up to sign: q and -q are the same rotation."""
    sign = torch.where((got * wanted).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    assert_close(got * sign, wanted, tolerance)


def rotation(quaternion: Tensor) -> np.ndarray:
    """Return the matrix of one wxyz quaternion, from its definition in numpy."""
    w, x, y, z = (float(v) for v in quaternion.double() / quaternion.double().norm())
    cross = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)))
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def naive_decode(
    raw: list[np.ndarray], location: np.ndarray, label: int, intrinsics: np.ndarray
) -> dict[str, np.ndarray]:
    """Decode one box by matrices in numpy: rotation, projected centre, depth, size, corners."""
    quaternion, offset, depth, size = raw
    center_px = location + offset
    inverse = np.linalg.inv(intrinsics)
    scale = 500 * math.hypot(inverse[0, 0], inverse[1, 1])
    depth = min(max(float(depth) / scale, 0.1), 80.0)
    size = (np.tanh(size) + 1) * np.array(SMALL.canonical_size_m[label])
    ray = inverse @ np.array((*center_px, 1.0))
    z = ray / np.linalg.norm(ray)
    y = np.array((0, 1, 0)) - z[1] * z
    y /= np.linalg.norm(y)
    attitude = np.stack((np.cross(y, z), y, z), 1) @ rotation(torch.tensor(quaternion))
    corners = []
    for x_sign in (1, -1):
        for y_sign, z_sign in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
            half = size / 2 * np.array((x_sign, y_sign, z_sign))
            corners.append(attitude @ half + ray * depth)
    return {
        "rotation": attitude,
        "center_px": center_px,
        "depth": np.array(depth),
        "size": size,
        "corners": np.stack(corners),
    }


def numpy_raw(raw: RawBoxes, index: object) -> list[np.ndarray]:
    parts = (raw.quaternion, raw.center_offset_px, raw.depth, raw.size)
    return [part[index].double().numpy() for part in parts]


def assert_is(box: CameraBoxes, wanted: dict[str, np.ndarray]) -> None:
    """Compare a box with the naive one: float32 with float64, so to 1e-4 metres and pixels."""
    got = {
        "rotation": rotation(box.quaternion),
        "center_px": box.projected_center_px,
        "depth": box.depth_m,
        "size": box.size_m,
        "corners": box.corners(),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(np.asarray(got[name]), value, rtol=1e-4, atol=1e-4, err_msg=name)


def some_raw(*leading: int, seed: int = 0) -> RawBoxes:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*leading, *shape, generator=generator)

    return RawBoxes(normal(4), normal(2) * 9, normal() * 20 + 20, normal(3))


@pytest.mark.oracle("dd3d_geometry")
def test_geometry_matches_the_published_code() -> None:
    case = read_case("dd3d_geometry")
    boxes = published_boxes(case.inputs)
    boxes = replace(boxes, quaternion=torch.nn.functional.normalize(boxes.quaternion, dim=-1))
    wanted, tolerance = case.outputs, case.tolerance
    assert_close(boxes.centers(), wanted["tvec"], tolerance)
    assert_close(boxes.corners(), wanted["corners"], tolerance)
    assert_close(rotation_from_quaternion(case.inputs["quat"]), wanted["matrix"], tolerance)
    assert_same_attitude(boxes.quaternion, wanted["quat_back"], tolerance)
    egocentric = egocentric_from_allocentric(boxes.quaternion, boxes.rays())
    assert_same_attitude(egocentric, wanted["egocentric"], tolerance)


def published_raw(case: Case) -> RawBoxes:
    inputs = case.inputs
    return RawBoxes(inputs["quat"], inputs["ctr"], inputs["depth"], inputs["size"][:, [1, 0, 2]])


@pytest.mark.oracle("dd3d_decode_disentangled")
def test_decoded_boxes_match_the_published_code() -> None:
    case = read_case("dd3d_decode_disentangled")
    inputs, wanted = case.inputs, case.outputs
    boxes = decode_boxes(
        published_raw(case),
        inputs["labels"],
        inputs["locations"],
        inputs["inv_K"],
        PerspectiveConfig(),
    )
    stored = published_boxes({**wanted, "inv_K": inputs["inv_K"]}, "box_")
    assert_same_attitude(boxes.quaternion, stored.quaternion, case.tolerance)
    assert_close(boxes.projected_center_px, stored.projected_center_px, case.tolerance)
    assert_close(boxes.depth_m, stored.depth_m, case.tolerance)
    assert_close(boxes.size_m, stored.size_m, case.tolerance)
    assert_close(boxes.centers(), wanted["box_tvec"], case.tolerance)
    assert_close(boxes.corners(), wanted["box_corners"], case.tolerance)


@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_decoding_equals_matrices_box_by_box(images: int) -> None:
    """Boxes have two axes, and every image has different intrinsics."""
    raw = some_raw(images, 5)
    intrinsics = some_intrinsics(images)
    labels = torch.arange(images * 5).view(images, 5) % 4
    locations = torch.rand(images, 5, 2) * 60
    inverse = invert_intrinsics(intrinsics)[:, None].expand(-1, 5, -1, -1)
    boxes = decode_boxes(raw, labels, locations, inverse, SMALL)
    assert boxes.corners().shape == (images, 5, 8, 3)
    clamped = 0
    for i, d in itertools.product(range(images), range(5)):
        wanted = naive_decode(
            numpy_raw(raw, (i, d)),
            locations[i, d].double().numpy(),
            int(labels[i, d]),
            intrinsics[i].numpy(),
        )
        clamped += int(wanted["depth"] in (0.1, 80.0))
        assert_is(boxes[i][d], wanted)
    assert images < 3 or clamped  # some depths are clamped


def test_object_of_the_same_appearance_turns_with_its_ray() -> None:
    """Straight ahead both attitudes agree; 30 degrees to the right they differ by that yaw."""
    allocentric = torch.nn.functional.normalize(torch.tensor((0.3, -0.5, 0.7, 0.1)), dim=-1)
    ahead = egocentric_from_allocentric(allocentric, torch.tensor((0.0, 0.0, 2.0)))
    assert_close(ahead, allocentric, 1e-6)
    ray = torch.tensor((math.tan(math.radians(30)), 0.0, 1.0))
    egocentric = rotation(egocentric_from_allocentric(allocentric, ray))
    turned = egocentric @ np.linalg.inv(rotation(allocentric))
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    about_y = ((cos, 0, sin), (0, 1, 0), (-sin, 0, cos))  # y points down: from z towards x
    np.testing.assert_allclose(turned, about_y, atol=1e-6)


def test_gradients_of_decoding_are_right() -> None:
    raw = some_raw(3, seed=5)
    leaves = [
        x.double().requires_grad_()
        for x in (raw.quaternion, raw.center_offset_px, raw.depth.abs() + 5, raw.size)
    ]
    labels, locations = torch.tensor((0, 3, 1)), torch.rand(3, 2).double() * 60
    inverse = torch.linalg.inv(some_intrinsics(3))

    def corners(*parts: Tensor) -> Tensor:
        return decode_boxes(RawBoxes(*parts), labels, locations, inverse, SMALL).corners()

    assert torch.autograd.gradcheck(corners, leaves)


def test_quaternion_of_length_0_gives_a_box_and_a_finite_gradient() -> None:
    raw = some_raw(2)
    nothing = torch.zeros(2, 4, requires_grad=True)
    inverse = invert_intrinsics(some_intrinsics(2))
    labels, locations = torch.tensor((0, 1)), torch.ones(2, 2)
    boxes = decode_boxes(replace(raw, quaternion=nothing), labels, locations, inverse, SMALL)
    boxes.corners().sum().backward()
    identity = torch.tensor((1.0, 0.0, 0.0, 0.0)).expand(2, 4)
    wanted = egocentric_from_allocentric(identity, boxes.rays())
    assert_same_attitude(boxes.quaternion, wanted, 1e-6)
    assert nothing.grad is not None and nothing.grad.isfinite().all()


@pytest.mark.oracle("dd3d_inference")
def test_detections_match_the_published_code() -> None:
    case = read_case("dd3d_inference")
    locations = [case.inputs[f"locations.{level}"] for level in range(5)]
    output = published_output(case.inputs, locations)
    detections = detect(
        output, torch.linalg.inv(case.inputs["inv_K"].double()), PerspectiveConfig()
    )
    assert detections.valid.all() and detections.valid.shape == (3, 100)
    for image in range(3):
        wanted = {
            key.removeprefix(f"{image}."): value
            for key, value in case.outputs.items()
            if key.startswith(f"{image}.")
        }
        stored = published_boxes({**wanted, "inv_K": case.inputs["inv_K"][image].expand(100, 3, 3)})
        boxes = detections.boxes[image]
        for got, name in (
            (detections.scores, "scores_3d"),
            (detections.image_scores, "scores"),
            (detections.boxes_px, "boxes"),
            (detections.speed_mps, "speeds"),
        ):
            assert_close(got[image], wanted[name], case.tolerance)
        assert torch.equal(detections.labels[image], wanted["classes"])
        assert torch.equal(detections.attributes[image], wanted["attributes"])
        assert torch.equal(detections.levels[image], wanted["fpn_levels"])
        assert_same_attitude(boxes.quaternion, stored.quaternion, case.tolerance)
        assert_close(boxes.projected_center_px, stored.projected_center_px, case.tolerance)
        assert_close(boxes.size_m, stored.size_m, case.tolerance)
        assert_close(boxes.centers(), wanted["tvec"], case.tolerance)


def naive_iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return width * height / (sum(areas) - width * height)


def naive_detections(output, image: int, config: PerspectiveConfig) -> list[tuple]:
    """Return (score, image score, location, label, box) by loops over levels and pairs."""
    candidates, start = [], 0
    for size in output.level_sizes:
        level_candidates = []
        for p, k in itertools.product(range(start, start + size), range(output.logits.shape[2])):
            strength = float(
                output.logits[image, p, k].sigmoid() * output.centerness[image, p].sigmoid()
            )
            if strength > config.score_threshold:
                level_candidates.append((strength, p, k))
        candidates += sorted(level_candidates, reverse=True)[: config.max_candidates]
        start += size
    scored = []
    for strength, p, k in candidates:
        u, v = output.locations_px[p].tolist()
        left, top, right, bottom = output.ltrb_px[image, p].tolist()
        score = math.sqrt(strength) * float(output.confidence[image, p, k].sigmoid())
        box = [u - left, v - top, u + right, v + bottom]
        scored.append((score, math.sqrt(strength), p, k, box))
    kept: list[tuple] = []
    for one in sorted(scored, key=lambda c: -c[0]):
        if all(k[3] != one[3] or naive_iou(k[4], one[4]) <= config.nms_iou for k in kept):
            kept.append(one)
    best = sorted(kept, key=lambda c: -c[1])[: config.max_detections]
    return sorted(best, key=lambda c: -c[0])


@pytest.mark.parametrize(
    ("images", "config"),
    [
        (0, SMALL),
        (1, replace(SMALL, score_threshold=0.3, nms_iou=0.3)),
        (2, replace(SMALL, max_candidates=20, nms_iou=0.4)),
        (3, replace(SMALL, max_detections=7, nms_iou=0.2)),
        (2, replace(SMALL, score_threshold=0.999)),
    ],
)
def test_detections_equal_loops(images: int, config: PerspectiveConfig) -> None:
    output = some_output(images, seed=images)
    intrinsics = some_intrinsics(images)
    detections = detect(output, intrinsics, config)
    levels = output.levels.tolist()
    for image in range(images):
        wanted = naive_detections(output, image, config)
        count = int(detections.valid[image].sum())
        assert count == len(wanted)
        assert detections.valid[image, :count].all()
        assert not detections.scores[image, count:].any()
        for d, (score, image_score, p, label, box) in enumerate(wanted):
            assert float(detections.scores[image, d]) == pytest.approx(score, rel=1e-5)
            assert float(detections.image_scores[image, d]) == pytest.approx(image_score, rel=1e-5)
            assert int(detections.labels[image, d]) == label
            assert int(detections.levels[image, d]) == levels[p]
            assert detections.boxes_px[image, d].tolist() == pytest.approx(box, abs=1e-4)
            assert int(detections.attributes[image, d]) == int(output.attributes[image, p].argmax())
            assert float(detections.speed_mps[image, d]) == float(output.speed_mps[image, p])
            raw = RawBoxes(
                output.quaternion[..., label],
                output.center_offset_px[..., label],
                output.depth[..., label],
                output.size[..., label],
            )
            location = output.locations_px[p].double().numpy()
            decoded = naive_decode(
                numpy_raw(raw, (image, p)), location, label, intrinsics[image].numpy()
            )
            assert_is(detections.boxes[image][d], decoded)


def test_batches_detect_as_their_images_alone() -> None:
    output, intrinsics = some_output(3, seed=7), some_intrinsics(3)
    whole = detect(output, intrinsics, SMALL)
    shared = {"locations_px", "level_sizes"}
    for image in range(3):
        fields = {k: v for k, v in vars(output).items() if k not in shared}
        alone = replace(output, **{k: v[image : image + 1] for k, v in fields.items()})
        one = detect(alone, intrinsics[image : image + 1], SMALL)
        assert torch.equal(one.labels[0], whole.labels[image])
        # the ends of vectorised sigmoids round differently
        assert_close(one.scores[0], whole.scores[image], 1e-6)
        assert_close(one.boxes_px[0], whole.boxes_px[image], 1e-6)
        assert_close(one.boxes.depth_m[0], whole.boxes.depth_m[image], 1e-6)


def test_intrinsics_of_another_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"intrinsics must have shape \(2, 3, 3\)"):
        detect(some_output(2), some_intrinsics(3), SMALL)
