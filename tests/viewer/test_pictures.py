"""Saved pictures: OpenCV's and Open3D's draw boxes where a pinhole puts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bevstack.render.colors import BACKGROUND
from bevstack.viewer import open3d_view
from bevstack.viewer.drawn import draw
from bevstack.viewer.open3d_view import check_drawing, is_installed
from bevstack.viewer.opencv_view import OpenCVRenderer
from bevstack.viewer.pictures import save_pictures
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.primitives import Drawing, Lines, Solids
from bevstack.viewer.recorded import RecordedDrives
from bevstack.viewer.view_state import Eye, ViewState
from bevstack.viewer.wires import box_edges
from tests.viewer.moments import STATE, boxes, moment
from tests.viewer.worlds import VERSION, source_of, viewer_world

SIZE = (400, 240)
EYES = (Eye(), Eye(position_m=(3.0, -9.0, 7.0), look_at_m=(9.0, 1.0, 0.5)))
RED = (255, 0, 0)
# Draws a box in red with Open3D; a process of its own, as drivers may end the one they run in.
DRAW = """
import json, sys
import numpy as np
from bevstack.render import write_picture
from bevstack.viewer.primitives import Drawing, Lines
from bevstack.viewer.open3d_view import PictureRenderer
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.view_state import Eye
given = json.loads(sys.argv[1])
segments = np.array(given["segments"])
lines = Lines(name="box", segments_m=segments, color=np.tile(np.array([255, 0, 0], np.uint8),
    (len(segments), 1)), width_px=1.0)
renderer = PictureRenderer(tuple(given["size"]))
for number, (position, look_at) in enumerate(given["eyes"]):
    eye = Eye(position_m=tuple(position), look_at_m=tuple(look_at))
    pinhole = Pinhole(eye, renderer.size_px)
    write_picture(f"{given['out']}/{number}.png", renderer.render(Drawing(lines=(lines,)), pinhole))
