"""Frozen cases of the data path: preprocessing, augmentation, and results in nuScenes' format."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from bevstack.config import AugmentationConfig, ImageConfig
from bevstack.datasets.augmentation.augment import (
    BEVAugmentation,
    ImageAugmentation,
    draw_augmentation,
)
from bevstack.datasets.preprocess import preprocess
from bevstack.evaluation.results.result_boxes import result_entries, results_of_frame
from bevstack.evaluation.results.submission import check_boxes
from bevstack.geometry import se3_from_parts
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.types import Detections, Frame
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.frozen import scene
from tests.frozen.case import Case, Tensors, agree, agree_all

IMAGES = ImageConfig(size=(14, 22), keep_bottom=0.8, pad_to=4, channel_order="bgr")
# Resizing rounds to integer grey levels after the columns and after the rows. torch uses
# fixed-point code with AVX2 and floating-point code otherwise.
LEVEL = 1.01 / min(IMAGES.std)
IMAGE_AUGMENTATION = ImageAugmentation(resize=1.1, flip=True)
SIZES = ((31, 44), (26, 52))  # of the camera images, (H, W)

BEV_AUGMENTATION = BEVAugmentation(rotation_rad=0.7, scale=1.04, flip_x=True)
EVERYTHING = AugmentationConfig(
    resize=(0.8, 1.2),
    flip_images=True,
    rotate_deg=22.5,
    scale=(0.95, 1.05),
    flip_x=True,
    flip_y=True,
)

QUATERNIONS = ((0.9, 0.02, -0.03, 0.4), (0.7, 0.01, 0.02, -0.72))  # wxyz, not of length 1
TRANSLATIONS = ((411.3, 1180.7, 2.1), (-0.94, 0.03, -1.84))  # world_from_ego, bev_from_ego


def pose(index: int) -> Tensor:
    quaternion = torch.tensor(QUATERNIONS[index], dtype=torch.float64)
    translation = torch.tensor(TRANSLATIONS[index], dtype=torch.float64)
    return se3_from_parts(quaternion / quaternion.norm(), translation)


def image(height: int, width: int) -> np.ndarray:
    """Return smooth shapes with an edge, from integer arithmetic that no machine rounds."""
    rows, columns = np.mgrid[:height, :width]
    red = (7 * rows + 3 * columns) % 256
    green = (rows * columns // 3) % 200
    blue = np.where(rows + 2 * columns > 60, 230, 25)
    return np.stack((red, green, blue), -1).astype(np.uint8)


def frame(**changes: object) -> Frame:
    """Return a frame of two cameras of different sizes and a lost one."""
    cameras = scene.rig()
    return Frame(
        images=(image(*SIZES[0]), None, image(*SIZES[1])),
        intrinsics=cameras.intrinsics[0],
        ego_from_cam=cameras.bev_from_cam[0],
        **changes,
    )


def prepared_images() -> Tensors:
    return {"images": preprocess(frame(), IMAGES, IMAGE_AUGMENTATION).images}


def prepared_rig() -> Tensors:
    rig = preprocess(frame(), IMAGES, IMAGE_AUGMENTATION).rig
    return {
        "intrinsics": rig.intrinsics[[0, 2]],
        "image_size": rig.image_size[[0, 2]],
        "camera_mask": rig.camera_mask,
    }


def bicubic(x: float) -> float:
    """Return Keys' cubic kernel with a = -0.5."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def resized(rows: np.ndarray, size: int) -> np.ndarray:
    """Resize along the first axis; the kernel scales with the output pixel and is cut at edges."""
    scale = len(rows) / size
    support = max(scale, 1.0)
    outputs = []
    for i in range(size):
        center = (i + 0.5) * scale
        first = max(0, int(center - 2 * support + 0.5))
        last = min(len(rows), int(center + 2 * support + 0.5))
        weights = np.array([bicubic((k + 0.5 - center) / support) for k in range(first, last)])
        outputs.append(np.tensordot(weights / weights.sum(), rows[first:last], 1))
    return np.rint(np.clip(outputs, 0, 255))


