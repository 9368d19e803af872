"""JSON files with the boxes of many frames, as ``bevstack predict --rig --frames`` writes them.

A file is one JSON object with one frame a line, so that it is written and read frame by frame::

    {"format": "bevstack-frames-detections-1", "frame": "ego", "classes": ["car", ...], "frames": [
    {"timestamp_us": 1700000000000000, "world_from_ego": [[...], ...], "lost": ["CAM_BACK"],
     "health": {"CAM_FRONT": "ok", ...}, "sectors": {"trust": [[...], ...], "range_edges_m": [...]},
     "detections": [{"class": "car", "score": 0.5, ..., "track": 3}]},
    ...
    ]}

Boxes are as in a file of one frame (``detections_file``), in the ego frame of their time; ``track``
is there if objects were tracked, ``world_from_ego`` is null without poses. ``health`` is the state
of each camera (``CameraState``); it is left out if the cameras were not watched. ``sectors`` is the
trust by bearing and range (``SectorTrust``); it is left out if the weights have no calibration of
it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bevstack.files import naming, replacing
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_object,
    expect_text,
    parse_json,
    read_json,
    shorten,
)
from bevstack.runtime.detections_file import (
    EGO_FRAME,
    FRAMES_DETECTIONS_FORMAT,
    boxes_from_entries,
)
from bevstack.runtime.rig_fields import read_pose
from bevstack.runtime.stream_protocol import NO_HEALTH
from bevstack.types import Detections, Frame
from bevstack.types.health import CameraState
from bevstack.types.sectors import SectorTrust

_OPENING, _CLOSING = b'"frames": [\n', b"]}\n"
_MAX_LINE_BYTES = 1 << 24  # of one frame: 50,000 boxes
_REMEDY = "make it with `bevstack predict --rig RIG --frames DIR`"


@dataclass(frozen=True, kw_only=True)
class FrameDetections:
    """Boxes of one frame of a drive."""

    timestamp_us: int
    world_from_ego: Tensor | None  # (4, 4) float64
    lost_cameras: tuple[str, ...]  # names of the cameras that gave no image, or too old a one
    detections: Detections  # in the ego frame, best first
    identities: Tensor | None = None  # (D,) int64, tracks of the boxes; None: not tracked
    health: Mapping[str, CameraState] = field(default_factory=dict)  # empty: not watched
    sectors: SectorTrust | None = None  # None: no calibration


class FrameDetectionsWriter:
    """Writer of the frames of one file; ``writing_frame_detections`` yields one."""

    def __init__(self, file: BinaryIO, *, class_names: Sequence[str]) -> None:
        self._file = file
        self._class_names = tuple(class_names)
        self._count = 0
        head = {
            "format": FRAMES_DETECTIONS_FORMAT,
            "frame": EGO_FRAME,
            "classes": list(class_names),
        }
        self._file.write(json.dumps(head)[:-1].encode() + b", " + _OPENING)

    def add(
        self,
        frame: Frame,
        detections: Detections,
        identities: Tensor | None = None,  # (D,)
        health: Mapping[str, CameraState] = NO_HEALTH,
        sectors: SectorTrust | None = None,
    ) -> None:
        """Write the boxes of the next frame, which are in the ego frame.

        Raises:
            OSError: the disk is full.
            ValueError: a score, centre, size or heading is not finite.
        """
        assert frame.camera_mask is not None  # Frame sets it
        named = replace(detections, class_names=self._class_names)
        boxes = named.to_dict()["detections"]
        if identities is not None:
            pairs = zip(boxes, identities.tolist(), strict=True)
            boxes = [box | {"track": identity} for box, identity in pairs]
        pose = frame.world_from_ego
        mask = zip(frame.camera_names, frame.camera_mask.tolist(), strict=True)
        content = {
            "timestamp_us": frame.timestamp_us,
            "world_from_ego": None if pose is None else pose.tolist(),
            "lost": [name for name, is_working in mask if not is_working],
            **({"health": {n: state.value for n, state in health.items()}} if health else {}),
            **({} if sectors is None else {"sectors": sectors.to_entry()}),
            "detections": boxes,
        }
        try:
            line = json.dumps(content, allow_nan=False).encode()
        except ValueError:
            raise ValueError(
                f"boxes of the frame at {frame.timestamp_us} must be finite; got infinite or "
                "undefined values: check the model's weights and its input"
            ) from None
        self._file.write((b",\n" if self._count else b"") + line)
        self._count += 1

    def finish(self) -> None:
        """Write the end of the file."""
        self._file.write((b"\n" if self._count else b"") + _CLOSING)


@contextlib.contextmanager
def writing_frame_detections(
    path: Path, class_names: Sequence[str]
) -> Iterator[FrameDetectionsWriter]:
    """Yield a writer of a new file, which gets its name when the block ends without an error.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        writer = FrameDetectionsWriter(file, class_names=class_names)
        yield writer
        writer.finish()


