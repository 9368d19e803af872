from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bevstack.config.perspective import PerspectiveConfig
from bevstack.losses.perspective_targets import assign_targets, centerness
from bevstack.models.perspective.head import level_locations
from bevstack.types.perspective import UNKNOWN_ATTRIBUTE, CameraAnnotations
from tests.models.bevformer_oracle import assert_close, read_case
from tests.models.perspective.perspective_cases import (
    NO_ATTRIBUTE,
    SHAPES,
    SMALL,
    changed,
    published_annotations,
    published_boxes,
    some_annotations,
    some_intrinsics,
)

SIZES = tuple(h * w for h, w in SHAPES)
ENDS = torch.tensor(SIZES).cumsum(0)
LOCATIONS = level_locations(SHAPES, SMALL.strides, device="cpu")


@pytest.mark.oracle("dd3d_targets")
def test_targets_match_the_published_code() -> None:
    case = read_case("dd3d_targets")
    config = PerspectiveConfig(official_parity=True)
    annotations, intrinsics = published_annotations(case)
    shapes = [tuple(s) for s in case.cfg["feature_shapes"]]
    sizes = [h * w for h, w in shapes]
    locations = level_locations(shapes, config.strides, device="cpu")
    targets = assign_targets(annotations, intrinsics, locations, sizes, config)
    wanted, images = case.outputs, len(annotations)

    # the published code flattens level by level, then image by image
    def theirs(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.flatten(0, 1) for part in x.split(sizes, 1)])

    assert torch.equal(theirs(targets.labels), wanted["labels"])
    index = torch.arange(images * sum(sizes))
    ours_at = index.view(images, -1)[targets.image, targets.location]
    their_index = theirs(index.view(images, -1)).argsort()[ours_at]
    assert torch.equal(their_index.sort().values, wanted["pos_inds"])
    assert_close(targets.ltrb_px, wanted["box2d_reg_targets"][their_index], case.tolerance)
    attribute = targets.attribute.masked_fill(targets.attribute == UNKNOWN_ATTRIBUTE, NO_ATTRIBUTE)
    assert torch.equal(attribute, wanted["attributes"][their_index])
    speed = targets.speed_mps.nan_to_num(nan=-1.0)
    assert_close(speed, wanted["speeds"][their_index], case.tolerance)
    assert torch.equal(targets.image, wanted["im_inds"][their_index])
    rank = torch.searchsorted(wanted["pos_inds"], their_index)
    stored = {
        key.removeprefix("box3d."): value[rank]
        for key, value in wanted.items()
        if key.startswith("box3d.")
    }
    boxes = published_boxes({**stored, "inv_K": stored["inv_intrinsics"]})
    for name in vars(boxes):
        assert_close(getattr(targets.boxes, name), getattr(boxes, name), case.tolerance)


def grown(box: list[float], stride: int, config: PerspectiveConfig) -> list[float]:
    """Return a box around the same centre, enlarged to the smallest size of its level."""
    low, high = [], []
    for a, b in ((box[0], box[2]), (box[1], box[3])):
        side = max(b - a, config.changes.min_extent * stride)
        low.append((a + b - side) / 2)
        high.append((a + b + side) / 2)
    return [*low, *high]


def naive_label(
    true: CameraAnnotations, level: int, location: list[float], config: PerspectiveConfig
) -> int | None:
    """Return the index of the true box that one location learns."""
    u, v = location
    bounds = (-1.0, *config.level_bounds_px, math.inf)
    best, best_area = None, math.inf
    for a, (left, top, right, bottom) in enumerate(true.boxes_px.tolist()):
        reach = config.center_radius * config.strides[level]
        middle_u, middle_v = (left + right) / 2, (top + bottom) / 2
        area = (right - left) * (bottom - top)
        farthest = max(u - left, v - top, right - u, bottom - v)
        left, top, right, bottom = grown(true.boxes_px[a].tolist(), config.strides[level], config)
        inside = max(left, middle_u - reach) < u < min(right, middle_u + reach) and max(
            top, middle_v - reach
        ) < v < min(bottom, middle_v + reach)
        if inside and bounds[level] <= farthest <= bounds[level + 1] and area < best_area:
            best, best_area = a, area
    return best


