"""Turning vehicles and a turning ego: smooth paths from lane to lane, slow in the bend."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.population.collision_check import rectangles_overlap
from bevstack.synthetic.population.population import Role
from bevstack.synthetic.population.traffic import DT_S, LEAD_IN_S
from bevstack.synthetic.scene import Scene, build_scene
from bevstack.synthetic.spec import WorldSpec
from bevstack.synthetic.streets.ground import ROAD

EGO = (4.6, 1.9)  # length and width; its centre is 1.3 m ahead of the rear axle


def test_some_vehicles_turn_at_junctions_slowly_and_along_their_heading(scenes: list[Scene]):
    turned = 0
    for scene in scenes:
        if not scene.layout.crossings:
            continue
        for item in scene.objects:
            track = item.track
            yaw = track.pose[track.alive, 2]
            if item.role is not Role.TRAFFIC or len(yaw) < 3 or np.ptp(yaw) < 1.2:
                continue
            rate = np.abs(np.diff(yaw)) / 0.1
            if rate.max() < 0.3:
                continue  # the road itself bends, at a larger radius
            turned += 1
            assert rate.max() < 1.6  # rad/s: no vehicle spins
            step = np.diff(track.pose[:, :2], axis=0)[track.alive[1:] & track.alive[:-1]]
            speed = track.speed_mps[1:][track.alive[1:] & track.alive[:-1]]
            distance = np.hypot(*step.T)
            np.testing.assert_allclose(distance, 0.1 * speed, atol=0.08)
            moving = distance > 0.05
            direction = np.arctan2(step[moving, 1], step[moving, 0])
            heading = track.pose[1:, 2][track.alive[1:] & track.alive[:-1]][moving]
            assert np.cos(direction - heading).min() > 0.95
    assert turned >= 3


def turns(scene: Scene) -> bool:
    """Return True if the ego leaves the main road and drives along a cross street at the end."""
    end = scene.ego.pose[-11]
    return any(
        abs(np.sin(end[2] - float(c.path.heading_rad[0]))) < 0.5
        and np.abs(np.ptp(scene.ego.pose[10:-10, 2])) > np.deg2rad(60)
        and np.hypot(*(c.path.points_m - end[:2]).T).min() < c.half_width_m
        for c in scene.layout.crossings
    )


def body_of(scene: Scene) -> np.ndarray:
    """Return centre x, y, yaw, length, width (K, 5) of the ego."""
    x, y, yaw = scene.ego.pose.T
    size = np.broadcast_to(EGO, (len(x), 2))
    return np.column_stack([x + 1.3 * np.cos(yaw), y + 1.3 * np.sin(yaw), yaw, size])


def test_the_ego_turns_in_some_of_the_scenes_with_junctions(scenes: list[Scene]):
    with_junction = [scene for scene in scenes if scene.layout.crossings]
    turned = [scene for scene in with_junction if turns(scene)]
    assert 0.15 < len(turned) / len(with_junction) < 0.55
    assert all("turn" in scene.description for scene in turned)
    sides = {np.sign(scene.ego.pose[-11, 2] - scene.ego.pose[10, 2]) for scene in turned}
    assert sides == {-1.0, 1.0}


def test_the_ego_is_always_on_the_carriageway_with_its_whole_body(scenes: list[Scene]):
    for scene in scenes:
        x, y, yaw, length, width = body_of(scene)[:, :, None].transpose(1, 0, 2)
        u = length / 2 * np.array([1, 1, 0, -1, -1, 0])
        v = width / 2 * np.array([1, -1, 0, 1, -1, 1])
        across, ahead = np.sin(yaw), np.cos(yaw)
        kinds = scene.ground.surface_at(x + ahead * u - across * v, y + across * u + ahead * v)
        assert (kinds == ROAD).all(), scene.name


def test_no_object_ever_overlaps_the_ego(scenes: list[Scene]):
    checked = 0
    for scene in scenes:
        ego = body_of(scene)
        for item in scene.objects:
            # Farther apart than half of both diagonals, rectangles cannot overlap.
            reach_m = (np.hypot(*EGO) + np.hypot(*item.model.size_m[:2])) / 2
            gap_m = np.hypot(*(item.track.pose[:, :2] - ego[:, :2]).T)
            for k in np.nonzero(item.track.alive & (gap_m <= reach_m))[0]:
                checked += 1
                other = np.array([*item.track.pose[k], *item.model.size_m[:2]])
                assert not rectangles_overlap(ego[k], other), (scene.name, item.model.category)
    assert checked > 100


def test_a_turning_ego_moves_along_its_heading_and_obeys_the_light(scenes: list[Scene]):
    for scene in filter(turns, scenes):
        pose, speed = scene.ego.pose, scene.ego.speed_mps
        step = np.diff(pose[:, :2], axis=0)
        mean = (speed[1:] + speed[:-1]) / 2
        # The axle is behind the centre on the path, and chords are shorter than the bend.
        np.testing.assert_allclose(np.hypot(*step.T), DT_S * mean, atol=0.05)
        yaw = (pose[1:, 2] + pose[:-1, 2]) / 2
        lateral = np.cos(yaw) * step[:, 1] - np.sin(yaw) * step[:, 0]
        assert np.abs(lateral).max() < 0.05
        assert np.abs(np.diff(pose[:, 2])).max() < 0.16
        layout = scene.layout
        crossing = layout.crossings[layout.turn.crossing]
        x, y, heading = (float(v) for v in layout.centre.at(crossing.centre_s_m))
        body = body_of(scene)
        front = body[:, :2] + 2.3 * np.stack([np.cos(body[:, 2]), np.sin(body[:, 2])], axis=1)
        along = np.cos(heading) * (front[:, 0] - x) + np.sin(heading) * (front[:, 1] - y)
        line = -crossing.half_width_m - 5.0  # stop line of the lane
        passes = np.nonzero((along[:-1] < line) & (along[1:] >= line))[0]
        assert len(passes) == 1
        shown = layout.signals.colour(0, float(passes[0]) * DT_S - LEAD_IN_S)
        assert shown != 1, scene.name  # green, or yellow if the ego could no longer stop


def test_a_drive_that_turns_off_its_road_for_long_has_a_scene() -> None:
    # The ego of this scene ends far from its road, nearest to a part of it that lies behind.
    spec = WorldSpec(
        seed=77,
        train_scenes=0,
        val_scenes=0,
        test_scenes=180,
        samples_per_scene=41,
        image_size=(144, 256),
    )
    scene = build_scene(spec, spec.split_scenes["test"][167])
    centre, pose = scene.layout.centre, scene.ego.pose
    start_m, end_m = (centre.nearest_s(*pose[row, :2]) for row in (0, -1))
    assert end_m + 24.0 < start_m  # else the scene shows nothing
