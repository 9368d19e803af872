"""Bad inputs of the verb ``view``: a clear sentence or a sensible picture each."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevstack.cli.main import main
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from bevstack.viewer.drawn_boxes import MAX_EDGED
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import Moment
from bevstack.viewer.opencv_view import OpenCVRenderer
from bevstack.viewer.pictures import compose
from bevstack.viewer.strip import strip_html
from tests.cli.test_view import refused, words
from tests.runtime.drives import export_scene, read_table
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world
from tests.viewer.moments import STATE, boxes, moment
from tests.viewer.worlds import viewer_world, write_results

SIZE = ("--renderer", "opencv", "--size", "320", "160")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


def saved(arguments: list[str], out: Path) -> np.ndarray:
    """Save the first frame, and return its picture."""
    assert main([*arguments, "--save", str(out), *SIZE]) == 0
    return np.asarray(Image.open(out))


def test_ten_thousand_results_in_a_frame_are_refused_with_the_limit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((folder / "model.json").read_text())["results"]
    token = next(iter(results))
    results[token] = [results[token][0]] * 10_000
    write_results(tmp_path / "many.json", results)
    sentence = refused(words(folder, "--results", str(tmp_path / "many.json")), capsys)
    assert f"results of sample '{token}' must be a list of at most 500 boxes; got 10000" in sentence


def ten_thousand() -> Moment:
    every = [(x - 50.0, y - 50.0, 0.3) for x in range(100) for y in range(100)]
    return moment(boxes(*every), boxes((10.0, 2.0, 0.0)))


def test_ten_thousand_boxes_of_a_drive_are_drawn(tmp_path: Path) -> None:
    drive = GrowingDrive()
    drive.add(ten_thousand())
    picture = compose(drive, STATE, OpenCVRenderer((320, 160)))
    yellow = (picture[..., :2] > 90).all(-1) & (picture[..., 2] < 60)
    assert yellow[40:140].mean() > 0.2  # of cars
    assert len(strip_html(ten_thousand(), STATE)) < 5_000_000


def test_ten_thousand_boxes_are_one_node_in_the_browser_and_can_be_picked() -> None:
    pytest.importorskip("viser")
    from bevstack.viewer.browser.viewer import Viewer
    from bevstack.viewer.picking import pick

    drive = GrowingDrive()
    drive.add(ten_thousand())
    viewer = Viewer(drive, STATE, port=0)
    try:
        viewer.start()
        node = viewer.painter.node("solids/predicted_0")
        assert len(node.batched_positions) == 10_000 > MAX_EDGED
        assert viewer.painter.node("lines/predicted_0") is None
    finally:
        viewer.stop()
    picked = pick(drive.moment("", 0), STATE, np.array((10.0, 20.0, 40.0)), np.array((0, 0, -1.0)))
    assert picked is not None and drive.moment("", 0).predicted[0].boxes.center_m[
        picked.row, :2
    ] == pytest.approx((10, 20), abs=2)


def test_a_frame_without_any_box_is_a_picture_of_its_cameras(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "world", tmp_path / "world")
    table = tmp_path / "world" / "v1.0-synth" / "sample_annotation.json"
    rows = json.loads(table.read_text())
    results = json.loads((folder / "model.json").read_text())["results"]
    write_results(tmp_path / "none.json", {token: [] for token in results})
    with_boxes = saved(words(folder, "--results", str(folder / "model.json")), tmp_path / "a.png")
    without = words(folder, "--results", str(tmp_path / "none.json"))
    table.write_text("[]")
    without[without.index(str(folder / "world"))] = str(tmp_path / "world")
    assert rows
    picture = saved(without, tmp_path / "b.png")
    assert picture.shape == with_boxes.shape and (picture != with_boxes).any()
    assert picture[-30:].std() > 10  # the cameras are there


def test_a_missing_picture_is_a_grey_tile(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "world", tmp_path / "world")
    for path in (tmp_path / "world" / "samples").rglob("*.jpg"):
        path.unlink()
    arguments = words(folder)
    arguments[arguments.index(str(folder / "world"))] = str(tmp_path / "world")
    picture = saved(arguments, tmp_path / "grey.png").astype(int)
    tiles = picture[-30:-8]
    assert np.ptp(tiles, axis=-1).max() < 24 and tiles.mean() < 80  # grey, as the names are


def test_a_drive_without_poses_is_shown_frame_by_frame_or_refused_with_the_remedy(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(small_world(tmp_path_factory), "synth_val")
    drive = export_scene(data, data.scene_names[0], tmp_path / "drive")
    table = read_table(drive)
    for frame in table["frames"]:
        frame.pop("world_from_ego", None)
        for camera in frame["cameras"].values():
            camera.pop("world_from_ego", None)
    (drive / "frames.json").write_text(json.dumps(table))
    detector = build(temporal())
    save_model(tmp_path / "small.safetensors", detector.model, detector.config)
    given = ["view", "--rig", str(drive / "rig.json"), "--images", str(drive)]
    given += ["--weights", str(tmp_path / "small.safetensors")]
    sentence = refused([*given, "--save", str(tmp_path / "a.png"), *SIZE], capsys)
    assert "got no poses in" in sentence and "--no-history" in sentence
    assert saved([*given, "--no-history"], tmp_path / "b.png").std() > 10


def test_a_scene_without_poses_stays_where_it_is_when_the_camera_does_not_follow() -> None:
    pytest.importorskip("viser")
    from bevstack.viewer.browser.viewer import Viewer

    drive = GrowingDrive()
    drive.add(moment(boxes((10.0, 0.0, 0.0))))
    viewer = Viewer(drive, replace(STATE, follow=False), port=0)
    try:
        viewer.start()
        assert viewer.pose(*viewer.shown) == pytest.approx(np.eye(4))
    finally:
        viewer.stop()
