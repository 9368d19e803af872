"""Targets of the traffic head against loops over locations, regions and elements."""

from __future__ import annotations

import math

import pytest
import torch

from bevstack.losses.traffic_targets import dense_targets, region_targets
from bevstack.models.traffic.dense import Regions
from bevstack.types.traffic_batch import LAMP_ONLY, LIGHT, SIGN, TrafficTargets
from tests.models.traffic.cases import two_rigs

SHAPE = (16, 32)  # of the map at stride 4 of images of 64x128


def naive_dense(batch):
    """Return heat and counts, cell by cell."""
    kinds, (rows, columns) = batch.labelled.shape[1], SHAPE
    heat = torch.zeros(batch.num_images, kinds, rows, columns)
    counts = torch.zeros(heat.shape, dtype=torch.bool)
    targets = batch.targets
    for image in range(batch.num_images):
        height, width = batch.views.image_size[image].tolist()
        for kind in range(kinds):
            own = [
                e
                for e in range(len(targets))
                if targets.image[e] == image and targets.kind[e] == kind
            ]
            for row in range(rows):
                for column in range(columns):
                    u, v = 4 * column + 0.5, 4 * row + 0.5
                    fine = u < width and v < height and bool(batch.labelled[image, kind])
                    learned = False
                    for e in own:
                        left, top, right, bottom = targets.boxes_px[e].tolist()
                        if targets.ignored[e]:
                            if left - 4 < u < right + 4 and top - 4 < v < bottom + 4:
                                fine = False
                            continue
                        value = _peak(targets.boxes_px[e].tolist(), u, v)
                        heat[image, kind, row, column] = max(
                            value, float(heat[image, kind, row, column])
                        )
                        inside = u < width and v < height and bool(batch.labelled[image, kind])
                        learned |= value >= 0.3 and inside
                    counts[image, kind, row, column] = fine or learned
    return heat, counts


def _peak(box, u, v):
    left, top, right, bottom = box
    middle = ((left + right) / 2, (top + bottom) / 2)
    sigma = [max((right - left) / 6, 2.2), max((bottom - top) / 6, 2.2)]

    def exponent(x, y):
        return (((x - middle[0]) / sigma[0]) ** 2 + ((y - middle[1]) / sigma[1]) ** 2) / 2

    least = min(
        exponent(4 * c + 0.5, 4 * r + 0.5) for r in range(SHAPE[0]) for c in range(SHAPE[1])
    )
    return math.exp(least - exponent(u, v))


def test_every_location_has_the_target_of_a_loop_over_elements():
    batch = two_rigs()
    found = dense_targets(batch.targets, batch.views, batch.labelled, SHAPE)
    heat, counts = naive_dense(batch)
    # float32 exponentials against Python's
    torch.testing.assert_close(found.heat, heat, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.counts, counts)
    assert int((found.heat == 1).sum()) == 2  # one cell an element that is learned
    assert not found.counts[:, LAMP_ONLY].any()  # lamps have no labels here
    image, kind, row, column = found.location
    for place in range(len(image)):
        cell = found.heat[image[place], kind[place], row[place], column[place]]
        assert cell >= 0.3 and cell == found.weight[place]
        assert batch.targets.kind[found.element[place]] == kind[place]


def test_a_low_or_hidden_element_is_neither_positive_nor_negative():
    batch = two_rigs()
    assert batch.targets.ignored.tolist() == [False, False, True]
    found = dense_targets(batch.targets, batch.views, batch.labelled, SHAPE)
    left, top, right, bottom = batch.targets.boxes_px[2].tolist()
    row, column = round((top + bottom) / 8), round((left + right) / 8)
    assert not found.counts[0, LIGHT, row, column]
    assert found.counts[0, SIGN, row, column]  # only lights are hidden from learning there


def test_without_elements_every_location_inside_is_negative():
    batch = two_rigs()
    found = dense_targets(TrafficTargets.empty(), batch.views, batch.labelled, SHAPE)
    assert not found.heat.any() and not len(found.element)
    assert int(found.counts[1, LIGHT].sum()) == 12 * 32  # 48x128 pixels


def test_a_region_belongs_to_the_element_that_overlaps_it_most():
    batch = two_rigs()
    boxes = batch.targets.boxes_px
    shifted = boxes[0] + 1.0
    regions = Regions(
        torch.tensor([0, 0, 1, 0, 0]),
        torch.tensor([LIGHT, SIGN, LIGHT, LIGHT, LIGHT]),
        torch.stack((shifted, boxes[0], boxes[0], boxes[2], torch.tensor([0.0, 0, 9, 9]))),
        torch.zeros(5),
    )
    found = region_targets(regions, batch.targets, batch.labelled)
    # its light; a sign there; another image; an ignored light; nothing
    assert found.element.tolist() == [0, -1, -1, -1, -1]
    assert found.counts.tolist() == [True, True, True, False, True]
    empty = region_targets(regions, TrafficTargets.empty(), batch.labelled)
    assert empty.element.tolist() == [-1] * 5 and empty.counts.all()


@pytest.mark.parametrize("share", [0.29, 0.31])
def test_a_region_counts_from_three_tenths_of_overlap(share):
    batch = two_rigs()
    left, top, right, bottom = batch.targets.boxes_px[0].tolist()
    box = torch.tensor([[left, top, left + (right - left) * share, bottom]])
    regions = Regions(torch.tensor([0]), torch.tensor([LIGHT]), box, torch.zeros(1))
    found = region_targets(regions, batch.targets, batch.labelled)
    assert (found.element[0] >= 0) == (share > 0.3)
