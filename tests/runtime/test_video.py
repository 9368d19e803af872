"""Videos as a source of frames: equal to their decoded pictures, with ends and damage named."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bevstack.runtime.frame_source import FrameSource, open_frames
from bevstack.runtime.video import VideoReader
from tests.runtime.drives import decoded, write_table, write_video
from tests.runtime.test_rig import small_rig

START = 1_700_000_000_000_000
SIDES = {"front": (48, 64), "rear": (48, 80)}
FPS = 12.0


def pictures(camera: str, count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(len(camera))
    picture = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), SIDES[camera][::-1])
    return [np.roll(picture, number, axis=1) for number in range(count)]


def drive(
    folder: Path,
    counts: tuple[int, int] = (24, 24),
    frames: Any = None,
    *,
    codec: str = "mp4v",
    **changes: Any,
) -> Path:
    """Write a video of each camera, a rig and a table; return the folder."""
    rig = small_rig(width=64, height=48)
    rig["cameras"][1] |= {"width": 80, "height": 48}
    (folder / "rig.json").write_text(json.dumps(rig))
    ending = {"mp4v": "mp4", "MJPG": "avi"}[codec]
    videos = {}
    for camera, count in zip(SIDES, counts, strict=True):
        path = write_video(folder / f"{camera}.{ending}", pictures(camera, count), FPS, codec)
        videos[camera] = {"file": path.name, "start_us": START, "fps": FPS} | changes
    write_table(folder, frames, videos=videos)
    return folder


def source_in(folder: Path) -> FrameSource:
    return open_frames(folder / "rig.json", folder)


@pytest.mark.parametrize("codec", ["mp4v", "MJPG"])
def test_videos_give_their_decoded_pictures_each_half_second(tmp_path: Path, codec: str) -> None:
    folder = drive(tmp_path, codec=codec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = list(source_in(folder).frames())
    assert [frame.timestamp_us - START for frame in frames] == [0, 500_000, 1_000_000, 1_500_000]
    ending = "mp4" if codec == "mp4v" else "avi"
    wanted = [decoded(folder / f"{camera}.{ending}") for camera in SIDES]
    for frame, index in zip(frames, (0, 6, 12, 18), strict=True):
        for image, video in zip(frame.images, wanted, strict=True):
            assert image is not None and np.array_equal(image, video[index])
    assert len(list(source_in(folder).frames(interval_s=0.25))) == 8
    assert len(list(source_in(folder).frames(interval_s=1 / 12))) == 24


def test_a_table_of_frames_takes_the_nearest_pictures(tmp_path: Path) -> None:
    pose = {"rotation_wxyz": [1, 0, 0, 0], "translation_m": [1, 2, 0]}
    times = [START + 80_000, START + 500_000]
    listed = [{"timestamp_us": time, "world_from_ego": pose} for time in times]
    frames = list(source_in(drive(tmp_path, frames=listed)).frames())
    video = decoded(tmp_path / "front.mp4")
    assert np.array_equal(frames[0].images[0], video[1])
    assert np.array_equal(frames[1].images[0], video[6])
    assert frames[0].camera_timestamp_us[0] == START + 83_333
    assert frames[0].world_from_ego is not None


def test_start_times_shift_the_pictures(tmp_path: Path) -> None:
    folder = drive(tmp_path)
    table = json.loads((folder / "frames.json").read_text())
    table["videos"]["rear"]["start_us"] += 500_000
    (folder / "frames.json").write_text(json.dumps(table))
    with pytest.warns(UserWarning, match=r"front counts as lost .* ends after 24 pictures"):
        frames = list(source_in(folder).frames())
    assert [frame.timestamp_us - START for frame in frames] == [
        *(500_000, 1_000_000, 1_500_000, 2_000_000)
    ]
    assert np.array_equal(frames[0].images[0], decoded(folder / "front.mp4")[6])
    assert np.array_equal(frames[0].images[1], decoded(folder / "rear.mp4")[0])
    assert frames[3].camera_mask.tolist() == [False, True]


def test_a_shorter_video_loses_its_camera_by_name(tmp_path: Path) -> None:
    folder = drive(tmp_path, (24, 10))
    with pytest.warns(UserWarning, match=rf"camera rear counts as lost .* at {START + 10**6} on"):
        frames = list(source_in(folder).frames())
    assert [frame.camera_mask.tolist()[1] for frame in frames] == [True, True, False, False]


def test_a_cut_video_is_named(tmp_path: Path) -> None:
    folder = drive(tmp_path, codec="MJPG")
    data = (folder / "rear.avi").read_bytes()
    (folder / "rear.avi").write_bytes(data[: len(data) * 6 // 10])
    with pytest.warns(UserWarning, match=r"camera rear counts as lost .*of 24: .*damaged or cut"):
        frames = list(source_in(folder).frames())
    assert len(frames) == 4 and frames[0].camera_mask.all() and not frames[-1].camera_mask.all()


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_damage_inside_an_mjpeg_video_loses_the_picture(tmp_path: Path, place: float) -> None:
    folder = drive(tmp_path, codec="MJPG")
    data = bytearray((folder / "front.avi").read_bytes())
    at = int(len(data) * place)
    data[at : at + 60] = np.random.default_rng(1).bytes(60)
    (folder / "front.avi").write_bytes(data)
    # A picture that does not decode, or a stream of data that cannot be followed any further.
    named = r"camera front counts as lost (in picture .*front.avi|from .*front.avi ends after)"
    with pytest.warns(UserWarning, match=named):
        frames = list(source_in(folder).frames(interval_s=1 / 12))
    lost = [frame for frame in frames if not frame.camera_mask.all()]
    assert len(frames) == 24 and lost
    assert all(frame.camera_mask[1] for frame in frames)


def test_a_wrong_rate_is_noted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"by fps 30; got .* s in the file: times by fps are used"):
        frames = list(source_in(drive(tmp_path, fps=30)).frames())
    assert len(frames) == 2  # 24 pictures in 0.8 s


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an MP4, MOV, MKV, WebM or AVI file; got .*front.mp4"),
        (b"<html><body>not found</body></html>", "which starts as none of these"),
        (b"#EXTM3U\n/etc/passwd\n", "which starts as none of these"),
        (None, "video of front must exist; got no file .*front.mp4: .* --lost front"),
    ],
)
def test_a_file_that_is_no_video_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    folder = drive(tmp_path)
    (folder / "front.mp4").unlink()
    if content is not None:
        (folder / "front.mp4").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        source_in(folder)


def test_videos_without_a_table_are_refused(tmp_path: Path) -> None:
    folder = drive(tmp_path)
    (folder / "frames.json").unlink()
    with pytest.raises(ValueError, match="no table: videos need a table with their start times"):
        source_in(folder)
    with pytest.raises(ValueError, match=r"got the video .*front.mp4: name it in a table"):
        open_frames(folder / "rig.json", folder / "front.mp4")


def test_a_damaged_header_and_another_size_are_refused(tmp_path: Path) -> None:
    folder = drive(tmp_path)
    data = (folder / "front.mp4").read_bytes()
    (folder / "front.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"video of front must be undamaged .*front.mp4"):
        next(source_in(folder).frames())
    (folder / "front.mp4").write_bytes((folder / "rear.mp4").read_bytes())
    with pytest.raises(ValueError, match=r"video of front must be 64x48 pixels, .*got 80x48 in"):
        next(source_in(folder).frames())
    (folder / "front.mp4").unlink()
    assert not next(open_frames(folder / "rig.json", folder, lost=["front"]).frames()).images[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0}, "video of 'front' in .*: fps must be above 0"),
        ({"fps": "12"}, "fps must be a number; got '12'"),
        ({"fps": 1e9}, "fps must be above 0 and at most 1000"),
        ({"start_us": 1.5}, "start_us must be a whole number"),
        ({"start_us": START * 1000}, "nanoseconds"),
        ({"start_us": START // 1000}, "must both be in microseconds; got .* in milliseconds"),
        ({"file": "../front.mp4"}, "must lie inside"),
        ({"length": 3}, "has no field 'length'"),
    ],
)
def test_mistakes_about_a_video_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = drive(tmp_path, (2, 2), [{"timestamp_us": START}], **changes)
    with pytest.raises(ValueError, match=message):
        source_in(folder)


def test_pictures_are_read_in_order_and_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", pictures("front", 5), FPS)
    wanted = decoded(path)
    with VideoReader(path, "front", image_size=(48, 64), fps=FPS) as video:
        for index in (0, 0, 3, 3, 4):
            got = video.picture(index)
            assert got is not None and np.array_equal(got, wanted[index])
        with pytest.raises(ValueError, match="must be read in order; got 2"):
            video.picture(2)
        assert video.num_pictures is None and video.picture(5) is None
        assert video.num_pictures == 5 and video.picture(9) is None
        assert video.describe_end() == "ends after 5 pictures"
