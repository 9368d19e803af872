"""Ten losses of the perspective head by loops over images, locations, classes and corners."""

from __future__ import annotations

import collections
import itertools
import math

import torch
from torch import Tensor

from bevstack.models.perspective.decode import RawBoxes
from bevstack.models.perspective.head import PerspectiveOutput
from bevstack.types.perspective import CameraAnnotations
from tests.losses.test_perspective_targets import naive_targets
from tests.models.perspective.test_decode import naive_decode, numpy_raw, rotation

BOX_PARTS = ("quaternion", "projected_center", "depth", "size")


def naive_focal(logit: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    if positive:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)


def naive_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def naive_giou_loss(p: list[float], t: list[float]) -> float:
    """Return 1 - GIoU of two boxes given as (left, top, right, bottom) distances."""
    areas = [(x[0] + x[2]) * (x[1] + x[3]) for x in (p, t)]
    low, high = ([f(a, b) for a, b in zip(p, t, strict=True)] for f in (min, max))
    shared, around = ((x[0] + x[2]) * (x[1] + x[3]) for x in (low, high))
    union = sum(areas) - shared
    return 1 - ((shared + 1) / (union + 1) - (around - union) / around)


def naive_corner_losses(
    predicted: dict, true: dict, parity: bool, full_weight_depth_m: float | None = None
) -> dict[str, float]:
    """Return four losses of one box; each replaces one part of the true box by the predicted."""
    losses = {}
    depth = float(true["depth"])
    weight = 1.0 if full_weight_depth_m is None else min(1.0, full_weight_depth_m / depth)
    for part in ("rotation", "center_px", "depth", "size"):
        mixed = {**true, part: predicted[part]}
        corners = corners_of(mixed)
        total = 0.0
        for c, a in itertools.product(range(8), range(3)):
            d = abs(float(corners[c][a] - true["corners"][c][a]))
            if d < 0.05:
                total += d * d / 2 if parity else d * d / 0.1
            else:
                total += d - 0.025
        losses[part] = weight * (total / 24 if parity else min(total / 24, 20.0))
    return losses


def corners_of(box: dict) -> list:
    u, v = box["center_px"]
    ray = box["inverse"] @ torch.tensor((float(u), float(v), 1.0), dtype=torch.float64)
    center = ray * box["depth"]
    signs = [(x, y, z) for x in (1, -1) for y, z in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return [center + box["rotation"] @ (box["size"] / 2 * s) for s in map(torch.tensor, signs)]


def as_tensors(box: dict) -> dict:
    return {name: torch.as_tensor(value).double() for name, value in box.items()}


def naive_box(output: PerspectiveOutput, image: int, p: int, label: int, k: Tensor) -> dict:
    raw = RawBoxes(output.quaternion, output.center_offset_px, output.depth, output.size)
    class_raw = RawBoxes(*(part[image, p][..., label] for part in vars(raw).values()))
    location = output.locations_px[p].double().numpy()
    decoded = naive_decode(numpy_raw(class_raw, ...), location, label, k.numpy())
    return as_tensors({**decoded, "inverse": torch.linalg.inv(k)})


def naive_true_box(true: CameraAnnotations, a: int, k: Tensor) -> dict:
    center = true.center_m[a].double()
    projected = k @ center
    box = {
        "rotation": rotation(true.quaternion[a]),
        "center_px": projected[:2] / projected[2],
        "depth": center[2],
        "size": true.size_m[a],
        "inverse": torch.linalg.inv(k),
    }
    box = as_tensors(box)
    return {**box, "corners": corners_of(box)}


def naive_losses(
    output: PerspectiveOutput,
    annotations: list[CameraAnnotations],
    intrinsics: Tensor,
    *,
    parity: bool = False,
    full_weight_depth_m: float | None = None,
) -> dict[str, float]:
    """Compute all ten losses by loops over images, locations, classes and corners."""
    rows = naive_targets(annotations)
    chosen = {(image, p): a for image, p, a in rows}
    sums = collections.defaultdict(float)
    images, locations, classes = output.logits.shape
    for image, p, k in itertools.product(range(images), range(locations), range(classes)):
        a = chosen.get((image, p))
        positive = a is not None and int(annotations[image].labels[a]) == k
        sums["class"] += naive_focal(float(output.logits[image, p, k]), positive)
    for image, p, a in rows:
        true, k = annotations[image], intrinsics[image]
        add_row(sums, output, true, (image, p, a), k, parity, full_weight_depth_m)
    n, c = max(len(rows), 1), max(sums["c"], 1e-6)
    attribute = sums["attribute"] / max(sums["c_attribute"], 1e-6)
    if parity:
        attribute = sums["entropy"] / max(sums["n_attribute"], 1)
    return {
        "class": sums["class"] / n,
        "box2d": sums["box2d"] / c,
        "centerness": sums["centerness"] / n,
        **{name: 2 * sums[name] / c for name in BOX_PARTS},
        "confidence": sums["confidence"] / c,
        "attribute": 0.2 * attribute,
        "speed": 0.2 * sums["speed"] / max(sums["c_speed"], 1e-6),
    }


def add_row(
    sums: dict[str, float],
    output: PerspectiveOutput,
    true: CameraAnnotations,
    at: tuple[int, int, int],
    intrinsics: Tensor,
    parity: bool,
    full_weight_depth_m: float | None,
) -> None:
    """Add the contribution of one positive location to every sum."""
    image, p, a = at
    label = int(true.labels[a])
    u, v = output.locations_px[p].tolist()
    left, top, right, bottom = true.boxes_px[a].tolist()
    sides = [u - left, v - top, right - u, bottom - v]
    across = min(sides[0], sides[2]) / max(sides[0], sides[2])
    c = math.sqrt(across * min(sides[1], sides[3]) / max(sides[1], sides[3]))
    sums["c"] += c
    sums["box2d"] += c * naive_giou_loss(output.ltrb_px[image, p].tolist(), sides)
    sums["centerness"] += naive_entropy(float(output.centerness[image, p]), c)
    predicted = naive_box(output, image, p, label, intrinsics)
    box = naive_true_box(true, a, intrinsics)
    parts = naive_corner_losses(predicted, box, parity, full_weight_depth_m).values()
    for name, loss in zip(BOX_PARTS, parts, strict=True):
        sums[name] += c * loss
    error = torch.stack(corners_of(predicted)) - torch.stack(box["corners"])
    target = math.exp(-float(error.abs().mean()))
    sums["confidence"] += c * naive_entropy(float(output.confidence[image, p, label]), target)
    if int(true.attributes[a]) >= 0:
        logits = output.attributes[image, p].double()
        entropy = float(logits.logsumexp(0) - logits[true.attributes[a]])
        sums["attribute"] += c * entropy
        sums["entropy"] += entropy
        sums["c_attribute"] += c
        sums["n_attribute"] += 1
    if not math.isnan(float(true.speed_mps[a])):
        d = abs(float(output.speed_mps[image, p] - true.speed_mps[a]))
        sums["speed"] += c * (d * d / 0.1 if d < 0.05 else d - 0.025)
        sums["c_speed"] += c
