from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.visible_pairs import find_visible_pairs
from tests.models.bevformer_oracle import assert_close, grid_of, pack_pairs, read_case, rig_of
from tests.models.small_models import ring_rig

CASES = [
    f"point_sampling_real_old{frame}_{shape}" for frame in "01" for shape in ("20x20x4", "7x9x3")
]


@pytest.mark.parametrize("name", [pytest.param(c, marks=pytest.mark.oracle(c)) for c in CASES])
def test_projection_and_visibility_match_the_published_code(name: str) -> None:
    case = read_case(name)
    heights = case.cfg["num_points_in_pillar"]
    grid = grid_of((case.cfg["bev_h"], case.cfg["bev_w"]), case.inputs["pc_range"].tolist())
    assert_close(grid.cell_centers(), case.outputs["ref_2d"][0, :, 0], case.tolerance)
    pillars = grid.pillar_points(heights)  # (Q, Z, 3)
    assert_close(pillars.transpose(0, 1), case.outputs["ref_3d"][0], case.tolerance)
    rig = rig_of(case.inputs["lidar2img"], case.image_size)
    pairs = find_visible_pairs(rig, grid, num_heights=heights, padded_size=case.image_size)
    uv = case.outputs["reference_points_cam"].transpose(0, 1)  # (B, N, Q, Z, 2)
    wanted = pack_pairs(uv, case.outputs["bev_mask"].transpose(0, 1))
    for field in ("camera", "query", "num_cameras"):
        assert torch.equal(getattr(pairs, field), getattr(wanted, field)), field
    assert_close(pairs.anchors, wanted.anchors, case.tolerance)


def test_pairs_equal_those_of_a_loop_over_points() -> None:
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), z_range_m=(-1, 3), shape=(4, 5))
    rig = ring_rig(2, 3, (40, 56))[:, 0]
    padded = (48, 64)
    pairs = find_visible_pairs(rig, grid, num_heights=2, padded_size=padded)
    anchors = {}
    for row in range(pairs.camera.shape[0]):
        anchors[int(pairs.camera[row]), int(pairs.query[row])] = pairs.anchors[row]
    wanted = 0
    for b in range(2):
        for n in range(3):
            pose = torch.linalg.inv(rig.bev_from_cam[b, n])
            for q in range(20):
                column, row = q % 5, q // 5
                uv, visible = [], False
                for z in (-0.5, 2.5):
                    point = (-9 + 20 * (column + 0.5) / 5, -8 + 14 * (row + 0.5) / 4, z, 1.0)
                    x, y, depth, _ = (pose @ torch.tensor(point, dtype=torch.float64)).tolist()
                    fx, cx = rig.intrinsics[b, n, 0, 0], rig.intrinsics[b, n, 0, 2]
                    fy, cy = rig.intrinsics[b, n, 1, 1], rig.intrinsics[b, n, 1, 2]
                    u = float((fx * x + cx * depth) / max(depth, 1e-5))
                    v = float((fy * y + cy * depth) / max(depth, 1e-5))
                    uv.append((u / padded[1], v / padded[0]))
                    visible = visible or (depth > 1e-5 and 0 < u < 56 and 0 < v < 40)
                assert visible == ((b * 3 + n, b * 20 + q) in anchors)
                if visible:
                    wanted += 1
                    # float32 output of numbers up to 1e7
                    torch.testing.assert_close(
                        anchors[b * 3 + n, b * 20 + q], torch.tensor(uv), rtol=1e-5, atol=1e-5
                    )
    assert wanted == len(anchors) > 10


def test_padding_of_images_makes_no_pairs() -> None:
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), z_range_m=(-1, 3), shape=(12, 15))
    rig = ring_rig(1, 3, (40, 56))[:, 0]
    narrow = find_visible_pairs(rig, grid, num_heights=4, padded_size=(64, 96))
    whole = replace(rig, image_size=torch.tensor((64, 96)).expand(1, 3, 2))
    wide = find_visible_pairs(whole, grid, num_heights=4, padded_size=(64, 96))
    assert narrow.camera.shape[0] < wide.camera.shape[0]
    assert bool((narrow.anchors.amax() < math.inf).all())


def test_lost_camera_is_in_no_pair_even_with_a_broken_calibration() -> None:
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), z_range_m=(-1, 3), shape=(4, 5))
    rig = ring_rig(1, 3, (40, 56))[:, 0]
    whole = find_visible_pairs(rig, grid, num_heights=2, padded_size=(48, 64))
    intrinsics = rig.intrinsics.clone()
    intrinsics[0, 1] = math.nan
    mask = torch.tensor([[True, False, True]])
    broken = replace(rig, intrinsics=intrinsics, camera_mask=mask)
    pairs = find_visible_pairs(broken, grid, num_heights=2, padded_size=(48, 64))
    kept = whole.camera != 1
    assert bool((~kept).any())
    assert torch.equal(pairs.camera, whole.camera[kept])
    assert torch.equal(pairs.anchors, whole.anchors[kept])


def test_all_cameras_lost_leaves_no_pair() -> None:
    grid = BEVGrid(shape=(4, 5))
    rig = ring_rig(2, 3, (40, 56))[:, 0]
    rig = replace(rig, camera_mask=torch.zeros(2, 3, dtype=torch.bool))
    pairs = find_visible_pairs(rig, grid, num_heights=2, padded_size=(48, 64))
    assert pairs.anchors.shape == (0, 2, 2)
    assert pairs.num_cameras.tolist() == [[0] * 20] * 2


@pytest.mark.parametrize("step", [1, 7, 64, 4096])
def test_padding_fills_up_to_the_step_and_drops_no_pair(step: int) -> None:
    grid = BEVGrid(x_range_m=(-9, 11), y_range_m=(-8, 6), z_range_m=(-1, 3), shape=(4, 5))
    rig = ring_rig(2, 3, (40, 56))[:, 0]
    exact = find_visible_pairs(rig, grid, num_heights=2, padded_size=(48, 64))
    count = exact.camera.shape[0]
    padded = find_visible_pairs(rig, grid, num_heights=2, padded_size=(48, 64), capacity_step=step)
    rows = padded.camera.shape[0]
    assert rows % step == 0
    assert count <= rows < count + step
    for name in ("camera", "query", "anchors"):
        assert torch.equal(getattr(padded, name)[:count], getattr(exact, name))
    assert torch.equal(padded.num_cameras, exact.num_cameras)
    assert (padded.query[count:] == 2 * 20).all()
    assert (padded.anchors[count:] < -10).all()


def test_a_capacity_step_under_one_is_refused() -> None:
    rig = ring_rig(1, 2, (40, 56))[:, 0]
    with pytest.raises(ValueError, match="capacity_step must be positive; got 0"):
        find_visible_pairs(rig, BEVGrid(), num_heights=2, padded_size=(40, 56), capacity_step=0)
