"""Predicted elements and cues of many frames, and the JSON file that holds them.

``bevstack predict`` writes ``elements.json`` and ``cues.json`` in this form; ``bevstack evaluate
--traffic`` and ``bevstack show`` read it. Functions: ``writing_traffic_frames`` (a context manager
whose writer takes one ``TrafficFrame`` after the other), ``write_traffic_frames`` (all at once) and
``read_traffic_frames``. docs/traffic_frames.schema.json is the JSON schema.

One frame stands in one line::

    {"format": "bevstack-traffic-1", "meta": {"weights": "..."}, "frames": [
    {"sample_token": "...", "scene_token": "...", "timestamp_us": 1700000000000000,
     "world_from_ego": [[...], ...], "cameras": ["CAM_FRONT"],
     "elements": [{"camera": "CAM_FRONT", "box_px": [...], "score": 0.9, ...}],
     "cues": [{"id": "...", ...}], "ego_cues": [{"manoeuvre": "left", "advice": "go", ...}]},
    ...
    ]}

An element has the fields of ``TrafficDetections`` (``box_px`` and ``score`` in the singular), with
probabilities as objects from name to number; a cue has those of ``TrafficCue`` or ``EgoCue``. All
numbers are written so that reading gives the same 64-bit values. A file whose name ends with
``.gz`` is compressed to a third; a reader finds out from its first bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.cue_entries import (
    cue_to_json,
    ego_cue_from_json,
    traffic_cue_from_json,
)
from bevstack.evaluation.traffic.element_entries import elements_from_json, elements_to_json
from bevstack.evaluation.traffic.entry_fields import (
    FieldReader,
    numbers,
    optional,
    read_fields,
    text,
    text_or_empty,
    tuple_of,
)
from bevstack.file_bytes import read_bytes
from bevstack.files import replacing
from bevstack.json_files import (
    expect_integer,
    expect_list,
    expect_object,
    parse_json,
    shorten,
)
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.traffic_detections import TrafficDetections

TRAFFIC_FORMAT = "bevstack-traffic-1"
ELEMENTS_NAME, CUES_NAME = "elements.json", "cues.json"

_MAX_BYTES = 2**31  # 90 drives of 20 s at 12 Hz are 1.3 GB
_GZIP = b"\x1f\x8b"  # first bytes of a compressed file
_GZIP_LEVEL = 1  # level 6 takes four times as long for a tenth less
_REMEDY = "make it with `bevstack predict`"


@dataclass(frozen=True, kw_only=True)
class TrafficFrame:
    """Predicted elements and cues of one frame."""

    timestamp_us: int  # of the frame
    cameras: tuple[str, ...]  # names that ``elements.camera`` indexes
    sample_token: str = ""  # of a keyframe; "": none
    scene_token: str = ""  # or another name of the drive; "": one drive
    world_from_ego: NDArray[np.float64] | None = None  # (4, 4)
    elements: TrafficDetections = field(default_factory=TrafficDetections.empty)
    cues: tuple[TrafficCue, ...] = ()
    ego_cues: tuple[EgoCue, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrafficFrames:
    """The content of a file."""

    frames: tuple[TrafficFrame, ...]
    meta: Mapping[str, str]  # such as the weights' name


class TrafficFramesWriter:
    """Writer of the frames of one file; ``writing_traffic_frames`` yields one."""

    def __init__(self, file: BinaryIO, *, meta: Mapping[str, str]) -> None:
        self._file = file
        self._count = 0
        head = json.dumps({"format": TRAFFIC_FORMAT, "meta": dict(meta)})
        self._file.write(head[:-1].encode() + b', "frames": [\n')

    def add(self, frame: TrafficFrame) -> None:
        """Write the next frame.

        Raises:
            OSError: the disk is full.
            ValueError: a value is not finite, or elements are not sorted by score.
        """
        scores = frame.elements.scores
        if (np.diff(scores) > 0).any():
            raise ValueError(
                f"elements of the frame at {frame.timestamp_us} must be sorted by score, best "
                f"first; got {shorten(scores.tolist())}"
            )
        try:
            line = json.dumps(frame_to_json(frame), allow_nan=False).encode()
        except ValueError:
            raise ValueError(
                f"elements and cues of the frame at {frame.timestamp_us} must be finite; got "
                "infinite or undefined values: check the model's weights and its input"
            ) from None
        self._file.write((b",\n" if self._count else b"") + line)
        self._count += 1

    def finish(self) -> None:
        """Write the end of the file."""
        self._file.write((b"\n" if self._count else b"") + b"]}\n")


@contextlib.contextmanager
def writing_traffic_frames(path: Path, meta: Mapping[str, str]) -> Iterator[TrafficFramesWriter]:
    """Yield a writer of a new file, which gets its name when the block ends without an error.

    Args:
        path: the file; it is compressed if the name ends with ".gz".
        meta: texts that describe the prediction, such as the weights.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(replacing(path))
        if path.suffix == ".gz":  # neither name nor time, so that equal frames give equal bytes
            packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
            file = stack.enter_context(cast(BinaryIO, packed))
        writer = TrafficFramesWriter(file, meta=meta)
        yield writer
        writer.finish()


