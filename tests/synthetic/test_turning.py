"""Turning vehicles: smooth ways from lane to lane, slow in the bend."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.population import Role
from bevstack.synthetic.scene import build_scene


def test_some_vehicles_turn_at_junctions_slowly_and_where_they_look():
    spec = WorldSpec(seed=3, train_scenes=14, samples_per_scene=31)
    turned = 0
    for name in spec.families["train"]:
        scene = build_scene(spec, name)
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
            assert rate.max() < 1.6  # rad/s: nobody spins
            step = np.diff(track.pose[:, :2], axis=0)[track.alive[1:] & track.alive[:-1]]
            speed = track.speed_mps[1:][track.alive[1:] & track.alive[:-1]]
            way = np.hypot(*step.T)
            np.testing.assert_allclose(way, 0.1 * speed, atol=0.08)
            moving = way > 0.05
            heading = np.arctan2(step[moving, 1], step[moving, 0])
            looks = track.pose[1:, 2][track.alive[1:] & track.alive[:-1]][moving]
            assert np.cos(heading - looks).min() > 0.95
    assert turned >= 3