"""


def expected_corners(pinhole: Pinhole) -> np.ndarray:
    """Return the pixels of a box's corners by OpenCV's projection."""
    pose = pinhole.cam_from_ego
    corners = boxes((9, 1, 0.6)).corners()[0]
    rotation = cv2.Rodrigues(pose[:3, :3])[0]
    pixels, _ = cv2.projectPoints(corners, rotation, pose[:3, 3], pinhole.intrinsics, np.zeros(4))
    return pixels[:, 0]


def expect_red_box(picture: np.ndarray, pinhole: Pinhole) -> None:
    """Check that red pixels reach the corners of the box, and lie nowhere else."""
    red = (picture[..., 0] > 90) & (picture[..., 1] < 60) & (picture[..., 2] < 60)
    rows, columns = np.nonzero(red)
    places = np.column_stack((columns, rows)) + 0.5
    corners = expected_corners(pinhole)
    assert len(places) > 50
    for corner in corners:
        assert np.linalg.norm(places - corner, axis=1).min() <= 2.0
    low, high = corners.min(0), corners.max(0)
    assert (places.min(0) >= low - 2).all() and (places.max(0) <= high + 2).all()


def box_lines() -> Lines:
    segments = box_edges(boxes((9, 1, 0.6))).reshape(-1, 2, 3)
    color = np.tile(np.array(RED, np.uint8), (len(segments), 1))
    return Lines(name="box", segments_m=segments, color=color, width_px=1.0)


@pytest.mark.parametrize("eye", EYES)
def test_opencv_draws_a_box_within_two_pixels(eye: Eye) -> None:
    pinhole = Pinhole(eye, SIZE)
    picture = OpenCVRenderer(SIZE).render(Drawing(lines=(box_lines(),)), pinhole)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    expect_red_box(picture, pinhole)


def test_open3d_draws_a_box_within_two_pixels(tmp_path: Path) -> None:
    if not is_installed():
        pytest.skip("open3d is not installed: pip install 'bevstack[open3d]'")
    try:
        check_drawing()
    except ValueError as error:
        pytest.skip(str(error))
    given = {
        "segments": box_lines().segments_m.tolist(),
        "size": SIZE,
        "eyes": [(eye.position_m, eye.look_at_m) for eye in EYES],
        "out": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", DRAW, json.dumps(given)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for number, eye in enumerate(EYES):
        picture = np.asarray(Image.open(tmp_path / f"{number}.png"))
        expect_red_box(picture, Pinhole(eye, SIZE))


def test_transparent_solids_of_open3d_are_mixed_with_the_background() -> None:
    solids = Solids(
        name="box",
        center_m=np.zeros((1, 3)),
        size_m=np.ones((1, 3)),
        yaw_rad=np.zeros(1),
        color=np.array([RED], np.uint8),
        opacity=0.25,
    )
    _, _, color = open3d_view.solid_triangles(solids)
    expected = 0.25 * np.array(RED) + 0.75 * np.array(BACKGROUND)
    assert color.max(0) * 255 == pytest.approx(expected)  # of the upper corners


def test_a_whole_frame_is_saved_with_open3d(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not is_installed():
        pytest.skip("open3d is not installed: pip install 'bevstack[open3d]'")
    folder, out = viewer_world(tmp_path_factory), tmp_path / "view.png"
    words = ["view", "--nuscenes", str(folder / "world"), "--version", VERSION]
    words += ["--results", str(folder / "model.json"), "--save", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "bevstack", *words, "--renderer", "open3d"],
        capture_output=True,
        text=True,
        timeout=300,  # with Open3D's transparency it took longer
    )
    if "Open3D must be able to draw here" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.asarray(Image.open(out)).std() > 20


def test_a_view_from_above_has_the_vehicles_front_on_top() -> None:
    pinhole = Pinhole(Eye(position_m=(0, 0, 50), look_at_m=(0, 0, 0)), SIZE)
    ahead, left = (pinhole.cam_from_ego @ (x, y, 0, 1) for x, y in ((9, 0), (0, 9)))
    assert ahead[0] == pytest.approx(0) and ahead[1] == pytest.approx(-9)
    assert left[0] == pytest.approx(-9) and left[1] == pytest.approx(0)


def test_near_boxes_hide_far_ones_and_boxes_behind_are_not_drawn() -> None:
    shown = moment(boxes((9, 0, 0), (40, 0, 0)), None)
    eye = Eye(position_m=(0, 0, 2), look_at_m=(9, 0, 1))
    picture = OpenCVRenderer(SIZE).render(draw(shown, STATE), Pinhole(eye, SIZE))
    behind = Eye(position_m=(60, 0, 2), look_at_m=(90, 0, 1))
    empty = OpenCVRenderer(SIZE).render(draw(shown, STATE), Pinhole(behind, SIZE))
    yellow = [
        ((p[..., 0] > 200) & (p[..., 1] > 180) & (p[..., 2] < 90)).sum() for p in (picture, empty)
    ]
    assert yellow[0] > 100 and yellow[1] == 0


@pytest.mark.parametrize(
    ("output", "packages"),
    [
        ("ImportError: libusb-1.0.so.0: cannot open shared object file", "libusb-1.0-0"),
        ("RuntimeError: Failed to load vulkan library!", "libvulkan1 mesa-vulkan-drivers"),
        ("", "libvulkan1 mesa-vulkan-drivers"),
    ],
)
def test_a_missing_driver_is_named_with_its_package(
    output: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = "import os; os.kill(os.getpid(), 11)" if not output else "raise SystemExit(1)"
    probe = f"import sys; sys.stderr.write({output!r}); sys.stderr.flush(); {end}"
    monkeypatch.setattr(open3d_view, "_PROBE", probe)
    with pytest.raises(ValueError, match=f"apt-get install {packages}, or") as error:
        check_drawing()
    assert (output or "signal 11") in str(error.value)


def test_a_frame_a_folder_an_animation_and_a_video_are_saved(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = RecordedDrives(source_of(viewer_world(tmp_path_factory), "model.json"))
    state = ViewState(scene=source.scenes[0], index=1)
    renderer = OpenCVRenderer((320, 160))
    (one,) = save_pictures(source, state, tmp_path / "one.png", renderer)
    size = Image.open(one).size
    assert size[0] == 320 + 12 and size[1] > 160 + 20
    folder = save_pictures(source, state, tmp_path / "all", renderer)
    assert [p.name for p in folder] == [f"{state.scene}_{i:03d}.png" for i in range(4)]
    assert folder[1].read_bytes() == one.read_bytes() != folder[2].read_bytes()
    (gif,) = save_pictures(source, state, tmp_path / "scene.gif", renderer)
    animation = Image.open(gif)
    assert animation.n_frames == 4 and animation.info["duration"] == 500
    (video,) = save_pictures(source, state, tmp_path / "scene.mp4", renderer)
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(2.0, abs=0.05)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "all",
        "one.png",
        "scene.gif",
        "scene.mp4",
    ]