def write_traffic_frames(
    path: Path, frames: Iterable[TrafficFrame], meta: Mapping[str, str]
) -> None:
    """Write all frames of a file; see ``writing_traffic_frames``.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value is not finite, or elements are not sorted by score.
    """
    with writing_traffic_frames(path, meta) as writer:
        for frame in frames:
            writer.add(frame)


def read_traffic_frames(path: Path | str) -> TrafficFrames:
    """Read the elements and cues of all frames of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON or has another format, a field is missing, unknown or not
            of its kind, or a keyframe occurs twice. Names the frame, the index and the field.
    """
    data = read_bytes(path, "traffic file", remedy=_REMEDY, max_bytes=_MAX_BYTES)
    data = _unpacked(path, data) if data.startswith(_GZIP) else data
    content = parse_json(data, "traffic file", place=f" in {path}", allow_nan=True)
    found = content.get("format") if isinstance(content, dict) else None
    if found != TRAFFIC_FORMAT:
        raise ValueError(
            f"format of {path} must be {TRAFFIC_FORMAT!r}; got {shorten(found)}: {_REMEDY}"
        )
    head = read_fields(str(path), content, {"format": text, "meta": _meta, "frames": expect_list})
    frames: list[TrafficFrame] = []
    numbers_of_samples: dict[str, int] = {}
    for number, entry in enumerate(head["frames"]):
        where = f"frame {number} of {path}"
        frame = frame_from_json(where, entry)
        earlier = numbers_of_samples.setdefault(frame.sample_token, number)
        if frame.sample_token and earlier != number:
            raise ValueError(
                f"sample_token of {where} must occur once; got that of frame {earlier}"
            )
        frames.append(frame)
    return TrafficFrames(frames=tuple(frames), meta=head["meta"])


def _unpacked(path: Path | str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"traffic file {path} must be whole; got compressed data that is cut off or damaged "
            f"({error}): {_REMEDY}"
        ) from None
    if len(content) > _MAX_BYTES:
        raise ValueError(
            f"traffic file {path} must unpack to at most {_MAX_BYTES} bytes; got more: predict "
            "fewer scenes into one file"
        )
    return content


def frame_to_json(frame: TrafficFrame) -> dict[str, Any]:
    """Return a frame as a JSON object."""
    pose = frame.world_from_ego
    return {
        "sample_token": frame.sample_token,
        "scene_token": frame.scene_token,
        "timestamp_us": frame.timestamp_us,
        "world_from_ego": None if pose is None else pose.tolist(),
        "cameras": list(frame.cameras),
        "elements": elements_to_json(frame.elements, frame.cameras),
        "cues": [cue_to_json(cue) for cue in frame.cues],
        "ego_cues": [cue_to_json(cue) for cue in frame.ego_cues],
    }


def frame_from_json(where: str, value: Any) -> TrafficFrame:
    """Return the frame of a JSON object; ``where`` is its place in messages.

    Raises:
        ValueError: a field is missing, unknown or not of its kind.
    """
    values = read_fields(where, value, _FRAME)
    values["elements"] = elements_from_json(where, values["elements"], values["cameras"])
    for name, read in (("cues", traffic_cue_from_json), ("ego_cues", ego_cue_from_json)):
        entries = enumerate(values[name])
        values[name] = tuple(read(f"{name}[{index}] of {where}", entry) for index, entry in entries)
    return TrafficFrame(**values)


def _meta(where: str, value: Any) -> dict[str, str]:
    values = expect_object(where, value)
    return {name: text_or_empty(f"{name[:60]} of {where}", item) for name, item in values.items()}


def _timestamp(where: str, value: Any) -> int:
    return expect_integer(where, value, low=0)


_FRAME: dict[str, FieldReader] = {
    "sample_token": text_or_empty,
    "scene_token": text_or_empty,
    "timestamp_us": _timestamp,
    "world_from_ego": optional(numbers(4, 4)),
    "cameras": tuple_of(text),
    "elements": expect_list,
    "cues": expect_list,
    "ego_cues": expect_list,
}
