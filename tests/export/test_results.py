"""Results files become frames with poses, turn rates and paths."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bevstack.config.tracking import TrackingConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.export.planning.extension import extension_entry
from bevstack.export.planning.results import read_planning_frames
from bevstack.export.planning.scene import PlanningFrame
from bevstack.tables.reader import Tables
from bevstack.uncertainty.sector_watch import SectorWatch
from tests.export.result_files import (
    OTHER_SCENE,
    SCENE,
    TURN_RAD,
    VERSION,
    boxes_of,
    sample_tokens,
    write_cues,
    write_results,
)
from tests.tables.tiny_root import token, write_tiny_root
from tests.uncertainty.rigs import odd_sector_model


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(write_tiny_root(tmp_path_factory.mktemp("root")), VERSION, cache=False)


def expect_places(frames: list[PlanningFrame], names: tuple[str, ...]) -> None:
    """Compare the centres in the world with those of the file."""
    for number, frame in enumerate(frames):
        assert frame.objects.class_names == names
        for row, (_, entry) in enumerate(boxes_of(frame.sample_token, number)):
            assert frame.world_center[row] == pytest.approx(entry["translation"], abs=1e-6)
            speed = np.hypot(*entry["velocity"])
            # The ego vehicle is tilted: seen from above, a speed loses up to 1 % both ways.
            assert np.hypot(*frame.world_velocity[row]) == pytest.approx(speed, rel=0.01)
            assert frame.objects.size[row] == pytest.approx((4.6, 1.9, 1.7))


def test_detections_have_poses_and_times_of_the_tables(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=False)
    frames = read_planning_frames(path, tables)
    assert [frame.sample_token for frame in frames] == sample_tokens()
    expect_places(frames, ("car", "pedestrian", "traffic_cone"))
    rows = {r["token"]: r for r in json.loads((tables.folder / "sample.json").read_text())}
    poses = {r["token"]: r for r in json.loads((tables.folder / "ego_pose.json").read_text())}
    data = json.loads((tables.folder / "sample_data.json").read_text())
    lidar = token("calibrated_sensor", SCENE, "LIDAR_TOP")
    for frame in frames:
        assert frame.timestamp_us == rows[frame.sample_token]["timestamp"]
        assert frame.drive == SCENE and frame.paths is None and frame.objects.identity is None
        reading = [
            r
            for r in data
            if r["sample_token"] == frame.sample_token
            and r["is_key_frame"]
            and ("LIDAR_TOP" in r["filename"] or r["calibrated_sensor_token"] == lidar)
        ]
        pose = poses[reading[0]["ego_pose_token"]]
        assert frame.world_from_ego[:3, 3] == pytest.approx(pose["translation"])


def test_tracks_keep_their_numbers_and_turn(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=True)
    frames = read_planning_frames(path, tables, scenes=[SCENE])
    expect_places(frames, ("car", "pedestrian"))
    for frame in frames:
        assert frame.objects.identity.tolist() == [7, 3]
    first, last = frames[0].objects, frames[-1].objects
    assert first.turn_rate.tolist() == [0, 0]
    step_s = np.diff([frame.timestamp_us for frame in frames]).mean() / 1e6
    # The rate lies between 0, which is expected before headings are known, and the true one.
    assert 0.4 * TURN_RAD / step_s < last.turn_rate[0] < TURN_RAD / step_s
    assert abs(last.turn_rate[1]) < 1e-3
    assert last.turn_rate_std[0] < first.turn_rate_std[0]
    turned = math.remainder(frames[-1].paths.yaw[0, -1] - last.yaw[0], 2 * math.pi)
    assert turned == pytest.approx(math.remainder(3 * last.turn_rate[0], 2 * math.pi))


def test_detections_are_tracked_on_request(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=False)
    frames = read_planning_frames(path, tables, tracking=TrackingConfig())
    for frame in frames:
        assert frame.objects.covariance is not None and frame.paths is not None
        assert frame.objects.last_seen_us.max() == frame.timestamp_us
    assert set(frames[0].objects.identity) & set(frames[-1].objects.identity)
    keys = [set(frame.object_ids()) for frame in frames]
    assert keys[0] & keys[-1]


def test_texts_as_identities_get_numbers(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=True)
    path.write_text(path.read_text().replace('"tracking_id": "7"', '"tracking_id": "car-7"'))
    for frame in read_planning_frames(path, tables):
        assert frame.objects.identity.tolist() == [0, 1]


def test_cues_stand_beside_the_boxes(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=True)
    cues = write_cues(tmp_path / "cues.json")
    frames = read_planning_frames(path, tables, cues=cues)
    assert [len(frame.cues) for frame in frames] == [1] * 4
    with pytest.raises(ValueError, match="a frame for every sample; got none for"):
        read_planning_frames(path, tables, cues=write_cues(tmp_path / "few.json", 2))


def test_files_that_do_not_fit_are_refused(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=True)
    with pytest.raises(ValueError, match=r"must have no identities.*leave out --track"):
        read_planning_frames(path, tables, tracking=TrackingConfig())
    with pytest.raises(ValueError, match="every sample of scene-0916; got none for 3 of 3"):
        read_planning_frames(path, tables, scenes=[OTHER_SCENE])
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"results": {}}))
    with pytest.raises(ValueError, match="at least one sample"):
        read_planning_frames(path, tables)
    path.write_text(json.dumps(content | {"results": {"no such": []}}))
    with pytest.raises(ValueError, match=r"sample_token must be a sample of v1\.0-mini"):
        read_planning_frames(path, tables)


def test_sectors_follow_from_the_rig_and_its_motion(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=False)
    assert read_planning_frames(path, tables)[0].sectors is None
    model = odd_sector_model()
    frames = read_planning_frames(path, tables, sectors=model)
    data, watch = NuScenesDataset(tables, scenes=[SCENE]), SectorWatch(model)
    assert len(data) == sum(frame.drive == SCENE for frame in frames) > 1
    for index, frame in enumerate(f for f in frames if f.drive == SCENE):
        wanted = watch.look(data.frame(index), {})  # with its pictures
        assert frame.sectors is not None
        assert np.array_equal(frame.sectors.trust, wanted.trust)
    assert extension_entry(frames[0])["sectors"]["trust"] == frames[0].sectors.trust.tolist()
