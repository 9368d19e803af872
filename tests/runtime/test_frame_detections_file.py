"""Files with the boxes of many frames: written and read frame by frame, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevstack.runtime.detections_file import read_detections
from bevstack.runtime.frame_detections_file import (
    FrameDetections,
    read_frame_detections,
    writing_frame_detections,
)
from bevstack.types import Boxes3D, Detections, Frame
from bevstack.types.health import CameraState

CLASSES = ("car", "pedestrian")
TIMES = (1_700_000_000_000_000, 1_700_000_000_500_000, 1_700_000_001_000_000)


def frame(time_us: int, *, posed: bool = True) -> Frame:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = 1 / 3
    return Frame(
        images=[np.zeros((4, 6, 3), np.uint8), None],
        intrinsics=torch.tensor([[5.0, 0, 3], [0, 5.0, 2], [0, 0, 1]]).repeat(2, 1, 1),
        ego_from_cam=torch.eye(4).repeat(2, 1, 1),
        camera_names=("front", "rear"),
        timestamp_us=time_us,
        world_from_ego=pose if posed else None,
        rig_checked=True,
    )


def boxes(count: int, seed: int = 0) -> Detections:
    values = torch.rand(count, 10, generator=torch.Generator().manual_seed(seed)) + 0.01
    velocity = values[:, 7:9].clone()
    velocity[1:2] = torch.nan
    return Detections(
        Boxes3D(values[:, :3], values[:, 3:6], values[:, 6], velocity),
        (values[:, 9] / 2).sort(descending=True).values,
        torch.arange(count) % 2,
    )


def write(path: Path, counts: tuple[int, ...] = (3, 0, 5), *, tracked: bool = False) -> Path:
    with writing_frame_detections(path, CLASSES) as writer:
        for time_us, count in zip(TIMES, counts, strict=False):
            writer.add(frame(time_us), boxes(count), torch.arange(count) if tracked else None)
    return path


def read(path: Path) -> list[FrameDetections]:
    return list(read_frame_detections(path)[0])


def edit(path: Path, change: Callable[[Any], object], *, lines: bool = True) -> Path:
    """Change the content of a file; with one frame a line, or as another program arranges it."""
    content = json.loads(path.read_text())
    change(content)
    if not lines:
        path.write_text(json.dumps(content, indent=2))
        return path
    frames = ",\n".join(json.dumps(entry) for entry in content.pop("frames"))
    head = json.dumps(content)[:-1]
    path.write_text(f'{head}, "frames": [\n{frames}\n]}}\n')
    return path


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "a.json", tracked=True)
    frames, names = read_frame_detections(path)
    assert names == CLASSES
    for got, time_us, count in zip(frames, TIMES, (3, 0, 5), strict=True):
        wanted = boxes(count)
        assert got.timestamp_us == time_us and got.lost_cameras == ("rear",)
        assert got.world_from_ego is not None
        assert torch.equal(got.world_from_ego, frame(time_us).world_from_ego)
        for name in ("center", "size", "yaw"):
            assert torch.equal(getattr(got.detections.boxes, name), getattr(wanted.boxes, name))
        assert torch.equal(got.detections.scores, wanted.scores)
        assert torch.equal(got.detections.labels, wanted.labels)
        torch.testing.assert_close(
            got.detections.boxes.velocity, wanted.boxes.velocity, rtol=0, atol=0, equal_nan=True
        )
        assert got.identities is None if not count else got.identities.tolist() == [*range(count)]


def test_a_file_is_json_with_one_frame_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    content = json.loads(path.read_text())
    assert content["format"] == "bevstack-frames-detections-1" and content["frame"] == "ego"
    assert [entry["timestamp_us"] for entry in content["frames"]] == list(TIMES)
    assert "track" not in content["frames"][0]["detections"][0]
    assert len(path.read_text().splitlines()) == 5
    again = edit(write(tmp_path / "b.json"), lambda content: None, lines=False)
    for one, two in zip(read(path), read(again), strict=True):
        assert torch.equal(one.detections.scores, two.detections.scores)
    assert read(write(tmp_path / "none.json", ())) == []


def test_frames_are_read_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    path.write_bytes(path.read_bytes().replace(b'"track"', b'"t"')[:-20])
    frames, _ = read_frame_detections(path)
    assert next(frames).timestamp_us == TIMES[0]  # the damage comes later


def test_an_error_leaves_the_older_file_and_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    before = path.read_bytes()
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), writing_frame_detections(path, CLASSES) as writer:
            writer.add(frame(TIMES[0]), boxes(2))
            assert path.read_bytes() == before
            raise error
    infinite = boxes(2)
    infinite.boxes.center[1, 0] = torch.inf
    named = rf"boxes of the frame at {TIMES[0]} must be finite"
    with (
        pytest.raises(ValueError, match=named),
        writing_frame_detections(path, CLASSES) as writer,
    ):
        writer.add(frame(TIMES[0]), infinite)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.97, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a.json")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match="results file must be"):
        read(path)


def test_a_line_that_is_missing_at_the_end_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ValueError, match="whose frame 2 is cut off"):
        read(path)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="x"), "format of .* must be 'bevstack-frames-detections-1'"),
        (lambda c: c.update(frame="world"), "frame of .* must be 'ego'; got 'world'"),
        (lambda c: c.update(classes=["car", 3]), "classes of .* must be a text; got 3"),
        (lambda c: c.update(classes=["car"]), "class of box 1 of frame 0 .* one of car; got 'ped"),
        (lambda c: c["frames"].append(5), "frame 3 of .* must be a JSON object; got 5"),
        (lambda c: c["frames"][1].pop("timestamp_us"), "frame 1 of .* field 'timestamp_us'"),
        (lambda c: c["frames"][1].update(timestamp_us="1"), "timestamp_us of frame 1 .* whole"),
        (lambda c: c["frames"][1].update(timestamp_us=9), "must ascend .*; got 9 in frame 1"),
        (lambda c: c["frames"][2].update(world_from_ego=[1]), "world_from_ego of frame 2 of"),
        (lambda c: c["frames"][2].update(lost="rear"), "lost of frame 2 .* must be a list"),
        (lambda c: c["frames"][0]["detections"][1].update(score=-1), "box 1 of frame 0 .*: score"),
        (lambda c: c["frames"][0]["detections"][0].update(track=1), "track of box 1 of frame 0"),
        (lambda c: c["frames"][0].update(detections={}), "detections of frame 0 .* must be a list"),
    ],
)
def test_wrong_values_are_named(
    tmp_path: Path, change: Callable[[Any], object], message: str, lines: bool
) -> None:
    path = edit(write(tmp_path / "a.json"), change, lines=lines)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_files_of_one_frame_and_of_many_are_distinguished(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boxes of one frame; got those of several: give --frames"):
        read_detections(write(tmp_path / "a.json"))
    with pytest.raises(FileNotFoundError, match="results file must exist"):
        read(tmp_path / "absent.json")


def test_the_states_of_cameras_are_read_as_they_were_written(tmp_path: Path) -> None:
    states = {"front": CameraState.OK, "rear": CameraState.MISSING}
    path = tmp_path / "a.json"
    with writing_frame_detections(path, CLASSES) as writer:
        writer.add(frame(TIMES[0]), boxes(1), health=states)
        writer.add(frame(TIMES[1]), boxes(1))
    written = [entry.get("health") for entry in json.loads(path.read_text())["frames"]]
    assert written == [{"front": "ok", "rear": "missing"}, None]
    assert [one.health for one in read(path)] == [states, {}]
    edit(path, lambda content: content["frames"][0]["health"].update(rear="lost"))
    with pytest.raises(ValueError, match=r"health of frame 0 .* must hold one of .*'lost'"):
        read(path)