def naive_targets(
    annotations: list[CameraAnnotations], config: PerspectiveConfig = SMALL
) -> list[tuple[int, int, int]]:
    """Return (image, location, true box) of every positive location."""
    positives = []
    for image, true in enumerate(annotations):
        first = 0
        for level, size in enumerate(SIZES):
            for p in range(first, first + size):
                chosen = naive_label(true, level, LOCATIONS[p].tolist(), config)
                if chosen is not None:
                    positives.append((image, p, chosen))
            first += size
    return positives


@pytest.mark.parametrize("min_extent", [0.0, 1.75])
@pytest.mark.parametrize("counts", [(), (0,), (9,), (0, 12), (7, 0, 31), (0, 0)])
def test_targets_equal_loops(counts: tuple[int, ...], min_extent: float) -> None:
    annotations = [some_annotations(n, seed=n) for n in counts]
    intrinsics = some_intrinsics(len(counts))
    config = changed(SMALL, min_extent=min_extent)
    targets = assign_targets(annotations, intrinsics, LOCATIONS, SIZES, config)
    wanted = naive_targets(annotations, config)
    got = torch.stack((targets.image, targets.location, targets.annotation), -1)
    assert [tuple(row) for row in got.tolist()] == wanted
    assert sum(counts) < 10 or len({p[1] >= SIZES[0] for p in wanted}) == 2  # several levels
    labels = torch.full((len(counts), len(LOCATIONS)), 4)
    for m, (image, p, a) in enumerate(wanted):
        true = annotations[image]
        labels[image, p] = true.labels[a]
        assert int(targets.label[m]) == int(true.labels[a])
        u, v = LOCATIONS[p].tolist()
        left, top, right, bottom = true.boxes_px[a].tolist()
        sides = [max(side, 0) for side in (u - left, v - top, right - u, bottom - v)]
        assert targets.ltrb_px[m].tolist() == pytest.approx(sides, abs=1e-4)
        stride = SMALL.strides[int(torch.searchsorted(ENDS, p, right=True))]
        left, top, right, bottom = grown(true.boxes_px[a].tolist(), stride, config)
        sides = [u - left, v - top, right - u, bottom - v]
        across = min(sides[0], sides[2]) / max(sides[0], sides[2])
        central = math.sqrt(across * min(sides[1], sides[3]) / max(sides[1], sides[3]))
        assert float(targets.centerness[m]) == pytest.approx(central, abs=1e-4)
        x, y, z = true.center_m[a].double().tolist()
        k = intrinsics[image].tolist()
        projected = [(k[0][0] * x + k[0][1] * y + k[0][2] * z) / z, (k[1][1] * y + k[1][2] * z) / z]
        assert targets.boxes.projected_center_px[m].tolist() == pytest.approx(projected, abs=1e-3)
        assert_close(targets.boxes.centers()[m], true.center_m[a], 1e-4)
        assert torch.equal(targets.boxes.size_m[m], true.size_m[a])
        assert_close(targets.boxes.quaternion[m], true.quaternion[a], 1e-6)
        assert int(targets.attribute[m]) == int(true.attributes[a])
        assert torch.equal(targets.speed_mps[m].isnan(), true.speed_mps[a].isnan())
        assert targets.speed_mps[m].nan_to_num() == true.speed_mps[a].nan_to_num()
    assert torch.equal(targets.labels, labels)


def one_box(*sides: float) -> CameraAnnotations:
    return replace(some_annotations(1), boxes_px=torch.tensor([sides]))


def positives(annotations: list[CameraAnnotations], **changes) -> list[list[int]]:
    """Return the (u, v) and level of every positive location of the first image."""
    config = replace(SMALL, **changes)
    intrinsics = some_intrinsics(len(annotations))
    targets = assign_targets(annotations, intrinsics, LOCATIONS, SIZES, config)
    levels = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    first_image = targets.location[targets.image == 0]
    return [[*map(int, LOCATIONS[p]), int(levels[p])] for p in first_image]


