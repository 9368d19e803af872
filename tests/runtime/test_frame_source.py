"""Sources of frames: folders and tables of pictures, with every mistake named."""

from __future__ import annotations

import json
import shutil
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bevstack.runtime.frame_source import open_frames
from bevstack.runtime.picture_times import choose_times
from bevstack.types import Frame
from tests.runtime.drives import write_table
from tests.runtime.test_rig import small_rig

START = 1_700_000_000_000_000
WIDTHS = {"front": 40, "rear": 36}
STEP = 500_000
POSE = {"rotation_wxyz": [1, 0, 0, 0], "translation_m": [5.0, 0, 0]}


def picture(camera: str, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((30, WIDTHS[camera], 3), 10 * number + (camera == "rear"), np.uint8)


def put(path: Path, camera: str, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(camera, number))


def rig(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rig.json").write_text(json.dumps(small_rig(**changes)))
    return folder / "rig.json"


def camera_folders(
    folder: Path,
    front: Sequence[int] = (0, STEP, 2 * STEP),
    rear: Sequence[int] = (0, STEP, 2 * STEP),
    name: str = "{}.png",
) -> Path:
    """Write pictures at times after START, with their numbers as grey values; return the rig."""
    for camera, times in (("front", front), ("rear", rear)):
        for number, time in enumerate(times):
            put(folder / camera / name.format(START + time), camera, number)
    return rig(folder)


def numbers(frame: Frame) -> list[int | None]:
    """Return the numbers of the pictures in a frame, None for a lost camera."""
    return [None if image is None else int(image[0, 0, 0]) // 10 for image in frame.images]


def shown(source: Any, **options: Any) -> list[tuple[int, list[int | None]]]:
    frames = list(source.frames(**options))
    return [(frame.timestamp_us - START, numbers(frame)) for frame in frames]


@pytest.mark.parametrize("name", ["{}.png", "n015+0800__{}.png", "front-{}.PNG"])
def test_a_folder_a_camera_gives_frames_by_time(tmp_path: Path, name: str) -> None:
    source = open_frames(camera_folders(tmp_path, name=name), tmp_path)
    assert shown(source) == [(STEP * k, [k, k]) for k in range(3)]
    frame = next(source.frames())
    assert frame.sample_token == str(START) and frame.camera_names == ("front", "rear")
    assert frame.images[1] is not None and frame.images[1].shape == (30, 36, 3)


def test_a_folder_a_frame_gives_the_same_frames(tmp_path: Path) -> None:
    for number in range(3):
        for camera, name in (("front", "ahead.png"), ("rear", "rear.png")):
            put(tmp_path / f"frame_{START + STEP * number}" / name, camera, number)
    (tmp_path / f"frame_{START + STEP}" / "rear.png").unlink()
    last = tmp_path / f"frame_{START + 2 * STEP}" / "rear.png"
    last.rename(last.with_suffix(".PNG"))
    source = open_frames(rig(tmp_path, image="ahead.png"), tmp_path)
    assert shown(source) == [(0, [0, 0]), (STEP, [1, None]), (2 * STEP, [2, 2])]


def test_pictures_taken_nearly_at_once_form_a_frame(tmp_path: Path) -> None:
    front, rear = [0, STEP + 9000, 2 * STEP], [40_000, STEP, 2 * STEP + 1]
    path = camera_folders(tmp_path, front, rear)
    frames = list(open_frames(path, tmp_path).frames())
    assert [numbers(frame) for frame in frames] == [[k, k] for k in range(3)]
    assert frames[0].camera_timestamp_us == (START, START + 40_000)


def test_folders_of_unequal_lengths_lose_the_shorter_camera(tmp_path: Path) -> None:
    path = camera_folders(tmp_path, rear=[STEP])
    assert shown(open_frames(path, tmp_path)) == [
        (0, [0, None]),
        (STEP, [1, 0]),
        (2 * STEP, [2, None]),
    ]


def test_an_interval_takes_frames_as_the_model_was_trained(tmp_path: Path) -> None:
    times = [round(1e6 * k / 12) for k in range(25)]  # 12 Hz
    path = camera_folders(tmp_path, times, times)
    source = open_frames(path, tmp_path)
    assert len(list(source.frames())) == 25
    every = shown(source, interval_s=0.5)
    assert [n[0] for _, n in every] == [0, 6, 12, 18, 24]
    assert [time for time, _ in every] == [STEP * k for k in range(5)]
    (tmp_path / "rear" / f"{START + STEP}.png").unlink()  # another one is 1/12 s away
    (chosen,) = open_frames(path, tmp_path).frames(times_us=[START + STEP])
    assert numbers(chosen)[0] == 6 and numbers(chosen)[1] in (5, 7)
    for interval in (0.0, -1.0, float("nan"), float("inf"), 1e-9):
        with pytest.raises(ValueError, match=r"interval must be from 0.001 to 3600 s"):
            source.frames(interval_s=interval)


@pytest.mark.parametrize(
    ("spacing_s", "count", "interval_s", "wanted"),
    [
        (0.5, 8, 1.0, [0, 2, 4, 6]),
        (0.5, 3, 0.5, [0, 1, 2]),
        (0.5, 3, 0.1, [0, 1, 2]),
        (0.75, 4, 0.5, [0, 1, 2, 3]),
        (0.1, 11, 0.25, [0, 2, 5, 7, 10]),
        (0.5, 1, 0.5, [0]),
        (0.5, 4, 3600.0, [0]),
    ],
)
def test_the_frames_nearest_to_the_interval_are_chosen(
    spacing_s: float, count: int, interval_s: float, wanted: list[int]
) -> None:
    jitter = np.random.default_rng(0).integers(-3000, 3000, count)
    times = START + np.rint(1e6 * spacing_s * np.arange(count)).astype(np.int64)
    assert choose_times(times, interval_s).tolist() == wanted
    jitter[0] = 0
    if (spacing_s, interval_s) != (0.1, 0.25):  # where two frames are equally near
        assert choose_times(times + jitter, interval_s).tolist() == wanted


def test_a_table_gives_times_and_poses_to_pictures_found_by_time(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    moved = POSE | {"translation_m": [7.0, 0, 0]}
    table = [
        {"timestamp_us": START + 20_000, "world_from_ego": POSE},
        {"timestamp_us": START + STEP, "world_from_ego": moved},
    ]
    write_table(tmp_path, table)
    source = open_frames(path, tmp_path)
    assert source.has_poses and shown(source) == [(20_000, [0, 0]), (STEP, [1, 1])]
    frames = list(source.frames())
    assert frames[0].camera_timestamp_us == (START, START)
    assert frames[1].world_from_ego is not None
    assert frames[1].world_from_ego[:3, 3].tolist() == [7, 0, 0]
    assert frames[1].world_from_ego_at_camera is None  # taken at the frame's time
    poses = frames[0].world_from_ego_at_camera  # taken 0.02 s before, at 2 m in 0.48 s
    assert poses is not None and poses[:, 0, 3].tolist() == pytest.approx([5 - 2 / 24] * 2)
    assert shown(open_frames(path, tmp_path / "frames.json")) == shown(source)


def test_poses_of_single_cameras_are_kept(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    own = POSE | {"translation_m": [5.5, 0, 0]}
    image = {"image": f"front/{START}.png", "world_from_ego": own, "timestamp_us": START - 9}
    cameras = {"front": image, "rear": f"rear/{START}.png"}
    write_table(tmp_path, [{"timestamp_us": START, "world_from_ego": POSE, "cameras": cameras}])
    (frame,) = open_frames(path, tmp_path).frames()
    assert frame.world_from_ego_at_camera is not None
    assert frame.world_from_ego_at_camera[:, 0, 3].tolist() == [5.5, 5.0]
    assert frame.camera_timestamp_us == (START - 9, START)
    assert torch.equal(frame.world_from_ego_at_camera[1], frame.world_from_ego)


def test_frames_without_any_picture_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = camera_folders(tmp_path, front=[0], rear=[0])
    times = [{"timestamp_us": START + STEP * k} for k in range(3)]
    write_table(tmp_path, times)
    with pytest.warns(UserWarning, match=rf"2 frames without .* the frame at {START + STEP}"):
        assert shown(open_frames(path, tmp_path)) == [(0, [0, 0])]
    write_table(tmp_path, times[1:])
    with pytest.raises(ValueError, match=r"at least one frame of .* must have a picture"):
        list(open_frames(path, tmp_path).frames())


def test_pictures_are_read_when_their_frame_is_asked_for(tmp_path: Path) -> None:
    frames = open_frames(camera_folders(tmp_path), tmp_path).frames()
    next(frames)
    (tmp_path / "front" / f"{START + STEP}.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{START + STEP}.png"):
        next(frames)


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path) -> None:
    times = [STEP * number for number in range(6)]
    source = open_frames(camera_folders(tmp_path, times, times), tmp_path)
    images = []
    for frame in source.frames():
        images.append(weakref.ref(frame.images[0]))
        del frame
    assert len(images) == 6 and all(image() is None for image in images[:-1])


def test_an_old_picture_counts_as_lost(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    old = {"image": f"front/{START}.png", "timestamp_us": START - 5_000_000}
    cameras = {"front": old, "rear": f"rear/{START}.png"}
    write_table(tmp_path, [{"timestamp_us": START, "cameras": cameras}])
    with pytest.warns(UserWarning, match="front counts as lost: its image is 5 s older"):
        (frame,) = open_frames(path, tmp_path).frames()
    assert frame.camera_mask is not None and frame.camera_mask.tolist() == [False, True]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1, 2, 3], "names of the pictures of front must be times in microseconds; got 1 and 2"),
        ([1_700_000_000_000, 1_700_000_000_500], "must be times in microseconds; got .* 500 micro"),
        ([1_700_000_000, 1_700_000_001], "must be times in microseconds; got .* 1 microseconds"),
        ([START * 1000, START * 1000 + 5], "must be in microseconds; got .*nanoseconds"),
        ([10**25], "time in the name of .* must be a whole number of microseconds"),
        (["1700000000.25", "1700000000.5"], "must end with its time in whole microseconds; got"),
        (["left"], r"must end with its time in whole microseconds; got .*left.png: rename it"),
        ([f"a{START}", f"b{START}"], f"different times; got .*a{START}.png and .*b{START}.png"),
    ],
)
def test_names_that_are_no_times_are_refused(
    tmp_path: Path, times: Sequence[object], message: str
) -> None:
    for camera in WIDTHS:
        for number, time in enumerate(times):
            put(tmp_path / camera / f"{time}.png", camera, number)
    with pytest.raises(ValueError, match=message):
        open_frames(rig(tmp_path), tmp_path)


def test_folders_that_do_not_fit_the_rig_are_refused(tmp_path: Path) -> None:
    path = camera_folders(tmp_path / "drive")
    with pytest.raises(FileNotFoundError, match="table of frames must exist; got no file"):
        open_frames(path, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold a folder a camera, a folder a frame"):
        open_frames(path, tmp_path / "empty")
    (tmp_path / "drive" / "rear").rename(tmp_path / "drive" / "raer")
    with pytest.raises(ValueError, match=r"pictures of camera rear; got none.* add --lost rear"):
        open_frames(path, tmp_path / "drive")
    assert shown(open_frames(path, tmp_path / "drive", lost=["rear"]))[0] == (0, [0, None])
    (tmp_path / "drive" / "front").rename(tmp_path / "drive" / "ahead")
    with pytest.raises(ValueError, match=r"named after cameras of the rig \(front, rear\)"):
        open_frames(path, tmp_path / "drive")
    with pytest.raises(ValueError, match="lost camera must be one of front, rear; got 'side'"):
        open_frames(path, tmp_path / "drive", lost=["side"])
    with pytest.raises(ValueError, match="at least one camera must have an image"):
        open_frames(path, tmp_path / "drive", lost=["front", "rear"])


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    shutil.copy(tmp_path / "rear" / f"{START}.png", tmp_path / "front" / f"{START}.png")
    with pytest.raises(ValueError, match=rf"front/{START}.png must be 40x30 .*; got 36x30"):
        next(open_frames(path, tmp_path).frames())


def frame_entry(**changes: Any) -> dict[str, Any]:
    return {"timestamp_us": START, "world_from_ego": POSE} | changes


FAR = [frame_entry(timestamp_us=1_700_000_000_000 + 500 * k) for k in range(5)]


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        ([], {}, "must hold at least one frame; got none"),
        ({}, {}, r"frames of .* must be a list; got \{\}"),
        ([3], {}, "frame 0 of .* must be a JSON object; got 3"),
        ([{}], {}, "frame 0 of .* must have the field 'timestamp_us'"),
        ([frame_entry(time=1)], {}, "frame 0 of .* has no field 'time'"),
        ([frame_entry(timestamp_us="1")], {}, "frame 0 of .*: timestamp_us must be a whole number"),
        ([frame_entry(timestamp_us=1.5)], {}, "timestamp_us must be a whole number; got 1.5"),
        ([frame_entry(timestamp_us=True)], {}, "timestamp_us must be a whole number; got True"),
        ([frame_entry(timestamp_us=-1)], {}, "timestamp_us must be from 0"),
        ([frame_entry(timestamp_us=START * 1000)], {}, "got .*, which are nanoseconds since 1970"),
        ([frame_entry(), frame_entry()], {}, "must ascend .*; got 1.* in frame 1 after 1"),
        ([frame_entry(timestamp_us=START + 1), frame_entry()], {}, "must ascend"),
        (FAR, {}, "timestamp_us must be in microseconds; got milliseconds"),
        (
            [frame_entry(), frame_entry(timestamp_us=START + STEP, world_from_ego=None)],
            {},
            f"world_from_ego in every frame, or in none; got none in 1 of 2, .*{START + STEP}",
        ),
        ([frame_entry(world_from_ego=[1, 2])], {}, "frame 0 of .*: world_from_ego must be 4 lists"),
        (
            [frame_entry(world_from_ego=POSE | {"rotation_wxyz": [0, 0, 0, 0]})],
            {},
            "frame 0 of .*: world_from_ego",
        ),
        ([frame_entry(cameras={"side": None})], {}, "camera must be one of the rig's, front, rear"),
        ([frame_entry(cameras={"front": 5})], {}, "camera 'front' must be a JSON object; got 5"),
        ([frame_entry(cameras={"front": {}})], {}, "camera 'front' must have the field 'image'"),
        ([frame_entry(cameras={"front": ""})], {}, "camera 'front' must be 1 to .* printable"),
        (
            [frame_entry(cameras={"front": "../front.png"})],
            {},
            r"file of camera 'front' must lie inside .*--allow-outside",
        ),
        (
            [
                frame_entry(
                    world_from_ego=None, cameras={"front": {"image": "a", "world_from_ego": POSE}}
                )
            ],
            {},
            "must have world_from_ego, since one of its cameras has one",
        ),
        (None, {}, "must list 'frames', unless every camera has a video; got .* no video of front"),
        ([frame_entry()], {"format": "x"}, "format must be 'bevstack-frames-1'; got 'x'"),
        ([frame_entry()], {"poses": []}, "has no field 'poses'"),
        ([frame_entry()], {"videos": {"front": {}}}, "video of 'front' in .* the field 'file'"),
        ([frame_entry()], {"videos": []}, r"videos of .* must be a JSON object; got \[\]"),
    ],
)
def test_mistakes_in_a_table_are_named(
    tmp_path: Path, frames: Any, more: dict[str, Any], message: str
) -> None:
    path = camera_folders(tmp_path)
    write_table(tmp_path, frames, **more)
    with pytest.raises(ValueError, match=message):
        open_frames(path, tmp_path)


def test_a_named_device_is_refused(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    write_table(tmp_path, [frame_entry(cameras={"front": "/dev/zero"})])
    with pytest.raises(ValueError, match="must lie inside"):
        open_frames(path, tmp_path)
    with pytest.raises(ValueError, match="image must be a regular file; got /dev/zero"):
        list(open_frames(path, tmp_path, allow_outside=True).frames())


def test_right_drives_are_silent(tmp_path: Path) -> None:
    path = camera_folders(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(open_frames(path, tmp_path).frames())) == 3
