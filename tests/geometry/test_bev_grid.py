"""Cells and pillars of the BEV grid against numbers calculated by hand."""

import pytest
import torch

from bevstack.geometry import BEVGrid, nominal_bev_from_ego, transform_points

GRID = BEVGrid(x_range_m=(-10, 30), y_range_m=(-6, 6), z_range_m=(-5, 3), shape=(3, 5))


def test_token_index_is_row_times_columns_plus_column_and_row_runs_along_y():
    centers = GRID.cell_centers()
    assert centers.shape == (15, 2)
    torch.testing.assert_close(centers[2 * 5 + 1], torch.tensor([1.5 / 5, 2.5 / 3]))
    metres = GRID.to_metres(torch.cat((centers[11], torch.tensor([0.5]))))
    torch.testing.assert_close(metres, torch.tensor([-10 + 1.5 * 8, -6 + 2.5 * 4, -1.0]))


def test_pillar_anchors_of_the_published_range():
    points = BEVGrid(z_range_m=(-5, 3), shape=(2, 2)).pillar_points(4)
    z = BEVGrid(z_range_m=(-5, 3)).to_metres(points)[0, :, 2]
    torch.testing.assert_close(z, torch.tensor([-4.5, -4.5 + 7 / 3, -4.5 + 14 / 3, 2.5]))


def test_a_single_anchor_lies_in_the_middle():
    assert GRID.pillar_points(1)[0, 0, 2] == 0.5


def test_metres_and_normalised_are_inverse():
    points = torch.rand(4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(GRID.to_normalised(GRID.to_metres(points)), points)


def test_the_border_is_outside_the_grid():
    points = torch.tensor([[30.0, 0, 0], [29.9, 5.9, 99.0], [0, -6, 0], [-10.1, 0, 0]])
    assert GRID.contains(points).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_range_m": (1, 1)}, "grid.x_range_m must be .* with low < high"),
        ({"shape": (0, 4)}, "grid.shape must be two positive cell counts"),
        ({"frame": "world"}, "grid.frame must be one of"),
    ],
)
def test_contradictory_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BEVGrid(**change)


def test_nominal_lidar_frame_has_x_right_and_y_forward():
    ahead_left_up = torch.tensor([[10.944, 2.0, 2.84]], dtype=torch.float64)
    lidar = transform_points(nominal_bev_from_ego("lidar"), ahead_left_up)
    torch.testing.assert_close(lidar, torch.tensor([[-2.0, 10.0, 1.0]], dtype=torch.float64))
    assert torch.equal(nominal_bev_from_ego("ego"), torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="frame must be one of"):
        nominal_bev_from_ego("world")
