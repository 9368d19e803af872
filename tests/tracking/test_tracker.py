"""Tracks of boxes, against a loop written from the comments of ``TrackingConfig``."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from bevstack.config.tracking import TrackingConfig
from bevstack.tracking import TrackedScene, Tracks, update_tracks
from bevstack.types import Boxes3D, Detections

# Every value differs from its default and from the other values, so that a mix-up shows.
ODD = TrackingConfig(
    acceleration_mps2=0.9,
    range_sigma_m=0.4,
    range_sigma_per_m=0.07,
    bearing_sigma_m=0.25,
    bearing_sigma_per_m=0.03,
    speed_sigma_mps=0.6,
    speed_sigma_per_mps=0.8,
    first_speed_sigma_mps=2.0,
    reach_m=1.5,
    reach_per_m=0.05,
    start_gap_m=4.5,
    score_half_life_s=0.7,
    yaw_half_life_s=1.3,
    size_half_life_s=0.9,
    new_score=0.55,
    unseen_half_life_s=1.1,
    max_unseen_s=1.2,
)
TIMES_US = (0, 500_000, 900_000, 1_500_000, 2_050_000, 2_500_000)


def boxes_of(centers, *, velocity=None, yaw=None, scores=None, labels=None):
    count = len(centers)
    center = torch.tensor(centers, dtype=torch.float32).reshape(count, 3)
    return Detections(
        Boxes3D(
            center,
            torch.tensor([[4.0, 2.0, 1.5]]).expand(count, 3),
            torch.zeros(count) if yaw is None else torch.tensor(yaw),
            torch.zeros(count, 2) if velocity is None else torch.tensor(velocity),
        ),
        torch.full((count,), 0.5) if scores is None else torch.tensor(scores),
        torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels),
    )


def run(frames, times_us=TIMES_US, positions=None, config=ODD):
    scene = None
    for index, (boxes, time_us) in enumerate(zip(frames, times_us, strict=False)):
        ego = torch.zeros(2) if positions is None else positions[index]
        scene = update_tracks(scene, boxes, ego_position=ego, timestamp_us=time_us, config=config)
        yield scene


def crowd(seed, frames=6, objects=25):
    """Return frames with moving objects of three classes, missed boxes and false boxes."""
    draw = np.random.default_rng(seed)
    center, speed = draw.uniform(-40, 40, (objects, 3)), draw.uniform(-4, 4, (objects, 2))
    label, yaw = draw.integers(0, 3, objects), draw.uniform(-math.pi, math.pi, objects)
    detections, positions = [], []
    for time_us in TIMES_US[:frames]:
        detected = draw.uniform(size=objects) < 0.7
        extra = int(draw.integers(0, 4))
        count = int(detected.sum()) + extra

        def mixed(values, spread, width, detected=detected, extra=extra):
            clutter = draw.uniform(-width, width, (extra, *values.shape[1:]))
            noisy = values[detected] + draw.normal(size=values[detected].shape) * spread
            return torch.from_numpy(np.concatenate((noisy, clutter))).float()

        now = center.copy()
        now[:, :2] += speed * time_us * 1e-6
        boxes = Boxes3D(
            mixed(now, 0.8, 40),
            torch.from_numpy(draw.uniform(1, 5, (count, 3))).float(),
            mixed(yaw + draw.integers(0, 2, objects) * math.pi, 0.4, 3),
            mixed(speed, 1.5, 5),
        )
        if count:
            boxes.velocity[0, 0] = math.nan
        labels = np.concatenate((label[detected], draw.integers(0, 3, extra)))
        scores = torch.from_numpy(draw.uniform(0.1, 1, count)).float()
        detections.append(Detections(boxes, scores, torch.from_numpy(labels)))
        positions.append(torch.from_numpy(draw.uniform(-3, 3, 2)))
    return detections, positions


class Loop:
    """Tracker that handles one object at a time, in plain loops."""

    def __init__(self, config):
        self.config, self.tracks, self.time_us, self.count = config, None, 0, 0
        self.skipped = 0  # boxes that start no track, near another box

    def noise(self, box, ego):
        c, sight = self.config, box["xy"] - ego
        distance, angle = math.hypot(*sight), math.atan2(sight[1], sight[0])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        sigmas = (
            c.range_sigma_m + c.range_sigma_per_m * distance,
            c.bearing_sigma_m + c.bearing_sigma_per_m * distance,
        )
        known = ~np.isnan(box["v"])
        speed = math.hypot(*np.where(known, box["v"], 0))
        noise = np.zeros((4, 4))
        noise[:2, :2] = turn @ np.diag(np.square(sigmas)) @ turn.T
        for axis in range(2):
            sigma = c.speed_sigma_mps + c.speed_sigma_per_mps * speed if known[axis] else 100
            noise[2 + axis, 2 + axis] = sigma**2
        return noise

    def start(self, box, ego, score_factor):
        covariance = self.noise(box, ego)
        for axis in range(2):
            if not np.isnan(box["v"][axis]):
                covariance[2 + axis, 2 + axis] = self.config.first_speed_sigma_mps**2
        state = np.concatenate((box["xy"], np.nan_to_num(box["v"])))
        named = {"identity": self.count, "state": state, "covariance": covariance}
        self.count += 1
        return {**box, **named, "last_seen_us": self.time_us, "score": box["score"] * score_factor}

    def step(self, detections, ego, time_us):
        c, boxes = self.config, []
        for i in range(len(detections)):
            b = detections.boxes
            boxes.append(
                {
                    "xy": b.center[i, :2].double().numpy(),
                    "z": float(b.center[i, 2]),
                    "v": b.velocity[i].double().numpy(),
                    "size": b.size[i].double().numpy(),
                    "yaw": float(b.yaw[i]),
                    "score": float(detections.scores[i]),
                    "label": int(detections.labels[i]),
                }
            )
        ego = ego.numpy()
        previous, self.tracks = self.tracks, []
        seconds, self.time_us = (time_us - self.time_us) * 1e-6, time_us
        if previous is None:
            self.tracks = [self.start(box, ego, 1) for box in self.starting(boxes, set())]
            return
        motion = np.eye(4)
        motion[0, 2] = motion[1, 3] = seconds
        push = np.array([[seconds**2 / 2, 0], [0, seconds**2 / 2], [seconds, 0], [0, seconds]])
        for track in previous:
            track["state"] = motion @ track["state"]
            track["covariance"] = (
                motion @ track["covariance"] @ motion.T + c.acceleration_mps2**2 * push @ push.T
            )
        closeness = np.zeros((len(previous), len(boxes)))
        for i, track in enumerate(previous):
            for j, box in enumerate(boxes):
                here, there = track["state"][:2], box["xy"]
                distance = (math.dist(here, ego) + math.dist(there, ego)) / 2
                near = 1 - math.dist(here, there) / (c.reach_m + c.reach_per_m * distance)
                closeness[i, j] = near if track["label"] == box["label"] and near > 0 else 0
        pairs = dict(zip(*linear_sum_assignment(-closeness), strict=True))
        taken = set()
        for i, track in enumerate(previous):
            j = pairs.get(i)
            if j is not None and closeness[i, j] > 0:
                taken.add(j)
                self.tracks.append(self.updated(track, boxes[j], ego, seconds))
            elif time_us - track["last_seen_us"] <= c.max_unseen_s * 1e6:
                track["score"] *= 0.5 ** (seconds / c.unseen_half_life_s)
                self.tracks.append(track)
        for box in self.starting(boxes, taken):
            self.tracks.append(self.start(box, ego, c.new_score))

    def starting(self, boxes, taken):
        """Return the boxes that start a track, in their order."""
        owners, chosen = [boxes[j] for j in taken], []
        for j in sorted(set(range(len(boxes))) - taken, key=lambda j: -boxes[j]["score"]):
            if all(
                box["label"] != boxes[j]["label"]
                or math.dist(box["xy"], boxes[j]["xy"]) >= self.config.start_gap_m
                for box in owners
            ):
                owners.append(boxes[j])
                chosen.append(j)
            else:
                self.skipped += 1
        return [boxes[j] for j in sorted(chosen)]

    def updated(self, track, box, ego, seconds):
        c, state, covariance = self.config, track["state"], track["covariance"]
        velocity = np.where(np.isnan(box["v"]), state[2:], box["v"])
        gain = covariance @ np.linalg.inv(covariance + self.noise(box, ego))
        new = dict(track, last_seen_us=self.time_us)
        new["state"] = state + gain @ (np.concatenate((box["xy"], velocity)) - state)
        new["covariance"] = (np.eye(4) - gain) @ covariance
        turn = math.remainder(box["yaw"] - track["yaw"], 2 * math.pi)
        share = 1 - 0.5 ** (seconds / c.yaw_half_life_s)
        if abs(turn) > math.pi / 2:
            share = 1 if box["score"] > track["score"] else 0
        new["yaw"] = track["yaw"] + share * turn
        for name, half_life in (
            ("size", c.size_half_life_s), ("z", c.size_half_life_s), ("score", c.score_half_life_s)
        ):  # fmt: skip
            old = 0.5 ** (seconds / half_life)
            new[name] = old * track[name] + (1 - old) * box[name]
        return new


def assert_same(tracks, wanted):
    """Check that tracks equal those of the loop, except for rounding."""
    assert len(tracks) == len(wanted)
    by_identity = {track["identity"]: track for track in wanted}
    for i in range(len(tracks)):
        track = by_identity.pop(int(tracks.identity[i]))
        for name, value in (
            ("state", tracks.state[i]), ("covariance", tracks.covariance[i]),
            ("size", tracks.size[i]), ("z", tracks.elevation_m[i]), ("score", tracks.scores[i]),
        ):  # fmt: skip
            np.testing.assert_allclose(value, track[name], rtol=1e-7, atol=1e-9)
        turned = math.remainder(float(tracks.yaw[i]) - track["yaw"], 2 * math.pi)
        assert turned == pytest.approx(0, abs=1e-9)
        assert int(tracks.labels[i]) == track["label"]
        assert int(tracks.last_seen_us[i]) == track["last_seen_us"]


@pytest.mark.parametrize("seed", range(5))
def test_tracks_are_those_of_a_loop(seed):
    detections, positions = crowd(seed)
    config = replace(ODD, start_gap_m=9.0)  # large, so that boxes of a crowd are duplicates
    loop, updated, unseen, ended = Loop(config), 0, 0, 0
    scenes = run(detections, positions=positions, config=config)
    for boxes, ego, time_us, scene in zip(detections, positions, TIMES_US, scenes, strict=True):
        named, known = loop.count, len(loop.tracks or [])
        loop.step(boxes, ego, time_us)
        assert_same(scene.tracks, loop.tracks)
        assert scene.num_objects == loop.count and scene.timestamp_us == time_us
        assert bool((scene.tracks.scores.diff() <= 0).all())
        old = [track for track in loop.tracks if track["identity"] < named]
        updated += sum(track["last_seen_us"] == time_us for track in old)
        unseen += sum(track["last_seen_us"] < time_us for track in old)
        ended += known - len(old)
    assert updated > 30 and unseen > 30 and ended > 0 and loop.skipped > 0  # every case occurs


def test_an_object_that_is_hidden_for_a_moment_keeps_its_identity():
    seen, nothing = boxes_of([[10.0, 0, 1]], velocity=[[2.0, 0.0]]), boxes_of([])
    later = boxes_of([[13.0, 0, 1]], velocity=[[2.0, 0.0]])
    scenes = list(run([seen, nothing, nothing, later], (0, 500_000, 1_000_000, 1_500_000)))
    assert [scene.tracks.identity.tolist() for scene in scenes] == [[0]] * 4
    hidden = scenes[2].tracks
    assert hidden.state[0].tolist() == pytest.approx([12, 0, 2, 0])
    assert hidden.scores.item() == pytest.approx(0.5 * 0.5 ** (1 / ODD.unseen_half_life_s))
    assert hidden.last_seen_us.item() == 0 and scenes[3].tracks.last_seen_us.item() == 1_500_000
    gone = list(run([seen, nothing, nothing, later], (0, 500_000, 1_200_001, 1_500_000)))
    assert len(gone[2].tracks) == 0 and gone[3].tracks.identity.tolist() == [1]


def test_speed_is_estimated_from_positions_of_boxes_without_velocity():
    frames = [boxes_of([[8 + 0.6 * k, 3.0, 1]], velocity=[[math.nan, math.nan]]) for k in range(30)]
    *_, last = run(frames, [100_000 * k for k in range(30)])
    assert last.tracks.state[0].tolist() == pytest.approx([25.4, 3, 6, 0], abs=0.1)
    assert last.tracks.identity.tolist() == [0]


def test_range_is_trusted_less_than_bearing():
    first = boxes_of([[30.0, 0, 0]])
    for moved, axis, most, least in (([31.0, 0, 0], 0, 0.9, 0.0), ([30.0, 1, 0], 1, 1.0, 0.5)):
        *_, last = run([first, boxes_of([moved])], (0, 500_000))
        state = last.tracks.state[0, :2] - torch.tensor([30.0, 0.0])
        assert least < float(state[axis]) < most
    spread = next(iter(run([first]))).tracks.covariance[0]
    assert spread[0, 0].sqrt().item() == pytest.approx(0.4 + 0.07 * 30)
    assert spread[1, 1].sqrt().item() == pytest.approx(0.25 + 0.03 * 30)
    sideways = next(iter(run([boxes_of([[0.0, 30, 0]])]))).tracks.covariance[0]
    torch.testing.assert_close(sideways[:2, :2], spread[:2, :2].flip(0, 1))


def test_a_rotated_and_distant_world_gives_rotated_tracks():
    detections, positions = crowd(7)
    angle = 2.1
    motion = torch.eye(4, dtype=torch.float64)
    motion[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    motion[:3, 3] = torch.tensor([4000.0, -700.0, 3.0])
    clean = [
        replace(f, boxes=replace(f.boxes, velocity=f.boxes.velocity.nan_to_num()))
        for f in detections
    ]
    exact = [Detections(f.boxes.to(torch.float64), f.scores, f.labels) for f in clean]
    moved = [motion[:2, :2] @ position + motion[:2, 3] for position in positions]
    *_, here = run(exact, positions=positions)
    *_, elsewhere = run([f.transformed(motion) for f in exact], positions=moved)
    wanted, got = here.tracks.detections().transformed(motion), elsewhere.tracks.detections()
    assert elsewhere.tracks.identity.tolist() == here.tracks.identity.tolist()
    for field in ("center", "size", "velocity"):
        torch.testing.assert_close(
            getattr(got.boxes, field), getattr(wanted.boxes, field), rtol=0, atol=1e-8
        )
    assert torch.sin((got.boxes.yaw - wanted.boxes.yaw) / 2).abs().max() < 1e-9


def test_weights_of_old_frames_do_not_depend_on_the_frame_rate():
    """Compare ten steps of a tenth of a second with two of half a second."""
    first, same = boxes_of([[5.0, 1, 0]], scores=[0.2]), boxes_of([[5.0, 1, 0]], scores=[0.8])
    *_, seldom = run([first, same, same], (0, 500_000, 1_000_000))
    *_, often = run([first] + [same] * 10, [100_000 * k for k in range(11)])
    assert often.tracks.scores.item() == pytest.approx(seldom.tracks.scores.item())


@pytest.mark.parametrize("frames", [[0, 0], [0, 3], [3, 0, 2]])
def test_frames_without_boxes_are_accepted(frames):
    detections = [boxes_of([[4.0 + 5 * i, 0, 0] for i in range(count)]) for count in frames]
    *_, last = run(detections)
    assert len(last.tracks) == max(frames)
    assert len(last.tracks.detections()) == len(last.tracks)


def test_time_that_goes_back_is_refused():
    scene = TrackedScene(Tracks.empty(), 500_000)
    origin = torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"must not lie before that of the last frame, 500000; got"
    ):
        update_tracks(scene, boxes_of([]), ego_position=origin, timestamp_us=499_999, config=ODD)
    with pytest.raises(ValueError, match=r"ego_position must have shape \(2\); got \(3,\)"):
        update_tracks(None, boxes_of([]), ego_position=torch.zeros(3), timestamp_us=0, config=ODD)


def test_every_column_of_tracks_must_have_the_same_number_of_rows():
    none = Tracks.empty()
    with pytest.raises(ValueError, match=r"labels must have shape \(0\); got \(2,\)"):
        replace(none, labels=torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("field", "value"),
    [("reach_m", -1.0), ("range_sigma_m", 0.0), ("new_score", 1.5), ("max_unseen_s", math.nan)],
)
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"tracking\.{field} must be .*got {value}"):
        TrackingConfig(**{field: value})