def test_sides_are_outside_and_level_bounds_belong_to_both_levels() -> None:
    # 16 pixels from (16, 16) to every side: the bound between the first two levels
    assert positives([one_box(0, 0, 32, 32)], center_radius=0.1) == [[16, 16, 0], [16, 16, 1]]
    # locations 8 pixels from the middle lie on the side of a square of one stride
    finest = [p for p in positives([one_box(4, 4, 28, 28)], center_radius=1.0) if p[2] == 0]
    assert finest == [[16, 16, 0]]
    # locations on the side of the box itself are outside, too
    assert positives([one_box(8, 8, 24, 24)], center_radius=9.0) == [[16, 16, 0]]


def test_no_box_is_too_small_to_be_learned() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = 1 + torch.rand(60, 2, generator=generator) * torch.tensor((60.0, 36.0))
    tiny = torch.cat((corner, corner + 0.5 + 3 * torch.rand(60, 2, generator=generator)), -1)
    boxes = [one_box(*box) for box in tiny.tolist()]  # one per image
    learned, unlearned = (
        assign_targets(
            boxes, some_intrinsics(60), LOCATIONS, SIZES, changed(SMALL, min_extent=extent)
        )
        for extent in (1.25, 0.0)
    )
    assert set(learned.image.tolist()) == set(range(60))
    assert len(set(unlearned.image.tolist())) < 20  # as FCOS: locations are 8 pixels apart
    assert (learned.centerness > 0).all() and (learned.ltrb_px >= 0).all()


def test_smallest_box_wins_and_the_first_of_equals() -> None:
    boxes = torch.tensor([(2, 2, 31, 31.0), (10, 10, 23, 22), (9, 10, 22, 22)])
    true = replace(some_annotations(3), boxes_px=boxes)
    targets = assign_targets([true], some_intrinsics(1), LOCATIONS, SIZES, SMALL)
    at = (targets.location == int((LOCATIONS[: SIZES[0]] == 16).all(-1).nonzero())).nonzero()
    assert targets.annotation[at].tolist() == [[1]]


def test_first_box_centred_at_u_0_removes_all_positives_of_its_image_only_for_parity() -> None:
    at_zero = CameraAnnotations(
        *(
            torch.cat((a, b))
            for a, b in zip(
                vars(one_box(-9, 0, 9, 20)).values(),
                vars(one_box(30, 8, 50, 28)).values(),
                strict=True,
            )
        )
    )
    elsewhere = one_box(30, 8, 50, 28)
    assert positives([at_zero, elsewhere])
    assert positives([at_zero, elsewhere], official_parity=True) == []
    assert positives([elsewhere, at_zero], official_parity=True) == positives([elsewhere, at_zero])


def test_centerness_is_one_in_the_middle() -> None:
    sides = torch.tensor(((4.0, 3, 4, 3), (1, 3, 4, 3), (1, 2, 4, 8)))
    assert_close(centerness(sides), torch.tensor((1.0, 0.5, 0.25)), 1e-6)
    assert centerness(torch.zeros(0, 4)).shape == (0,)


def test_length_of_a_quaternion_means_nothing() -> None:
    true = some_annotations(9)
    long = replace(true, quaternion=true.quaternion * -3)
    args = (some_intrinsics(1), LOCATIONS, SIZES, SMALL)
    boxes, same = (assign_targets([t], *args).boxes for t in (true, long))
    assert_close(same.corners(), boxes.corners(), 1e-5)


def test_labels_and_attributes_out_of_range_are_refused() -> None:
    true = some_annotations(3)
    cases = (
        (replace(true, labels=torch.tensor((0, 4, 1))), r"labels of image 1 .* 0\.\.3; got 0\.\.4"),
        (replace(true, attributes=torch.tensor((0, 3, -1))), r"attributes of image 1 .* -1\.\.2"),
    )
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            assign_targets([true, wrong], some_intrinsics(2), LOCATIONS, SIZES, SMALL)
    behind = true.center_m * torch.tensor(((1.0,), (1,), (-1,)))
    with pytest.raises(ValueError, match=r"in front of their camera; got box 2 of image 0 with"):
        assign_targets(
            [replace(true, center_m=behind)], some_intrinsics(1), LOCATIONS, SIZES, SMALL
        )
    with pytest.raises(ValueError, match=r"intrinsics must have shape \(1, 3, 3\)"):
        assign_targets([true], some_intrinsics(2), LOCATIONS, SIZES, SMALL)
