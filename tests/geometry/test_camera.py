"""Camera rigs: projection against a pinhole in plain loops, and image operations on pixels."""

import numpy as np
import pytest
import torch

from bevstack.geometry import CameraRig, invert_se3
from bevstack.geometry.camera import check_intrinsics
from tests.geometry.test_se3 import random_poses


def make_rig(*leading, cameras=3, seed=0):
    rng = np.random.default_rng(seed)
    intrinsics = torch.zeros(*leading, cameras, 3, 3, dtype=torch.float64)
    intrinsics[..., 0, 0] = torch.from_numpy(rng.uniform(300, 500, (*leading, cameras)))
    intrinsics[..., 1, 1] = torch.from_numpy(rng.uniform(300, 500, (*leading, cameras)))
    intrinsics[..., 0, 2] = torch.from_numpy(rng.uniform(150, 250, (*leading, cameras)))
    intrinsics[..., 1, 2] = torch.from_numpy(rng.uniform(80, 120, (*leading, cameras)))
    intrinsics[..., 2, 2] = 1
    size = torch.tensor([[200, 400]]).expand(*leading, cameras, 2)
    mask = torch.ones(*leading, cameras, dtype=torch.bool)
    return CameraRig(intrinsics, random_poses(*leading, cameras, seed=seed), size, mask)


def test_projection_equals_a_pinhole_in_plain_loops():
    rig = make_rig(2, cameras=3)
    points = torch.from_numpy(np.random.default_rng(1).normal(scale=20, size=(2, 5, 3)))
    uv, depth = rig.project(points)
    assert uv.shape == (2, 3, 5, 2)
    assert depth.shape == (2, 3, 5)
    for b, n, p in np.ndindex(2, 3, 5):
        pose = rig.bev_from_cam[b, n].numpy()
        x, y, z = pose[:3, :3].T @ (points[b, p].numpy() - pose[:3, 3])
        assert depth[b, n, p].item() == pytest.approx(z, abs=1e-10)
        if z > 0.1:
            k = rig.intrinsics[b, n].numpy()
            expected = (k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2])
            np.testing.assert_allclose(uv[b, n, p].numpy(), expected, atol=1e-7)


def test_visible_points_are_in_front_of_a_working_camera_and_in_its_image():
    rig = make_rig(cameras=2)
    rig.camera_mask[1] = False
    uv = torch.tensor([[10.0, 10], [10, 10], [0, 10], [400, 10], [10, 200], [399.9, 199.9]])
    uv = uv.double().expand(2, 6, 2)
    depth = torch.tensor([1.0, -1, 1, 1, 1, 1]).double().expand(2, 6)
    assert rig.visible(uv, depth)[0].tolist() == [True, False, False, False, False, True]
    assert not rig.visible(uv, depth)[1].any()


def pixel_of_a_point(rig, points):
    return rig.project(points)[0]


def test_point_stays_on_its_pixel_after_resize_crop_and_flip():
    rig = make_rig(2, cameras=3)
    in_camera = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 3, 1, 3)))
    in_camera[..., 2] = 5.0
    pose = rig.bev_from_cam
    points = (pose[..., None, :3, :3] @ in_camera[..., None]).squeeze(-1) + pose[..., None, :3, 3]
    for b, n in np.ndindex(2, 3):
        one = rig[b : b + 1]
        point = points[b : b + 1, n]
        uv = pixel_of_a_point(one, point)[0, n, 0]
        resized = pixel_of_a_point(one.resized((100, 600)), point)[0, n, 0]
        torch.testing.assert_close(resized, uv * torch.tensor([1.5, 0.5]).double())
        cropped = pixel_of_a_point(one.cropped(7, 30, (90, 300)), point)[0, n, 0]
        torch.testing.assert_close(cropped, uv - torch.tensor([7.0, 30]).double())
        flipped = pixel_of_a_point(one.flipped(), point)[0, n, 0]
        torch.testing.assert_close(flipped, torch.stack((400 - uv[0], uv[1])))


def test_image_operations_do_not_change_their_input():
    rig = make_rig(cameras=2)
    before = rig.intrinsics.clone()
    rig.resized((50, 50)), rig.cropped(1, 2, (3, 4)), rig.flipped()
    assert torch.equal(rig.intrinsics, before)
    assert rig.image_size.tolist() == [[200, 400], [200, 400]]


def test_moving_rig_and_points_together_keeps_the_projection():
    rig = make_rig(2, cameras=3)
    motion = random_poses(2, seed=9)
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 5, 3)))
    uv, depth = rig.project(points)
    back = invert_se3(motion)
    moved_points = points @ back[:, :3, :3].transpose(-1, -2) + back[:, None, :3, 3]
    uv_moved, depth_moved = rig.moved(back).project(moved_points)
    torch.testing.assert_close(depth_moved, depth, atol=1e-9, rtol=0)
    ahead = depth > 0.1
    torch.testing.assert_close(uv_moved[ahead], uv[ahead], atol=1e-6, rtol=1e-9)


def test_stack_and_select_are_inverse():
    rigs = [make_rig(cameras=4, seed=s) for s in range(3)]
    stacked = CameraRig.stack(rigs)
    assert stacked.num_cameras == 4
    assert torch.equal(stacked[1].intrinsics, rigs[1].intrinsics)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 0, 0.0), (1, 1, float("nan")), (2, 2, 0.0), (1, 0, 3.0)]
)
def test_an_error_names_an_invalid_intrinsic_matrix(row, column, value):
    intrinsics = make_rig(cameras=3).intrinsics
    intrinsics[2, row, column] = value
    with pytest.raises(ValueError, match=r"intrinsics must be .*\[2"):
        check_intrinsics("intrinsics", intrinsics)
