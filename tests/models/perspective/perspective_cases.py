"""Stored cases of the perspective head in our conventions, and small random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.perspective import PerspectiveConfig
from bevstack.models.perspective.head import (
    PerspectiveHead,
    PerspectiveOutput,
    level_locations,
)
from bevstack.types.perspective import UNKNOWN_ATTRIBUTE, CameraAnnotations, CameraBoxes
from tests.models.bevformer_oracle import Case, load_published

PUBLISHED = "fcos3d_bbox_head."
OURS = "perspective_head."
NO_ATTRIBUTE = 3  # in the stored cases
SHAPES = ((6, 9), (3, 5), (2, 3))
SMALL = PerspectiveConfig(
    strides=(8, 16, 32),
    num_convs=2,
    mean_depth_m=(30.0, 15.0, 8.0),
    std_depth_m=(12.0, 6.0, 3.0),
    canonical_size_m=((4.6, 1.9, 1.7), (0.7, 0.6, 1.8), (7.0, 2.5, 2.8), (1.7, 0.6, 1.3)),
    level_bounds_px=(16, 32),
)


def changed(config: PerspectiveConfig, **changes: object) -> PerspectiveConfig:
    """Return the configuration with further changes to DD3D."""
    return replace(config, small_images=replace(config.changes, **changes))


def published_head(case: Case, config: PerspectiveConfig | None = None) -> PerspectiveHead:
    """Return a head with a stored case's width and weights, renamed by the tables for files."""
    channels = case.weights["attr_logits.weight"].shape[1]
    head = PerspectiveHead(config or PerspectiveConfig(official_parity=True), channels=channels)
    load_published(head, case.weights, published=PUBLISHED, ours=OURS)
    return head


def published_output(maps: dict[str, Tensor], locations: Sequence[Tensor]) -> PerspectiveOutput:
    """Return an output made of stored maps (I, channels, H, W), named ``name.level``."""

    def joined(name: str) -> Tensor:
        levels = [maps[f"{name}.{level}"] for level in range(len(locations))]
        return torch.cat([x.flatten(2).transpose(1, 2) for x in levels], 1)

    return PerspectiveOutput(
        logits=joined("logits"),
        ltrb_px=joined("box2d_reg"),
        centerness=joined("centerness")[..., 0],
        quaternion=joined("quat").unflatten(-1, (4, 10)),
        center_offset_px=joined("ctr").unflatten(-1, (2, 10)),
        depth=joined("depth"),
        size=joined("size").unflatten(-1, (3, 10))[:, :, [1, 0, 2]],  # (w, l, h)
        confidence=joined("conf"),
        attributes=joined("attr"),
        speed_mps=joined("speed")[..., 0],
        locations_px=torch.cat(list(locations)),
        level_sizes=tuple(len(x) for x in locations),
    )


def published_boxes(parts: dict[str, Tensor], prefix: str = "") -> CameraBoxes:
    """Convert stored 3D boxes: depth (M, 1), size (w, l, h)."""
    return CameraBoxes(
        parts[prefix + "quat"],
        parts[prefix + "proj_ctr"],
        parts[prefix + "depth"].squeeze(-1),
        parts[prefix + "size"][:, [1, 0, 2]],
        parts["inv_K"],
    )


def published_annotations(case: Case) -> tuple[list[CameraAnnotations], Tensor]:
    """Return the true boxes of every image of a stored case, and the intrinsics (I, 3, 3)."""
    annotations = []
    inverses = case.inputs["inv_K"]
    for image, inverse in enumerate(inverses):
        part = {
            key.removeprefix(f"gt.{image}."): value
            for key, value in case.inputs.items()
            if key.startswith(f"gt.{image}.")
        }
        count = len(part["classes"])
        boxes = published_boxes({**part, "inv_K": inverse.expand(count, 3, 3)})
        attributes, speeds = part["attributes"], part["speeds"]
        annotations.append(
            CameraAnnotations(
                part["boxes"],
                part["classes"],
                boxes.quaternion,
                boxes.centers(),
                boxes.size_m,
                torch.where(attributes == NO_ATTRIBUTE, UNKNOWN_ATTRIBUTE, attributes),
                torch.where(speeds < 0, math.nan, speeds),
            )
        )
    return annotations, torch.linalg.inv(inverses.double())


def some_intrinsics(images: int) -> Tensor:
    """Return different intrinsics for every image, (I, 3, 3) float64."""
    matrices = [
        [[30.0 + 7 * i, 0.5 * i, 34.0 - i], [0.0, 33.0 + 5 * i, 22.0 + i], [0.0, 0.0, 1.0]]
        for i in range(images)
    ]
    return torch.tensor(matrices, dtype=torch.float64).view(images, 3, 3)


def some_annotations(count: int, *, classes: int = 4, seed: int = 0) -> CameraAnnotations:
    """Return boxes of many sizes in 72 x 48 pixels, some with unknown speed or attribute."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    middle = uniform(count, 2) * torch.tensor((72.0, 48.0))
    half = 4 + uniform(count, 2) ** 2 * torch.tensor((32.0, 22.0))
    speed = uniform(count) * 9
    speed[1::3] = math.nan
    attributes = torch.randint(-1, 3, (count,), generator=generator)
    return CameraAnnotations(
        torch.cat((middle - half, middle + half), -1),
        torch.randint(0, classes, (count,), generator=generator),
        torch.nn.functional.normalize(uniform(count, 4) - 0.5, dim=-1),
        (uniform(count, 3) - 0.5) * 10 + torch.tensor((0.0, 0.0, 14.0)),
        uniform(count, 3) * 4 + 0.3,
        attributes,
        speed,
    )


def some_output(
    images: int, *, shapes: Sequence[tuple[int, int]] = SHAPES, classes: int = 4, seed: int = 0
) -> PerspectiveOutput:
    """Return random predictions of realistic sizes."""
    generator = torch.Generator().manual_seed(seed)
    locations = level_locations(shapes, SMALL.strides, device="cpu")
    count = len(locations)

    def normal(*shape: int) -> Tensor:
        return torch.randn(images, count, *shape, generator=generator)

    return PerspectiveOutput(
        logits=normal(classes) - 1,
        ltrb_px=(normal(4) * 9 + 8).relu(),
        centerness=normal(),
        quaternion=normal(4, classes),
        center_offset_px=normal(2, classes) * 7,
        depth=normal(classes) * 9 + 12,
        size=normal(3, classes) * 0.4,
        confidence=normal(classes),
        attributes=normal(3),
        speed_mps=normal().relu() * 4,
        locations_px=locations,
        level_sizes=tuple(h * w for h, w in shapes),
    )
