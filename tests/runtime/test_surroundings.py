"""Ground around a frame of a data set: the path driven so far, and the map, in the ego frame."""

from __future__ import annotations

import numpy as np

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.runtime import surroundings
from bevstack.runtime.surroundings import SceneSurroundings
from bevstack.tables.street_map import StreetMap
from tests.tables.tiny_root import VERSION, write_tiny_root

SCENE = "scene-0103"


def test_path_and_lanes_are_in_the_frame_of_the_vehicle(tmp_path, monkeypatch) -> None:
    dataset = NuScenesDataset(write_tiny_root(tmp_path / "root"), VERSION, scenes=[SCENE])
    frames = [dataset.frame(index) for index in range(len(dataset))]
    poses = [np.asarray(frame.world_from_ego) for frame in frames]
    around = SceneSurroundings(dataset, SCENE)
    start = SceneSurroundings(dataset, SCENE).around(frames[0]).trail
    assert start is not None and len(start) == 1
    here, forward = poses[2][:2, 3], poses[2][:2, 0]
    square = here + np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])

    class Known(StreetMap):
        def drivable_around(self, center_m, reach_m):
            np.testing.assert_allclose(center_m, here)
            return (square,)

        def lanes_around(self, center_m, reach_m):
            return (np.stack((here, here + 4 * forward)),)

    known = Known(mask=np.zeros((0, 0), np.uint8), corner_m=here, pixels_per_m=1.0, lanes=())
    monkeypatch.setattr(surroundings, "read_street_map", lambda *region: known)
    found = around.around(frames[2])
    # Ground is flat: it moves by the heading, without the small pitch and roll of the vehicle.
    np.testing.assert_allclose(found.lanes[0], [[0, 0], [4, 0]], atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(found.drivable[0], axis=1), 2**0.5, atol=0.02)
    # The positions of the frames before, oldest first, and the current one.
    expected = [np.linalg.inv(poses[2]) @ pose[:, 3] for pose in poses[:3]]
    np.testing.assert_allclose(found.trail, np.array(expected)[:, :2], atol=0.02)


def test_path_is_that_of_the_last_seconds(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(surroundings, "TRAIL_S", 0.6)
    dataset = NuScenesDataset(write_tiny_root(tmp_path / "root"), VERSION, scenes=[SCENE])
    found = SceneSurroundings(dataset, SCENE).around(dataset.frame(3))
    assert found.trail is not None and len(found.trail) == 2
    assert found.drivable == () and found.lanes == ()