def prepared_sizes() -> list[tuple[int, int, int]]:
    """Return (kept rows, rows, columns) of the two images, from the definition."""
    sizes = []
    for height, width in SIZES:
        kept = round(0.8 * height)
        factor = min(1.1 * 14 / kept, 1.1 * 22 / width)
        sizes.append((kept, round(kept * factor), round(width * factor)))
    return sizes


def verify_prepared_images(found: Tensors) -> None:
    mean, std = (np.array(v)[:, None, None] for v in (IMAGES.mean, IMAGES.std))
    assert not found["images"][1].any()
    for camera, size, (kept, rows, columns) in zip((0, 2), SIZES, prepared_sizes(), strict=True):
        part = image(*size)[size[0] - kept :].astype(np.float64)
        part = resized(part.swapaxes(0, 1), columns).swapaxes(0, 1)
        part = resized(part, rows)[:, ::-1, ::-1]  # mirrored, and blue first
        wanted = torch.zeros(3, *found["images"].shape[2:]).double()
        wanted[:, :rows, :columns] = torch.from_numpy((part.transpose(2, 0, 1) - mean) / std)
        agree("image", found["images"][camera], wanted, 0.0, LEVEL)


def verify_prepared_rig(found: Tensors) -> None:
    assert found["camera_mask"].tolist() == [True, False, True]
    pairs = zip((0, 2), SIZES, prepared_sizes(), strict=True)
    for index, (camera, (height, width), (kept, rows, columns)) in enumerate(pairs):
        assert found["image_size"][index].tolist() == [rows, columns]
        (fx, _, cx), (_, fy, cy), _ = scene.rig().intrinsics[0, camera].tolist()
        sx, sy = columns / width, rows / kept
        matrix = ((-fx * sx, 0, columns - cx * sx), (0, fy * sy, (cy - height + kept) * sy))
        wanted = torch.tensor(matrix, dtype=torch.float64)
        agree("intrinsics", found["intrinsics"][index, :2], wanted, 1e-12)


def augmentation() -> Tensors:
    """Return boxes after a fixed augmentation, and the augmentations drawn for some samples."""
    annotations = scene.annotations("augmented", 4, 3)
    annotations = replace(annotations, boxes=annotations.boxes.to(torch.float64))
    moved = BEV_AUGMENTATION.apply(annotations)
    drawn = []
    for seed, epoch, index in product((0, 5), (0, 3), (0, 81)):
        image_part, bev_part = draw_augmentation(EVERYTHING, seed, epoch, index)
        drawn.append([float(v) for v in (*vars(image_part).values(), *vars(bev_part).values())])
    return {
        "matrix": BEV_AUGMENTATION.matrix(),
        **vars(moved.boxes),
        "labels": moved.labels,
        "num_points": moved.num_points,
        "drawn": torch.tensor(drawn, dtype=torch.float64),
    }


def verify_augmentation(found: Tensors) -> None:
    cos, sin, scale = math.cos(0.7), math.sin(0.7), 1.04
    boxes = scene.boxes("augmented", 4).to(torch.float64)
    for row in range(4):
        (x, y, z), (vx, vy) = boxes.center[row].tolist(), boxes.velocity[row].tolist()
        yaw = math.pi - (float(boxes.yaw[row]) + 0.7)  # a mirrored x
        wanted = {
            "center": (-scale * (cos * x - sin * y), scale * (sin * x + cos * y), scale * z),
            "size": [scale * s for s in boxes.size[row].tolist()],
            "yaw": math.atan2(math.sin(yaw), math.cos(yaw)),
            "velocity": (-scale * (cos * vx - sin * vy), scale * (sin * vx + cos * vy)),
        }
        for key, value in wanted.items():
            agree(key, found[key][row], torch.tensor(value, dtype=torch.float64), 1e-12)
    matrix = ((-scale * cos, scale * sin, 0), (scale * sin, scale * cos, 0), (0, 0, scale))
    agree("matrix", found["matrix"], torch.tensor(matrix, dtype=torch.float64), 1e-12)
    assert found["labels"].tolist() == [0, 2, 1, 0]
    assert found["num_points"].tolist() == [3, 2, 1, 0]
    drawn = []
    for seed in product((0, 5), (0, 3), (0, 81)):
        u = np.random.default_rng(seed).uniform(size=7)
        angle = math.radians(22.5) * (2 * u[2] - 1)
        row = (0.8 + 0.4 * u[0], u[1] < 0.5, angle, 0.95 + 0.1 * u[3], u[4] < 0.5, u[5] < 0.5)
        drawn.append([float(value) for value in row])
    agree("drawn", found["drawn"], torch.tensor(drawn, dtype=torch.float64), 1e-12)
    assert all(len(found["drawn"][:, column].unique()) == 2 for column in (1, 4, 5))


