"""Recordings for rerun, read back with rerun's own reader."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip(
    "rerun.chunk", reason="needs rerun: make test-rerun, or pip install 'bevstack[rerun]'"
)

from rerun.chunk import RrdReader

from bevstack.cli.main import build_parser, main
from bevstack.cli.view_live import record_growing
from bevstack.types.sectors import SectorTrust
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import Moment
from bevstack.viewer.recorded import RecordedDrives
from bevstack.viewer.rerun_file import camera_entity, record_moments
from bevstack.viewer.view_state import ViewState
from tests.viewer.moments import STATE, boxes, moment
from tests.viewer.worlds import VERSION, source_of, viewer_world

Rows = list[tuple[int, int, Any]]  # frame, microseconds, value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


def read(path: Path) -> dict[str, Rows]:
    """Return the values of each component, such as "/world/ego Transform3D:translation"."""
    found: dict[str, Rows] = defaultdict(list)
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        columns = {name: batch.column(name) for name in batch.schema.names}
        count = batch.num_rows
        frames = columns["frame"].to_pylist() if "frame" in columns else [-1] * count
        times = [-1] * count
        if "time" in columns:
            times = [t // 1000 for t in columns["time"].cast("int64").to_pylist()]
        for name, column in columns.items():
            if ":" in name:
                values = zip(frames, times, column.to_pylist(), strict=True)
                found[f"{chunk.entity_path} {name}"] += [
                    row for row in values if row[2] is not None
                ]
    return {name: sorted(rows, key=lambda row: row[0]) for name, rows in found.items()}


def moments_of(folder: Path) -> list[Moment]:
    drives = RecordedDrives(source_of(folder, "tracks.json"))
    scene = drives.scenes[0]
    return [drives.moment(scene, index) for index in range(drives.count(scene))]


@pytest.fixture(scope="module")
def recorded(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Moment], dict[str, Rows]]:
    shown = moments_of(folder)
    path = tmp_path_factory.mktemp("rerun") / "drive.rrd"
    assert record_moments(shown, path, ViewState(scene=shown[0].scene, min_score=0.0)) == 4
    return shown, read(path)


def test_boxes_stand_where_the_moments_have_them(
    recorded: tuple[list[Moment], dict[str, Rows]],
) -> None:
    shown, found = recorded
    for entity in ("/world/ego/predicted/tracks", "/world/ego/true"):
        rows = found[f"{entity} Boxes3D:centers"]
        assert [row[:2] for row in rows] == [(m.index, m.timestamp_us) for m in shown]
        for (_, _, centers), at in zip(rows, shown, strict=True):
            own = at.true if entity.endswith("true") else at.predicted[0].boxes
            assert own is not None and len(own) > 0
            assert np.array(centers) == pytest.approx(own.center_m, abs=1e-4)
    own = shown[2].predicted[0].boxes
    part = "/world/ego/predicted/tracks Boxes3D"
    assert np.array(found[f"{part}:half_sizes"][2][2]) == pytest.approx(own.size_m / 2, abs=1e-4)
    turned = np.array(found[f"{part}:quaternions"][2][2])  # xyzw
    yaw = 2 * np.arctan2(turned[:, 2], turned[:, 3])
    assert np.cos(yaw - own.yaw_rad) == pytest.approx(1, abs=1e-5)
    labels = found[f"{part}:labels"][2][2]
    assert labels[0] == f"car 0.75 #{own.identity[0]}"
    assert found[f"{part}:class_ids"][2][2] == own.label.tolist()


def test_cameras_have_pinholes_poses_and_the_bytes_of_their_files(
    recorded: tuple[list[Moment], dict[str, Rows]],
) -> None:
    shown, found = recorded
    for number, camera in enumerate(shown[3].cameras):
        entity = f"/{camera_entity(camera)}"
        (_, _, blob) = found[f"{entity}/image EncodedImage:blob"][3]
        assert bytes(blob[0]) == camera.encoded
        assert found[f"{entity}/image EncodedImage:media_type"][3][2] == ["image/jpeg"]
        matrix = np.array(found[f"{entity} Pinhole:image_from_camera"][3][2]).reshape(3, 3).T
        assert matrix == pytest.approx(camera.intrinsics, rel=1e-6)
        assert found[f"{entity} Pinhole:resolution"][3][2] == [[160.0, 90.0]]
        rotation = np.array(found[f"{entity} Transform3D:mat3x3"][3][2]).reshape(3, 3).T
        assert rotation == pytest.approx(camera.ego_from_cam[:3, :3], abs=1e-6), number
    pose = shown[3].world_from_ego
    assert pose is not None
    place = found["/world/ego Transform3D:translation"][3][2][0]
    assert place == pytest.approx(pose[:3, 3], rel=1e-5)
    assert found["/world AnnotationContext:context"][0][0] == -1  # at all times


def test_trails_lidar_and_vehicle_are_there(
    recorded: tuple[list[Moment], dict[str, Rows]],
) -> None:
    shown, found = recorded
    trails = found["/world/ego/trails LineStrips3D:strips"]
    last = shown[3].trails
    assert len(trails[-1][2]) == len(last) > 0
    assert np.array(trails[-1][2][0]) == pytest.approx(last[0].points_m, abs=1e-3)
    assert found["/world/ego/vehicle Boxes3D:half_sizes"][0][0] == -1
    lidar = [m for m in shown if m.lidar_m is not None]
    assert len(found.get("/world/ego/lidar Points3D:positions", [])) == len(lidar)


def test_what_a_moment_lacks_is_cleared_and_trust_is_drawn(tmp_path: Path) -> None:
    first = moment(boxes((8.0, 1.0, 0.2), (20.0, -4.0, 1.0)))
    trust = SectorTrust(np.linspace(0, 1, 24).reshape(8, 3))
    camera = dataclasses.replace(first.cameras[0], encoded=b"\xff\xd8\xff\xe0", missing="")
    first = dataclasses.replace(first, cameras=(camera,), sectors=trust, notes=("CAM is black",))
    second = dataclasses.replace(moment(boxes((8.5, 1.0, 0.2))), index=1)
    path = tmp_path / "small.rrd"
    record_moments([first, second], path, STATE)
    found = read(path)
    cleared = {name.split()[0] for name in found if name.endswith("Clear:is_recursive")}
    assert cleared == {"/world/ego/CAM_FRONT/image", "/world/ego/lines/sectors", "/notes"}
    assert len(found["/world/ego/lines/sectors LineStrips3D:strips"]) == 1
    assert [len(row[2]) for row in found["/world/ego/predicted/model Boxes3D:centers"]] == [2, 1]
    assert found["/notes TextDocument:text"][0][2] == ["CAM is black"]


def test_the_verb_records_the_scene_with_its_score(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.rrd"
    words = ["view", "--nuscenes", str(folder / "world"), "--version", VERSION]
    words += ["--results", str(folder / "model.json"), "--min-score", "0.5"]
    assert main([*words, "--record", str(out)]) == 0
    assert capsys.readouterr().out == f"4 frames: {out}\n"
    drives = RecordedDrives(source_of(folder, "model.json"))
    counts = [
        int((drives.moment(drives.scenes[0], index).predicted[0].score >= 0.5).sum())
        for index in range(4)
    ]
    rows = read(out)["/world/ego/predicted/model Boxes3D:centers"]
    assert [len(row[2]) for row in rows] == counts
    assert main([*words, "--record", str(tmp_path / "none" / "a.rrd")]) == 2
    assert "must exist" in capsys.readouterr().err


def test_a_growing_drive_is_recorded_until_an_event(tmp_path: Path) -> None:
    args = build_parser().parse_args(["view", "--listen", "--record", str(tmp_path / "node.rrd")])
    drive, ended = GrowingDrive(kept=2), threading.Event()

    def arriving() -> Iterator[Moment]:
        for index in range(5):
            drive.add(dataclasses.replace(moment(boxes((8.0 + index, 1.0, 0.2))), index=index))
            yield drive.moment("", index)
            if index == 2:
                ended.set()

    assert record_growing(args, arriving(), ended) == 0
    rows = read(tmp_path / "node.rrd")["/world/ego/predicted/model Boxes3D:centers"]
    assert [(frame, round(centers[0][0])) for frame, _, centers in rows] == [
        (0, 8),
        (1, 9),
        (2, 10),
    ]