def read_frame_detections(path: Path | str) -> tuple[Iterator[FrameDetections], tuple[str, ...]]:
    """Read the boxes of many frames, frame by frame, and the names of their classes.

    A file that keeps one frame a line may be of any length. One that another program has arranged
    differently is read at once.

    Returns:
        The frames in order of time, each read when it is asked for, and the class names, which the
        labels index.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut off or has another format, or a value is of another kind; also
            while frames are read. The message names the frame, the box and the field.
    """
    path = Path(path)
    head = _head(path)
    streamed = head is not None
    if head is None:
        head = read_json(path, "results file", remedy=_REMEDY, max_bytes=1 << 25)
    names = _class_names(path, head)
    if streamed:
        return _in_order(path, _lines(path), names), names
    entries = expect_list(f"frames of {path}", expect_field(str(path), head, "frames"))
    return _in_order(path, iter(entries), names), names


def _head(path: Path) -> dict[str, Any] | None:
    """Return the first line's fields, or None if the file does not have one frame a line."""
    if not path.is_file():
        return None
    with naming(path), path.open("rb") as file:
        line = file.readline(_MAX_LINE_BYTES)
    if not line.endswith(_OPENING):
        return None
    text = line[: -len(_OPENING)].rstrip().removesuffix(b",") + b"}"
    return expect_object(str(path), parse_json(text, "results file", place=f" in {path}"))


def _class_names(path: Path, head: object) -> tuple[str, ...]:
    head = expect_object(str(path), head)
    if head.get("format") != FRAMES_DETECTIONS_FORMAT:
        raise ValueError(
            f"format of {path} must be {FRAMES_DETECTIONS_FORMAT!r}; got "
            f"{shorten(head.get('format'))}: {_REMEDY}"
        )
    if head.get("frame") != EGO_FRAME:
        raise ValueError(
            f"frame of {path} must be {EGO_FRAME!r}; got {shorten(head.get('frame'))}: transform "
            "the boxes"
        )
    where = f"classes of {path}"
    names = expect_list(where, expect_field(str(path), head, "classes"))
    return tuple(expect_text(where, name) for name in names)


def _lines(path: Path) -> Iterator[Any]:
    """Yield the frames of a file with one a line; check that it is whole."""
    with naming(path), path.open("rb") as file:
        file.readline(_MAX_LINE_BYTES)
        number = 0
        while (line := file.readline(_MAX_LINE_BYTES + 1)) != _CLOSING:
            if not line.endswith(b"\n"):
                reason = "is cut off" if len(line) <= _MAX_LINE_BYTES else "is too long"
                raise ValueError(
                    f"results file must be whole; got {path}, whose frame {number} "
                    f"{reason}: {_REMEDY}"
                )
            text = line.rstrip().removesuffix(b",")
            yield parse_json(text, "results file", place=f" in frame {number} of {path}")
            number += 1


def _in_order(
    path: Path, entries: Iterator[Any], class_names: tuple[str, ...]
) -> Iterator[FrameDetections]:
    last_us = -1
    for number, entry in enumerate(entries):
        frame = _frame(f"frame {number} of {path}", entry, class_names)
        if frame.timestamp_us <= last_us:
            raise ValueError(
                f"timestamp_us of {path} must ascend from frame to frame; got "
                f"{frame.timestamp_us} in frame {number} after {last_us}"
            )
        last_us = frame.timestamp_us
        yield frame


def _frame(where: str, values: Any, class_names: tuple[str, ...]) -> FrameDetections:
    values = expect_object(where, values)
    pose, lost = values.get("world_from_ego"), values.get("lost", [])
    time_us = expect_field(where, values, "timestamp_us")
    entries = expect_list(f"detections of {where}", expect_field(where, values, "detections"))
    detections = boxes_from_entries(where, entries, class_names)
    tracks = [entry.get("track") for entry in entries]
    identities = None
    if any(track is not None for track in tracks):
        identities = torch.tensor(
            [expect_integer(f"track of box {i} of {where}", t) for i, t in enumerate(tracks)],
            dtype=torch.int64,
        )
    order = torch.argsort(detections.scores, descending=True, stable=True)
    return FrameDetections(
        timestamp_us=expect_integer(f"timestamp_us of {where}", time_us, low=0),
        world_from_ego=None if pose is None else read_pose(f"world_from_ego of {where}", pose),
        lost_cameras=tuple(
            expect_text(f"lost of {where}", name) for name in expect_list(f"lost of {where}", lost)
        ),
        detections=detections[order],
        health=_health(where, values.get("health", {})),
        identities=None if identities is None else identities[order],
        sectors=_sectors(where, values.get("sectors")),
    )


def _sectors(where: str, value: Any) -> SectorTrust | None:
    return None if value is None else SectorTrust.from_entry(f"sectors of {where}", value)


def _health(where: str, values: Any) -> Mapping[str, CameraState]:
    known = {state.value: state for state in CameraState}
    states = {}
    for name, value in expect_object(f"health of {where}", values).items():
        text = expect_text(f"health of {where}", value)
        if text not in known:
            raise ValueError(
                f"health of {where} must hold one of {', '.join(known)}; got {shorten(text)}"
            )
        states[name] = known[text]
    return states