def detections() -> Detections:
    """Return nine boxes of nine classes, some beyond their range, one without a velocity."""
    boxes = scene.boxes("results", 9)
    center = boxes.center * 9
    velocity = boxes.velocity.clone()
    velocity[2], velocity[4] = math.nan, 0.05
    scores = torch.linspace(0.9, 0.1, 9)
    return Detections(replace(boxes, center=center, velocity=velocity), scores, torch.arange(9))


def submission() -> Tensors:
    """Return the entries of a frame, converted to JSON entries and back to columns."""
    sample = frame(world_from_ego=pose(0), bev_from_ego=pose(1), sample_token="token")
    entries = results_of_frame(detections(), sample)
    assert {entry["sample_token"] for entry in entries} == {"token"}
    columns = check_boxes("token", entries)
    assert json.dumps(result_entries(columns, "token")) == json.dumps(entries)  # NaN equals NaN
    names = ("translation", "size", "rotation", "velocity", "score", "label")
    attributes = [("", *ATTRIBUTES).index(name) for name in columns.attribute]
    return {
        **{name: torch.from_numpy(getattr(columns, name)) for name in names},
        "attribute": torch.tensor(attributes),
    }


def verify_submission(found: Tensors) -> None:
    first, second = (torch.tensor(q, dtype=torch.float64) for q in QUATERNIONS)
    world_from_ego, ego_from_bev = scene.rotation(first), scene.rotation(second).T
    translations = torch.tensor(TRANSLATIONS, dtype=torch.float64)
    world_from_bev = world_from_ego @ ego_from_bev
    inputs = detections()
    boxes = inputs.boxes.to(torch.float64)
    kept = []
    for row in range(9):
        center = ego_from_bev @ (boxes.center[row] - translations[1])
        if float(center[:2].norm()) <= DETECTION_RANGE_M[DETECTION_CLASSES[row]]:
            kept.append(row)
            n = len(kept) - 1
            center_world = world_from_ego @ center + translations[0]
            agree("translation", found["translation"][n], center_world, 1e-9)
            yaw = boxes.yaw[row]
            heading = torch.stack((yaw.cos(), yaw.sin(), torch.zeros_like(yaw)))
            axis = scene.rotation(found["rotation"][n])[:, 0]
            agree("rotation", axis, world_from_bev @ heading, 1e-9)
            up = scene.rotation(found["rotation"][n])[:, 2]
            agree("upright", up, world_from_bev[:, 2], 1e-9)
            velocity = world_from_bev[:2, :2] @ boxes.velocity[row]
            agree("velocity", found["velocity"][n], velocity, 1e-9)
            moving = math.hypot(*velocity.tolist()) > 0.2
            name = ("", *ATTRIBUTES)[int(found["attribute"][n])]
            assert not name or name.endswith(("moving", "with_rider")) == moving
    assert 0 < len(kept) < 9 and {2, 4} <= set(kept)
    wanted = {"size": boxes.size[kept][:, (1, 0, 2)], "score": inputs.scores[kept].double()}
    agree_all(found, wanted, 1e-12)
    assert found["label"].tolist() == kept


CASES = {
    "prepared_images": Case(prepared_images, verify_prepared_images, absolute=LEVEL, whole=True),
    "prepared_rig": Case(prepared_rig, verify_prepared_rig),
    "augmentation": Case(augmentation, verify_augmentation, whole=True),
    "submission": Case(submission, verify_submission, whole=True),
}
